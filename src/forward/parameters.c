// Encodes PostgreSQL's binary formats, which are big-endian. An array is a header of 32-bit words, followed by the
// length and the bytes of each element.
#include "parameters.h"

#include <arpa/inet.h>
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "imcallbackd/base/utf8.h"

// The ids of types in PostgreSQL's pg_type, which the other engines in imcallbackd-forward(8) use as well.
#define OID_BIGINT 20
#define OID_TEXT   25

static const struct {
    Oid array, element;
} oids[] = {
    [ARRAY_OF_BYTES] = {1001, 17},
    [ARRAY_OF_INTEGERS] = {1016, OID_BIGINT},
    [ARRAY_OF_TEXT] = {1009, OID_TEXT},
};

// The header of an array has these words: the number of dimensions, whether elements may be NULL, the type of the
// elements, the number of elements, and the index of the first element.
#define HEADER_WORDS 5

int text_append(struct buffer *buffer, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t left = strlen(text);
    int r = 0;

    while (left > 0 && r == 0) {
        size_t good = 0, length, bad;

        while (good < left && (length = utf8_length(at + good, left - good)) > 0)
            good += length;
        bad = good < left ? utf8_invalid_length(at + good, left - good) : 0;
        r = buffer_append(buffer, at, good);
        if (r == 0 && bad > 0)
            r = buffer_append(buffer, UTF8_REPLACEMENT, strlen(UTF8_REPLACEMENT));
        at += good + bad;
        left -= good + bad;
    }
    return r;
}

static void array_append(struct array *array, const void *data, size_t length)
{
    if (array->code == 0 && length > 0)
        array->code = buffer_append(&array->bytes, data, length);
}

// Starts an element. SIZE_MAX becomes the length -1, which means NULL.
static void array_append_length(struct array *array, size_t length)
{
    uint32_t word = htonl((uint32_t)length);

    assert(array->code < 0 || array->bytes.length >= sizeof(uint32_t) * HEADER_WORDS);
    array_append(array, &word, sizeof word);
    array->count++;
}

// Reserves space for the header, which parameters_add_array fills in when the number of elements is known.
void array_start(struct array *array, enum array_type type)
{
    static const uint32_t header[HEADER_WORDS];

    array->type = type;
    array->bytes.length = 0;
    array->count = 0;
    array->code = 0;
    array_append(array, header, sizeof header);
}

void array_add_null(struct array *array)
{
    array_append_length(array, SIZE_MAX);
}

void array_add_integer(struct array *array, int64_t value)
{
    uint64_t word = htobe64((uint64_t)value);

    assert(array->type == ARRAY_OF_INTEGERS);
    array_append_length(array, sizeof word);
    array_append(array, &word, sizeof word);
}

void array_add_bytes(struct array *array, const void *data, size_t length)
{
    assert(array->type == ARRAY_OF_BYTES);
    array_append_length(array, length);
    array_append(array, data, length);
}

void array_add_text(struct array *array, const char *text)
{
    size_t length_at = array->bytes.length;
    uint32_t length;

    assert(array->type == ARRAY_OF_TEXT);
    array_append_length(array, 0);
    if (array->code == 0)
        array->code = text_append(&array->bytes, text);
    if (array->code < 0)
        return;
    length = htonl((uint32_t)(array->bytes.length - length_at - sizeof length));
    memcpy(array->bytes.data + length_at, &length, sizeof length);
}

void array_finish(struct array *array)
{
    buffer_finish(&array->bytes);
}

static void add(struct parameters *parameters, Oid type, const void *value, size_t length)
{
    int index = parameters->count++;

    assert(index < PARAMETERS_MAX);
    parameters->types[index] = type;
    parameters->values[index] = value;
    parameters->lengths[index] = (int)length;
    parameters->formats[index] = 1;
    if (length > INT_MAX)
        parameters->code = -EFBIG;
}

void parameters_add_array(struct parameters *parameters, struct array *array)
{
    uint32_t header[HEADER_WORDS] = {htonl(1), htonl(1), htonl(oids[array->type].element), htonl(array->count),
                                     htonl(1)};

    if (array->code == 0)
        memcpy(array->bytes.data, header, sizeof header);
    else
        parameters->code = array->code;
    add(parameters, oids[array->type].array, array->bytes.data, array->bytes.length);
}

void parameters_add_integer(struct parameters *parameters, int64_t value)
{
    uint64_t *word = &parameters->integers[parameters->count];

    assert(parameters->count < PARAMETERS_MAX);
    *word = htobe64((uint64_t)value);
    add(parameters, OID_BIGINT, word, sizeof *word);
}

void parameters_add_text(struct parameters *parameters, const char *text)
{
    add(parameters, OID_TEXT, text, strlen(text));
}
