// The heads are written as libmicrohttpd before 1.0 leaves them: a NUL in place of each delimiter and line end byte. An
// 'x' behind the head stands for the body.
#include <string.h>

#include "../../../src/http/layout.h"
#include "../unit.h"

#define MAX_HEADERS 2
#define BYTES(text) (text), sizeof(text) - 1

static const struct row {
    const char *what;
    const char *bytes;
    size_t length;
    size_t target_length;
    const char *headers[2 * MAX_HEADERS]; // names and values
    bool broken;
} rows[] = {
    {"plain", BYTES("POST\0/\0HTTP/1.1\0\0Host\0 a\0\0X\0 b\0\0\0\0x"), 1, {"Host", "a", "X", "b"}, false},
    {"query", BYTES("POST\0/\0a\0b\0HTTP/1.1\0\0Host\0 a\0\0\0\0x"), 5, {"Host", "a"}, false},
    {"no space", BYTES("POST\0/\0HTTP/1.1\0\0Host\0a\0\0X\0b\0\0\0\0x"), 1, {"Host", "a", "X", "b"}, false},
    {"spaces", BYTES("POST\0/\0HTTP/1.1\0\0Host\0 \t a \0\0X\0b\0\0\0\0x"), 1, {"Host", "a ", "X", "b"}, false},
    {"empty value", BYTES("POST\0/\0HTTP/1.1\0\0Host\0\0\0X\0b\0\0\0\0x"), 1, {"Host", "", "X", "b"}, false},
    {"empty last value", BYTES("POST\0/\0HTTP/1.1\0\0Host\0a\0\0X\0\0\0\0\0x"), 1, {"Host", "a", "X", ""}, false},
    {"two spaces before the target", BYTES("POST\0 /\0HTTP/1.1\0\0Host\0a\0\0\0\0x"), 1, {"Host", "a"}, true},
    {"two spaces behind the target", BYTES("POST\0/\0 HTTP/1.1\0\0Host\0a\0\0\0\0x"), 1, {"Host", "a"}, true},
    {"NUL in the method", BYTES("POST\0Q\0/\0HTTP/1.1\0\0Host\0a\0\0\0\0x"), 1, {"Host", "a"}, true},
    {"NUL in the target", BYTES("POST\0/\0q\0HTTP/1.1\0\0Host\0a\0\0\0\0x"), 1, {"Host", "a"}, true},
    {"NUL behind the version", BYTES("POST\0/\0HTTP/1.1\0\0\0Host\0a\0\0\0\0x"), 1, {"Host", "a"}, true},
    {"LF behind the version", BYTES("POST\0/\0HTTP/1.1\0Host\0a\0\0\0\0x"), 1, {"Host", "a"}, true},
    {"LF behind a header", BYTES("POST\0/\0HTTP/1.1\0\0Host\0a\0X\0b\0\0\0\0x"), 1, {"Host", "a", "X", "b"}, true},
    {"LF behind the last", BYTES("POST\0/\0HTTP/1.1\0\0Host\0a\0\0X\0b\0\0\0x"), 1, {"Host", "a", "X", "b"}, true},
    {"LF twice", BYTES("POST\0/\0HTTP/1.1\0\0Host\0a\0\0x"), 1, {"Host", "a"}, true},
    {"NUL in a value", BYTES("POST\0/\0HTTP/1.1\0\0Host\0a\0b\0\0X\0b\0\0\0\0x"), 1, {"Host", "a", "X", "b"}, true},
    {"NUL behind a value", BYTES("POST\0/\0HTTP/1.1\0\0Host\0a\0\0\0X\0b\0\0\0\0x"), 1, {"Host", "a", "X", "b"}, true},
    {"NUL in the last value",
     BYTES("POST\0/\0HTTP/1.1\0\0Host\0a\0\0X\0b\0c\0\0\0\0x"),
     1,
     {"Host", "a", "X", "b"},
     true},
    {"line that is not shown", BYTES("POST\0/\0HTTP/1.1\0\0Y\0a\0\0X\0b\0\0\0\0x"), 1, {"X", "b"}, true},
    {"last line that is not shown", BYTES("POST\0/\0HTTP/1.1\0\0X\0b\0\0Y\0a\0\0\0\0x"), 1, {"X", "b"}, true},
};

// Each part is the first of its kind behind the one before it.
static const char *find(const char *from, const char *end, const char *part)
{
    const char *found = memmem(from, (size_t)(end - from), part, strlen(part));

    assert_non_null(found);
    return found;
}

static bool looks_broken(const struct row *row)
{
    const char *end = row->bytes + row->length, *method = row->bytes, *at;
    const char *url = find(method, end, "/"), *version = find(url + row->target_length, end, "HTTP/1.1");
    struct layout layout;

    layout_begin(&layout, method, url, row->target_length, version);
    at = version + strlen(version);
    for (size_t i = 0; i < sizeof row->headers / sizeof *row->headers && row->headers[i]; i += 2) {
        const char *name = find(at, end, row->headers[i]);
        const char *value = find(name + strlen(name) + 1, end, row->headers[i + 1]);

        layout_add(&layout, name, strlen(row->headers[i]), value, strlen(row->headers[i + 1]));
        at = value + strlen(row->headers[i + 1]);
    }
    return layout_finish(&layout);
}

static void sees_what_was_hidden(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (looks_broken(&rows[i]) != rows[i].broken)
            fail_msg("%s", rows[i].what);
    }
}

// The library puts a folded line together in memory of its own.
static void sees_what_was_moved(void **state)
{
    static const char head[] = "POST\0/\0HTTP/1.1\0\0X\0a\0\0b\0\0\0\0x", elsewhere[] = "X\0a\0\0\0\0";
    const char *name = head + sizeof "POST\0/\0HTTP/1.1\0" - 1 + 1;
    struct layout layout;

    (void)state;
    assert_string_equal(name, "X");
    layout_begin(&layout, head, head + 5, 1, head + 7);
    layout_add(&layout, elsewhere, 1, elsewhere + 2, 1);
    assert_true(layout_finish(&layout));

    layout_begin(&layout, head, head + 5, 1, head + 7);
    layout_add(&layout, name, 1, head, 1); // a value before its name
    assert_true(layout_finish(&layout));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sees_what_was_hidden),
        cmocka_unit_test(sees_what_was_moved),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
