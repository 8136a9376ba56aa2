// The head of a request, taken apart without any judgement: lines end with LF or CRLF, a header's name ends at the
// first ':', what is missing is "". Space before a value is dropped, as an HTTP library does.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAD_MAX_HEADERS 64 // what comes behind is skipped

struct head_header {
    const char *name, *value;
    size_t name_length, value_length;
};

struct head {
    char *text; // all of the input; the rest points into it
    const char *method, *target, *version;
    struct head_header headers[HEAD_MAX_HEADERS];
    size_t header_count;
    const char *body; // behind the empty line
    size_t body_length;
};

void head_init(struct head *head, const uint8_t *data, size_t size);
void head_finish(struct head *head);

// The guard's word, with the headers in order or from the last to the first. Aborts when the guard lets a head pass
// that has more than one reading.
const char *head_judge(const struct head *head, bool reversed);
