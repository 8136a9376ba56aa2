// The checks follow RFC 9110 and RFC 9112. Only the first fault is reported.
#include "framing.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "imcallbackd/base/parse.h"

static bool equals(const char *text, size_t length, const char *expected)
{
    return length == strlen(expected) && strncasecmp(text, expected, length) == 0;
}

// RFC 9110, 5.1 and 9.1: a header name and a method are tokens. libmicrohttpd 0.9.75 moves folded lines into the name,
// so this check also finds folded lines.
static bool is_token(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        bool alphanumeric = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');

        if (!alphanumeric && (c == '\0' || !strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return length > 0;
}

// RFC 9110, 5.5: a value contains no control characters except tabs.
static bool is_value(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static bool is_host(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] <= ' ' || text[i] > '~' || strchr("/?#@\\,\"<>", text[i]))
            return false;
    }
    return length > 0;
}

static void take_length(struct framing *framing, const char *value, size_t length)
{
    int r = parse_decimal(value, length, UINT64_MAX - 1, &framing->length);

    framing->lengths++;
    if (r == -ERANGE)
        framing->length = UINT64_MAX;
    else if (r < 0)
        framing->fault = length == 0 ? "Content-Length is empty." : "Content-Length is not a number.";
}

void framing_add(struct framing *framing, const char *name, size_t name_length, const char *value, size_t value_length)
{
    if (framing->fault)
        return;
    if (!is_token(name, name_length)) {
        framing->fault = "A header name contains a character that is not allowed in names.";
    } else if (!is_value(value, value_length)) {
        framing->fault = "A header value contains a control character.";
    } else if (equals(name, name_length, "Host")) {
        framing->hosts++;
        if (!is_host(value, value_length))
            framing->fault = "The Host header is not a valid host name.";
    } else if (equals(name, name_length, "Content-Length")) {
        take_length(framing, value, value_length);
    } else if (equals(name, name_length, "Transfer-Encoding")) {
        framing->codings++;
        if (!equals(value, value_length, "chunked"))
            framing->fault = "Transfer-Encoding is not chunked.";
    } else if (equals(name, name_length, "Content-Encoding")) {
        framing->encoded = framing->encoded || !equals(value, value_length, "identity");
    } else if (equals(name, name_length, "Expect")) {
        framing->expects = true;
        if (!equals(value, value_length, "100-continue"))
            framing->fault = "Expect is not 100-continue.";
    }
}

// RFC 9112, 3.2.1: the origin form is a path with an optional query, in visible ASCII. The other forms are for proxies
// and for OPTIONS.
static bool is_origin_form(const char *target)
{
    if (*target != '/')
        return false;
    for (; *target; target++) {
        if (*target <= ' ' || *target > '~' || *target == '#')
            return false;
    }
    return true;
}

const char *framing_finish(struct framing *framing, const char *method, const char *target, const char *version)
{
    const bool http_1_0 = strcmp(version, "HTTP/1.0") == 0, chunked = framing->codings > 0;
    const struct {
        bool applies;
        const char *fault;
    } faults[] = {
        {!http_1_0 && strcmp(version, "HTTP/1.1") != 0, "The HTTP version is neither 1.1 nor 1.0."},
        {!is_token(method, strlen(method)), "The method is not a valid token."},
        {!is_origin_form(target), "The request target is not a path of visible ASCII characters."},
        {framing->hosts > 1, "There is more than one Host header."},
        {framing->hosts == 0 && !http_1_0, "The Host header is missing."},
        {framing->lengths > 1, "There is more than one Content-Length header."},
        {framing->codings > 1, "There is more than one Transfer-Encoding header."},
        {chunked && http_1_0, "Transfer-Encoding is not allowed in HTTP/1.0."},
        {chunked && framing->lengths > 0, "Content-Length and Transfer-Encoding cannot be combined."},
        {!chunked && framing->lengths == 0 && strcmp(method, "POST") == 0,
         "The request has neither Content-Length nor Transfer-Encoding."},
    };

    for (size_t i = 0; i < sizeof faults / sizeof *faults && !framing->fault; i++) {
        if (faults[i].applies)
            framing->fault = faults[i].fault;
    }
    return framing->fault;
}
