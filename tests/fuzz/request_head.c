// Splits heads. If http/framing.h accepts a head, this file checks the head again, independently of http/framing.h.
#include "request_head.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "fuzz.h"
#include "http/framing.h"

// Returns the line at *at and sets *ret_length to its length without the line end. Ends the line with a NUL and moves
// *at to the next line.
static char *cut_line(char **at, const char *end, size_t *ret_length)
{
    char *line = *at, *feed = line < end ? memchr(line, '\n', (size_t)(end - line)) : NULL;

    *at = feed ? feed + 1 : line + (end - line);
    *ret_length = (size_t)((feed ? feed : end) - line);
    if (*ret_length > 0 && line[*ret_length - 1] == '\r')
        --*ret_length;
    line[*ret_length] = '\0';
    return line;
}

static void cut_request_line(struct head *head, char *line)
{
    head->method = strsep(&line, " ");
    head->target = line ? strsep(&line, " ") : "";
    head->version = line ? line : "";
}

void head_init(struct head *head, const uint8_t *data, size_t size)
{
    char *at, *line;
    const char *end;
    size_t length;

    *head = (struct head){.text = fuzz_copy(data, size)};
    at = head->text;
    end = at + size;
    line = cut_line(&at, end, &length);
    cut_request_line(head, line);
    for (line = cut_line(&at, end, &length); length > 0; line = cut_line(&at, end, &length)) {
        struct head_header *header = &head->headers[head->header_count];
        const char *colon = memchr(line, ':', length);

        if (head->header_count == HEAD_MAX_HEADERS)
            continue;
        header->name = line;
        header->name_length = colon ? (size_t)(colon - line) : length;
        header->value = colon ? colon + 1 + strspn(colon + 1, " \t") : line + length;
        header->value_length = (size_t)(line + length - header->value);
        head->header_count++;
    }
    head->body = at;
    head->body_length = (size_t)(end - at);
}

void head_finish(struct head *head)
{
    free(head->text);
}

static size_t count(const struct head *head, const char *name, const struct head_header **ret_last)
{
    size_t found = 0;

    for (size_t i = 0; i < head->header_count; i++) {
        const struct head_header *header = &head->headers[i];

        if (header->name_length != strlen(name) || strncasecmp(header->name, name, strlen(name)) != 0)
            continue;
        *ret_last = header;
        found++;
    }
    return found;
}

static bool has_byte(const char *text, size_t length, const char *above, bool (*is_bad)(unsigned char))
{
    for (size_t i = 0; i < length; i++) {
        if (is_bad((unsigned char)text[i]) || (text[i] && strchr(above, text[i])))
            return true;
    }
    return false;
}

static bool is_control(unsigned char byte)
{
    return (byte < 0x20 && byte != '\t') || byte == 0x7f;
}

static bool is_not_visible(unsigned char byte)
{
    return byte <= 0x20 || byte >= 0x7f;
}

// Checks the whole list of headers against RFC 9112 and the stricter rules of the daemon. The host and the length of
// the body are each given at most once. Only a request in HTTP/1.0 may lack the host, and only a request other than
// POST may lack the length.
static void check_one_reading(const struct head *head, const struct framing *framing)
{
    const struct head_header *length = NULL, *coding = NULL, *host = NULL;
    size_t lengths = count(head, "content-length", &length), codings = count(head, "transfer-encoding", &coding);
    size_t hosts = count(head, "host", &host);
    bool http_1_0 = strcmp(head->version, "HTTP/1.0") == 0;

    assert(http_1_0 || strcmp(head->version, "HTTP/1.1") == 0);
    assert(hosts == 1 || (hosts == 0 && http_1_0));
    assert(lengths + codings <= 1 && !(codings == 1 && http_1_0));
    assert(lengths + codings == 1 || strcmp(head->method, "POST") != 0);
    assert(!host || !has_byte(host->value, host->value_length, "/@,", is_not_visible));
    assert(!coding || (coding->value_length == 7 && strncasecmp(coding->value, "chunked", 7) == 0));
    assert(*head->method && !has_byte(head->method, strlen(head->method), "(),/:;<=>?@[\\]{}\"", is_not_visible));
    assert(head->target[0] == '/' && !has_byte(head->target, strlen(head->target), "#", is_not_visible));
    for (size_t i = 0; i < head->header_count; i++) {
        const struct head_header *header = &head->headers[i];

        assert(header->name_length > 0);
        assert(!has_byte(header->name, header->name_length, "(),/:;<=>?@[\\]{}\"", is_not_visible));
        assert(!has_byte(header->value, header->value_length, "", is_control));
    }
    if (length) {
        assert(length->value_length > 0 && strspn(length->value, "0123456789") == length->value_length);
        assert(framing->length == strtoumax(length->value, NULL, 10));
    }
}

const char *head_judge(const struct head *head, bool reversed)
{
    struct framing framing = {0};
    const char *fault;

    for (size_t i = 0; i < head->header_count; i++) {
        const struct head_header *header = &head->headers[reversed ? head->header_count - 1 - i : i];
        // http/framing.h must not rely on a NUL after the texts.
        char *name = fuzz_copy_bare(header->name, header->name_length);
        char *value = fuzz_copy_bare(header->value, header->value_length);

        framing_add(&framing, name, header->name_length, value, header->value_length);
        free(name);
        free(value);
    }
    fault = framing_finish(&framing, head->method, head->target, head->version);
    assert(!fault || *fault);
    if (!fault)
        check_one_reading(head, &framing);
    return fault;
}
