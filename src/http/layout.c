#include "layout.h"

#include <string.h>

#define CRLF_LENGTH 2

static void expect(struct layout *layout, const char *part)
{
    layout->broken = layout->broken || (uintptr_t)part != layout->next;
}

void layout_begin(struct layout *layout, const char *method, const char *url, size_t target_length, const char *version)
{
    *layout = (struct layout){.next = (uintptr_t)method + strlen(method) + 1};
    expect(layout, url);
    layout->next += target_length + 1;
    expect(layout, version);
    layout->next += strlen(version) + CRLF_LENGTH;
}

void layout_add(struct layout *layout, const char *name, size_t name_length, const char *value, size_t value_length)
{
    expect(layout, name);
    // Behind the colon there may be spaces; the library has passed over these and nothing else.
    layout->broken = layout->broken || (uintptr_t)value <= (uintptr_t)name + name_length;
    layout->next = (uintptr_t)value + value_length + CRLF_LENGTH;
}

// The CRLF of the last line and the empty line behind it are four NULs by now.
bool layout_finish(const struct layout *layout)
{
    static const char line_ends[2 * CRLF_LENGTH];

    return layout->broken || memcmp((const char *)(layout->next - CRLF_LENGTH), line_ends, sizeof line_ends) != 0;
}
