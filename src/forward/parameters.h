// Encodes the parameters of one statement in PostgreSQL's binary format: integers, texts, and arrays that unnest()
// turns into rows. Functions that add a value return no error: they store -errno in `code`, and destination_send
// reports the failure.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"

#include <libpq-fe.h>

#define PARAMETERS_MAX 16

// Appends the text in a form that the destination accepts: invalid UTF-8 becomes U+FFFD. Returns 0 or -ENOMEM.
int text_append(struct buffer *buffer, const char *text) MUST_CHECK;

enum array_type { ARRAY_OF_BYTES, ARRAY_OF_INTEGERS, ARRAY_OF_TEXT };

// A zeroed array is valid input for array_start and array_finish.
struct array {
    enum array_type type;
    struct buffer bytes;
    uint32_t count; // number of elements
    int code;       // 0, or -errno of the first element that could not be added
};

// Sets the type and empties the array, but keeps its memory.
void array_start(struct array *array, enum array_type type);
void array_add_null(struct array *array);
void array_add_integer(struct array *array, int64_t value);
void array_add_bytes(struct array *array, const void *data, size_t length);
void array_add_text(struct array *array, const char *text);
void array_finish(struct array *array);

// The caller zeroes the struct before use. The struct points to the added values and into itself, so the caller must
// neither free the values nor move the struct until the statement is sent.
struct parameters {
    int count;
    int code;
    Oid types[PARAMETERS_MAX];
    const char *values[PARAMETERS_MAX];
    int lengths[PARAMETERS_MAX];
    int formats[PARAMETERS_MAX];
    uint64_t integers[PARAMETERS_MAX]; // in network byte order
};

void parameters_add_array(struct parameters *parameters, struct array *array);
void parameters_add_integer(struct parameters *parameters, int64_t value);
void parameters_add_text(struct parameters *parameters, const char *text);
