// Parameters of one statement in libpq's form, in binary: numbers, text, and arrays from which unnest() makes rows.
// What fails to be added is kept as -errno in `code`, and told when they are sent.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"

#include <libpq-fe.h>

#define PARAMETERS_MAX 16

// Appends the text as the destination takes it: what is not UTF-8 becomes U+FFFD. Returns 0 or -ENOMEM.
int text_append(struct buffer *buffer, const char *text) MUST_CHECK;

enum array_type { ARRAY_OF_BYTES, ARRAY_OF_INTEGERS, ARRAY_OF_TEXT };

// Begun anew for each batch; keeps its memory meanwhile.
struct array {
    enum array_type type;
    struct buffer bytes;
    uint32_t count;
    int code; // 0, or the first failure to add
};

void array_begin(struct array *array, enum array_type type);
void array_add_null(struct array *array);
void array_add_integer(struct array *array, int64_t value);
void array_add_bytes(struct array *array, const void *data, size_t length);
void array_add_text(struct array *array, const char *text);
void array_finish(struct array *array);

// Refer to what was added, which must live until they are sent.
struct parameters {
    int count;
    int code;
    Oid types[PARAMETERS_MAX];
    const char *values[PARAMETERS_MAX];
    int lengths[PARAMETERS_MAX];
    int formats[PARAMETERS_MAX];
    uint64_t integers[PARAMETERS_MAX]; // in the network's order
};

void parameters_add_array(struct parameters *parameters, struct array *array);
void parameters_add_integer(struct parameters *parameters, int64_t value);
void parameters_add_text(struct parameters *parameters, const char *text);
