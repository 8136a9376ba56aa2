// Tests which heads the framing guard refuses, with which fault, and what the guard reads from the others.
#include <string.h>

#include "../unit.h"
#include "http/framing.h"

#define MAX_HEADERS 4

struct header {
    const char *name, *value;
};

struct head {
    struct header headers[MAX_HEADERS];    // those before the first NULL name
    const char *fault;                     // a part of the expected text; NULL: accepted
    const char *method, *target, *version; // NULL: POST, /?a=b and HTTP/1.1
};

#define HOST                                                                                                           \
    {                                                                                                                  \
        "Host", "localhost"                                                                                            \
    }
#define LENGTH                                                                                                         \
    {                                                                                                                  \
        "Content-Length", "5"                                                                                          \
    }
#define CHUNKS                                                                                                         \
    {                                                                                                                  \
        "Transfer-Encoding", "chunked"                                                                                 \
    }

static const struct head heads[] = {
    {{HOST, LENGTH}, NULL, NULL, NULL, NULL},
    {{LENGTH, HOST}, NULL, NULL, NULL, NULL},
    {{HOST, CHUNKS}, NULL, NULL, NULL, NULL},
    {{{"hOST", "local~host:8443"}, {"content-LENGTH", "0"}}, NULL, NULL, NULL, NULL},
    {{{"Host", "[2001:db8::1]:443"}, {"Transfer-Encoding", "CHUNKED"}}, NULL, NULL, NULL, NULL},
    {{LENGTH}, NULL, NULL, NULL, "HTTP/1.0"},
    {{HOST}, NULL, "GET", NULL, NULL},
    {{HOST}, NULL, "DELETE", NULL, NULL},
    {{HOST, LENGTH, {"X", ""}}, NULL, NULL, NULL, NULL},
    {{HOST, LENGTH, {"X", "\ta \xe7\xa4\xbe\xff"}}, NULL, NULL, NULL, NULL},
    {{HOST, LENGTH, {"!#$%&'*+-.^_`|~09azAZ", "x"}}, NULL, NULL, NULL, NULL},
    {{HOST, LENGTH, {"Expect", "100-Continue"}}, NULL, NULL, NULL, NULL},
    {{HOST, LENGTH}, NULL, NULL, "/~/%2e%2e/a?b=%00&c=\\\"<>|{}", NULL},

    // Lengths
    {{HOST}, "neither Content-Length nor", NULL, NULL, NULL},
    {{HOST, LENGTH, LENGTH}, "more than one Content-Length", NULL, NULL, NULL},
    {{LENGTH, HOST, {"CONTENT-length", "6"}}, "more than one Content-Length", NULL, NULL, NULL},
    {{HOST, LENGTH, CHUNKS}, "cannot be combined", NULL, NULL, NULL},
    {{HOST, CHUNKS, LENGTH}, "cannot be combined", NULL, NULL, NULL},
    {{HOST, CHUNKS, CHUNKS}, "more than one Transfer-Encoding", NULL, NULL, NULL},
    {{HOST, CHUNKS}, "not allowed in HTTP/1.0", NULL, NULL, "HTTP/1.0"},
    {{HOST, LENGTH, LENGTH}, "more than one Content-Length", "GET", NULL, NULL},
    {{HOST, {"Content-Length", ""}}, "Content-Length is empty", NULL, NULL, NULL},
    {{HOST, {"Content-Length", "5 "}}, "Content-Length is not a number", NULL, NULL, NULL},
    {{HOST, {"Content-Length", "+5"}}, "Content-Length is not a number", NULL, NULL, NULL},
    {{HOST, {"Content-Length", "-5"}}, "Content-Length is not a number", NULL, NULL, NULL},
    {{HOST, {"Content-Length", "0x5"}}, "Content-Length is not a number", NULL, NULL, NULL},
    {{HOST, {"Content-Length", "5, 5"}}, "Content-Length is not a number", NULL, NULL, NULL},
    {{HOST, {"Content-Length", "/"}}, "Content-Length is not a number", NULL, NULL, NULL},
    {{HOST, {"Content-Length", ":"}}, "Content-Length is not a number", NULL, NULL, NULL},
    {{HOST, {"Transfer-Encoding", ""}}, "Transfer-Encoding is not chunked", NULL, NULL, NULL},
    {{HOST, {"Transfer-Encoding", "chunked "}}, "Transfer-Encoding is not chunked", NULL, NULL, NULL},
    {{HOST, {"Transfer-Encoding", "chunkedx"}}, "Transfer-Encoding is not chunked", NULL, NULL, NULL},
    {{HOST, {"Transfer-Encoding", "chunke"}}, "Transfer-Encoding is not chunked", NULL, NULL, NULL},
    {{HOST, {"Transfer-Encoding", "gzip, chunked"}}, "Transfer-Encoding is not chunked", NULL, NULL, NULL},
    {{HOST, LENGTH, {"Transfer-Encoding", "identity"}}, "Transfer-Encoding is not chunked", NULL, NULL, NULL},

    // Names and values
    {{HOST, LENGTH, {"", "x"}}, "header name", NULL, NULL, NULL},
    {{HOST, LENGTH, {"X ", "x"}}, "header name", NULL, NULL, NULL},
    {{HOST, LENGTH, {" X", "x"}}, "header name", NULL, NULL, NULL},
    {{HOST, LENGTH, {"X\tY", "x"}}, "header name", NULL, NULL, NULL},
    {{HOST, LENGTH, {"X\x7f", "x"}}, "header name", NULL, NULL, NULL},
    {{HOST, LENGTH, {"X\xe9", "x"}}, "header name", NULL, NULL, NULL},
    {{HOST, LENGTH, {"X:", "x"}}, "header name", NULL, NULL, NULL},
    {{HOST, LENGTH, {"X(Y)", "x"}}, "header name", NULL, NULL, NULL},
    {{HOST, {"Content-Length ", "5"}}, "header name", NULL, NULL, NULL},
    {{HOST, LENGTH, {"X", "a\rb"}}, "header value", NULL, NULL, NULL},
    {{HOST, LENGTH, {"X", "a\nb"}}, "header value", NULL, NULL, NULL},
    {{HOST, LENGTH, {"X", "\x01"}}, "header value", NULL, NULL, NULL},
    {{HOST, LENGTH, {"X", "\x1f"}}, "header value", NULL, NULL, NULL},
    {{HOST, LENGTH, {"X", "\x7f"}}, "header value", NULL, NULL, NULL},

    // Host and Expect
    {{LENGTH}, "Host header is missing", NULL, NULL, NULL},
    {{HOST, LENGTH, HOST}, "more than one Host", NULL, NULL, NULL},
    {{HOST, LENGTH, HOST}, "more than one Host", NULL, NULL, "HTTP/1.0"},
    {{{"Host", ""}, LENGTH}, "not a valid host name", NULL, NULL, NULL},
    {{{"Host", "a b"}, LENGTH}, "not a valid host name", NULL, NULL, NULL},
    {{{"Host", "a/b"}, LENGTH}, "not a valid host name", NULL, NULL, NULL},
    {{{"Host", "a@b"}, LENGTH}, "not a valid host name", NULL, NULL, NULL},
    {{{"Host", "a,b"}, LENGTH}, "not a valid host name", NULL, NULL, NULL},
    {{{"Host", "\xc3\xb6"}, LENGTH}, "not a valid host name", NULL, NULL, NULL},
    {{HOST, LENGTH, {"Expect", ""}}, "Expect is not", NULL, NULL, NULL},
    {{HOST, LENGTH, {"Expect", "100-continue, x"}}, "Expect is not", NULL, NULL, NULL},

    // Request line
    {{HOST, LENGTH}, "method is not a valid token", "", NULL, NULL},
    {{HOST, LENGTH}, "method is not a valid token", "PO:ST", NULL, NULL},
    {{HOST, LENGTH}, "method is not a valid token", "POST\x01", NULL, NULL},
    {{HOST, LENGTH}, "request target", NULL, "", NULL},
    {{HOST, LENGTH}, "request target", NULL, "*", NULL},
    {{HOST, LENGTH}, "request target", NULL, "?a=b", NULL},
    {{HOST, LENGTH}, "request target", NULL, "localhost:443", NULL},
    {{HOST, LENGTH}, "request target", NULL, "https://localhost/", NULL},
    {{HOST, LENGTH}, "request target", NULL, "/#a", NULL},
    {{HOST, LENGTH}, "request target", NULL, "/?a b", NULL},
    {{HOST, LENGTH}, "request target", NULL, "/?a\x1f", NULL},
    {{HOST, LENGTH}, "request target", NULL, "/?a\x7f", NULL},
    {{HOST, LENGTH}, "request target", NULL, "/?a\x80", NULL},
    {{HOST, LENGTH}, "request target", NULL, "/\xff", NULL},
    {{HOST, LENGTH}, "version", NULL, NULL, "HTTP/1.2"},
    {{HOST, LENGTH}, "version", NULL, NULL, "HTTP/1.10"},
    {{HOST, LENGTH}, "version", NULL, NULL, "HTTP/2.0"},
    {{HOST, LENGTH}, "version", NULL, NULL, "http/1.1"},
    {{HOST, LENGTH}, "version", NULL, NULL, ""},
};

static struct framing read_head(const struct head *head)
{
    struct framing framing = {0};

    for (size_t i = 0; i < MAX_HEADERS && head->headers[i].name; i++) {
        const struct header *header = &head->headers[i];

        framing_add(&framing, header->name, strlen(header->name), header->value, strlen(header->value));
    }
    return framing;
}

TEST(accepts_only_heads_with_one_reading)
{
    for (size_t i = 0; i < COUNT(heads); i++) {
        struct framing framing = read_head(&heads[i]);
        const char *fault = framing_finish(&framing, heads[i].method ? heads[i].method : "POST",
                                           heads[i].target ? heads[i].target : "/?a=b",
                                           heads[i].version ? heads[i].version : "HTTP/1.1");

        if (!fault != !heads[i].fault || (fault && !strstr(fault, heads[i].fault)))
            fail_msg("row %zu: '%s' instead of '%s'", i, fault ? fault : "nothing",
                     heads[i].fault ? heads[i].fault : "nothing");
        assert_ptr_equal(framing.fault, fault);
    }
}

// Neither the name nor the value needs a terminating NUL. A NUL within them is an invalid byte, not their end.
TEST(reads_no_further_than_the_length)
{
    struct framing framing = {0};

    framing_add(&framing, "Hosts", 4, "a b", 1);
    framing_add(&framing, "Content-Lengths", 14, "12x", 2);
    assert_null(framing_finish(&framing, "POST", "/", "HTTP/1.1"));
    assert_int_equal(framing.length, 12);

    framing = (struct framing){0};
    framing_add(&framing, "X\0Y", 3, "a", 1);
    assert_non_null(framing.fault);
    framing = (struct framing){0};
    framing_add(&framing, "X", 1, "a\0b", 3);
    assert_non_null(framing.fault);
    framing = (struct framing){0};
    framing_add(&framing, "Content-Length", 14, "5\0", 2);
    assert_non_null(framing.fault);
}

TEST(parses_the_length)
{
    static const struct {
        const char *text;
        uint64_t length;
    } rows[] = {
        {"0", 0},
        {"0000000000000000000000000000000000017", 17},
        {"9223372036854775808", UINT64_C(9223372036854775808)},
        {"18446744073709551614", UINT64_MAX - 1},
        {"18446744073709551615", UINT64_MAX}, // counts as too large for any limit
        {"18446744073709551616", UINT64_MAX},
        {"18446744073709551621", UINT64_MAX},
        {"99999999999999999999999999999999999999", UINT64_MAX},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct framing framing = {0};

        framing_add(&framing, "Content-Length", 14, rows[i].text, strlen(rows[i].text));
        assert_null(framing.fault);
        assert_int_equal(framing.lengths, 1);
        assert_true(framing.length == rows[i].length);
    }
}

TEST(detects_content_encoding_and_expect)
{
    static const struct {
        struct header headers[MAX_HEADERS];
        bool encoded, expects;
    } rows[] = {
        {{HOST}, false, false},
        {{{"Content-Encoding", "identity"}}, false, false},
        {{{"content-encoding", "Identity"}}, false, false},
        {{{"Content-Encoding", "gzip"}}, true, false},
        {{{"Content-Encoding", ""}}, true, false},
        {{{"Content-Encoding", "gzip"}, {"Content-Encoding", "identity"}}, true, false},
        {{{"Content-Encoding", "identity"}, {"Content-Encoding", "br"}}, true, false},
        {{{"Expect", "100-continue"}}, false, true},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct head head = {0};
        struct framing framing;

        memcpy(head.headers, rows[i].headers, sizeof head.headers);
        framing = read_head(&head);
        assert_null(framing.fault);
        assert_int_equal(framing.encoded, rows[i].encoded);
        assert_int_equal(framing.expects, rows[i].expects);
    }
}

// Later headers neither remove nor replace a fault.
TEST(keeps_the_first_fault)
{
    struct framing framing = {0};
    const char *fault;

    framing_add(&framing, "Content-Length", 14, "x", 1);
    fault = framing.fault;
    assert_non_null(fault);
    framing_add(&framing, "Content-Length", 14, "5", 1);
    framing_add(&framing, "X Y", 3, "a", 1);
    framing_add(&framing, "Host", 4, "localhost", 9);
    assert_ptr_equal(framing_finish(&framing, "PO ST", "x", "HTTP/3"), fault);
}

TEST_MAIN(NULL, NULL)
