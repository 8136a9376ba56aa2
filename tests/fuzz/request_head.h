// Splits the head of a request without checking it: a line ends with LF or CRLF, the name of a header ends at the first
// ':', and a missing part is "". Spaces and tabs before a value are skipped, as an HTTP library skips them.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAD_MAX_HEADERS 64 // further headers are ignored

struct head_header {
    const char *name, *value;
    size_t name_length, value_length;
};

struct head {
    char *text; // the whole input; all parts that are present point into it
    const char *method, *target, *version;
    struct head_header headers[HEAD_MAX_HEADERS];
    size_t header_count;
    const char *body; // what follows the empty line
    size_t body_length;
};

void head_init(struct head *head, const uint8_t *data, size_t size);
void head_finish(struct head *head);

// Returns the verdict of http/framing.h on the headers in their order or, if `reversed` is true, in reverse order: NULL
// if it accepts the head, or the fault that it found. Aborts if it accepts a head that can be read in more than one
// way.
const char *head_judge(const struct head *head, bool reversed);
