// How a head lies in libmicrohttpd's read buffer. Before 1.0 the library takes a head apart in place, putting a NUL at
// the end of each part, and hides what that changes: a NUL in a value ends the value, a folded line moves into the
// header's name, a bare LF ends a line, spaces before the target vanish. But then the parts no longer follow one
// another by the two bytes of a CRLF, and this is what is looked at here. From 1.0 on the library refuses such heads by
// itself.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct layout {
    uintptr_t next; // where the next part must begin
    bool broken;
};

// method, url and version are the library's own pointers; target_length is that of the raw target.
void layout_begin(struct layout *layout, const char *method, const char *url, size_t target_length,
                  const char *version);
void layout_add(struct layout *layout, const char *name, size_t name_length, const char *value, size_t value_length);

// Behind the last header. True: the head is not what the library makes of it.
bool layout_finish(const struct layout *layout);
