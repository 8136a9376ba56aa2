// The checks follow RFC 9110 and RFC 9112; the first fault wins.
#include "framing.h"

#include <string.h>
#include <strings.h>

#include "imcallbackd/base/parse.h"

static bool equals(const char *text, size_t length, const char *expected)
{
    return length == strlen(expected) && strncasecmp(text, expected, length) == 0;
}

// RFC 9110, 5.6.2: a name is a token. libmicrohttpd 0.9.75 moves folded lines into the name, so this check also finds
// folded lines.
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
    uint64_t number = UINT64_MAX;

    framing->lengths++;
    for (size_t i = 0; i < length; i++) {
        if (value[i] < '0' || value[i] > '9')
            framing->fault = "Content-Length is not a number.";
    }
    if (length == 0)
        framing->fault = "Content-Length is empty.";
    if (!framing->fault && parse_decimal(value, length, UINT64_MAX - 1, &number) < 0)
        number = UINT64_MAX; // exceeds every limit
    framing->length = number;
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

// RFC 9112, 3.2.1: a path with an optional query, in visible ASCII. The other forms are for proxies.
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
    bool http_1_0 = strcmp(version, "HTTP/1.0") == 0;

    if (framing->fault)
        return framing->fault;
    if (!http_1_0 && strcmp(version, "HTTP/1.1") != 0)
        framing->fault = "The HTTP version is neither 1.1 nor 1.0.";
    else if (!is_token(method, strlen(method)))
        framing->fault = "The method is not a valid token.";
    else if (!is_origin_form(target))
        framing->fault = "The request target is not a path of visible ASCII characters.";
    else if (framing->hosts > 1)
        framing->fault = "There is more than one Host header.";
    else if (framing->hosts == 0 && !http_1_0)
        framing->fault = "The Host header is missing.";
    else if (framing->lengths > 1)
        framing->fault = "There is more than one Content-Length header.";
    else if (framing->codings > 1)
        framing->fault = "There is more than one Transfer-Encoding header.";
    else if (framing->codings > 0 && http_1_0)
        framing->fault = "Transfer-Encoding is not allowed in HTTP/1.0.";
    else if (framing->codings > 0 && framing->lengths > 0)
        framing->fault = "Content-Length and Transfer-Encoding cannot be combined.";
    else if (framing->codings == 0 && framing->lengths == 0 && strcmp(method, "POST") == 0)
        framing->fault = "The request has neither Content-Length nor Transfer-Encoding.";
    return framing->fault;
}
