// Tests the workarounds that need no instance of libmicrohttpd: the check for heads that versions before 1.0 have
// altered, key updates, and how long the loop sleeps. The heads are as the library leaves them, with a NUL in place of
// each delimiter and each byte of a line end. An 'x' after the head stands for the body.
#include <string.h>

#include "../unit.h"
#include "http/mhd_quirks.h"

#define MAX_HEADERS 2
#define BYTES(text) (text), sizeof(text) - 1

static const struct row {
    const char *what;
    const char *bytes;
    size_t length;
    size_t target_length;
    const char *headers[2 * MAX_HEADERS]; // names and values, alternating
    bool altered;
} rows[] = {
    {"plain", BYTES("POST\0/\0HTTP/1.1\0\0Host\0 a\0\0X\0 b\0\0\0\0x"), 1, {"Host", "a", "X", "b"}, false},
    {"query", BYTES("POST\0/\0a\0b\0HTTP/1.1\0\0Host\0 a\0\0\0\0x"), 5, {"Host", "a"}, false},
    {"no space", BYTES("POST\0/\0HTTP/1.1\0\0Host\0a\0\0X\0b\0\0\0\0x"), 1, {"Host", "a", "X", "b"}, false},
    {"spaces", BYTES("POST\0/\0HTTP/1.1\0\0Host\0 \t a \0\0X\0b\0\0\0\0x"), 1, {"Host", "a ", "X", "b"}, false},
    {"empty value", BYTES("POST\0/\0HTTP/1.1\0\0Host\0\0\0X\0b\0\0\0\0x"), 1, {"Host", "", "X", "b"}, false},
    {"empty last value", BYTES("POST\0/\0HTTP/1.1\0\0Host\0a\0\0X\0\0\0\0\0x"), 1, {"Host", "a", "X", ""}, false},
    {"two spaces before the target", BYTES("POST\0 /\0HTTP/1.1\0\0Host\0a\0\0\0\0x"), 1, {"Host", "a"}, true},
    {"two spaces after the target", BYTES("POST\0/\0 HTTP/1.1\0\0Host\0a\0\0\0\0x"), 1, {"Host", "a"}, true},
    {"NUL in the method", BYTES("POST\0Q\0/\0HTTP/1.1\0\0Host\0a\0\0\0\0x"), 1, {"Host", "a"}, true},
    {"NUL in the target", BYTES("POST\0/\0q\0HTTP/1.1\0\0Host\0a\0\0\0\0x"), 1, {"Host", "a"}, true},
    {"NUL after the version", BYTES("POST\0/\0HTTP/1.1\0\0\0Host\0a\0\0\0\0x"), 1, {"Host", "a"}, true},
    {"LF after the version", BYTES("POST\0/\0HTTP/1.1\0Host\0a\0\0\0\0x"), 1, {"Host", "a"}, true},
    {"LF after a header", BYTES("POST\0/\0HTTP/1.1\0\0Host\0a\0X\0b\0\0\0\0x"), 1, {"Host", "a", "X", "b"}, true},
    {"LF after the last header",
     BYTES("POST\0/\0HTTP/1.1\0\0Host\0a\0\0X\0b\0\0\0x"),
     1,
     {"Host", "a", "X", "b"},
     true},
    {"LF twice", BYTES("POST\0/\0HTTP/1.1\0\0Host\0a\0\0x"), 1, {"Host", "a"}, true},
    {"NUL in a value", BYTES("POST\0/\0HTTP/1.1\0\0Host\0a\0b\0\0X\0b\0\0\0\0x"), 1, {"Host", "a", "X", "b"}, true},
    {"NUL after a value", BYTES("POST\0/\0HTTP/1.1\0\0Host\0a\0\0\0X\0b\0\0\0\0x"), 1, {"Host", "a", "X", "b"}, true},
    {"NUL in the last value",
     BYTES("POST\0/\0HTTP/1.1\0\0Host\0a\0\0X\0b\0c\0\0\0\0x"),
     1,
     {"Host", "a", "X", "b"},
     true},
    {"NUL after the last value", BYTES("POST\0/\0HTTP/1.1\0\0Host\0a\0\0\0\0\0x"), 1, {"Host", "a"}, true},
    {"NULs after the last value", BYTES("POST\0/\0HTTP/1.1\0\0Host\0a\0\0\0\0\0\0\0x"), 1, {"Host", "a"}, true},
    {"NUL as the last value", BYTES("POST\0/\0HTTP/1.1\0\0Host\0\0\0\0\0\0x"), 1, {"Host", ""}, true},
    {"NUL after the version of a head without headers", BYTES("GET\0/\0HTTP/1.1\0\0\0\0\0x"), 1, {NULL}, true},
    {"no headers", BYTES("GET\0/\0HTTP/1.1\0\0\0\0x"), 1, {NULL}, false},
    {"hidden line", BYTES("POST\0/\0HTTP/1.1\0\0Y\0a\0\0X\0b\0\0\0\0x"), 1, {"X", "b"}, true},
    {"hidden last line", BYTES("POST\0/\0HTTP/1.1\0\0X\0b\0\0Y\0a\0\0\0\0x"), 1, {"X", "b"}, true},
};

// Returns the first occurrence of `part` at or after `from`; the part must exist.
static const char *find(const char *from, const char *end, const char *part)
{
    const char *found = memmem(from, (size_t)(end - from), part, strlen(part));

    assert_non_null(found);
    return found;
}

static bool is_altered(const struct row *row)
{
    const char *end = row->bytes + row->length, *method = row->bytes, *at;
    const char *url = find(method, end, "/"), *version = find(url + row->target_length, end, "HTTP/1.1");
    struct mhd_head_layout layout;

    mhd_head_layout_init(&layout, method, url, row->target_length, version);
    at = version + strlen(version);
    for (size_t i = 0; i < sizeof row->headers / sizeof *row->headers && row->headers[i]; i += 2) {
        const char *name = find(at, end, row->headers[i]);
        const char *value = find(name + strlen(name) + 1, end, row->headers[i + 1]);

        mhd_head_layout_add(&layout, name, strlen(row->headers[i]), value, strlen(row->headers[i + 1]));
        at = value + strlen(row->headers[i + 1]);
    }
    return mhd_head_layout_is_altered(&layout, end - 1);
}

TEST(finds_heads_with_hidden_bytes)
{
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (is_altered(&rows[i]) != rows[i].altered)
            fail_msg("%s", rows[i].what);
    }
}

// The library joins the parts of a folded line in memory outside the head.
TEST(finds_headers_that_were_moved)
{
    static const char head[] = "POST\0/\0HTTP/1.1\0\0X\0a\0\0b\0\0\0\0x", elsewhere[] = "X\0a\0\0\0\0";
    const char *name = head + sizeof "POST\0/\0HTTP/1.1\0" - 1 + 1;
    struct mhd_head_layout layout;

    assert_string_equal(name, "X");
    mhd_head_layout_init(&layout, head, head + 5, 1, head + 7);
    mhd_head_layout_add(&layout, elsewhere, 1, elsewhere + 2, 1);
    assert_true(mhd_head_layout_is_altered(&layout, head + sizeof head - 2));

    mhd_head_layout_init(&layout, head, head + 5, 1, head + 7);
    mhd_head_layout_add(&layout, name, 1, head, 1); // a value before its name
    assert_true(mhd_head_layout_is_altered(&layout, head + sizeof head - 2));
}

// The second key update must not hide the first one, whose connection the kernel will not report.
static void read_ahead(struct http_connection *connection)
{
    connection->set->read_ahead.owner = connection;
}

TEST(remembers_the_key_update_of_the_connection_that_was_read_ahead)
{
    struct http_connection_set set = {0};
    struct http_connection first = {.set = &set, .transport.fd = -1}, second = first;

    read_ahead(&first);
    mhd_quirk_on_key_update(&second);
    assert_null(set.quirks.reread);
    mhd_quirk_on_key_update(&first);
    mhd_quirk_on_key_update(&second);
    assert_ptr_equal(set.quirks.reread, &first);
}

TEST(forgets_a_key_update_whose_bytes_were_taken)
{
    struct http_connection_set set = {0};
    struct http_connection first = {.set = &set, .transport.fd = -1}, second = first;

    assert_false(mhd_quirk_reread(&set));
    read_ahead(&first);
    mhd_quirk_on_key_update(&first);
    read_ahead(&second);
    assert_false(mhd_quirk_reread(&set));
    read_ahead(&first);
    assert_false(mhd_quirk_reread(&set));
}

TEST(sleeps_only_after_an_iteration_that_moved_nothing)
{
    struct http_connection_set set = {0};

    assert_int_equal(mhd_quirk_adjust_timeout(&set, 0), 0); // nothing was recorded to compare with
    assert_true(mhd_quirk_adjust_timeout(&set, 0) > HELD_POLL_MS);
    set.has_progress = true;
    assert_int_equal(mhd_quirk_adjust_timeout(&set, 0), 0);
    set.has_progress = false;
    assert_int_equal(mhd_quirk_adjust_timeout(&set, 0), 0);
    assert_true(mhd_quirk_adjust_timeout(&set, 0) > HELD_POLL_MS);
    assert_int_equal(mhd_quirk_adjust_timeout(&set, 30), 30);
    assert_int_equal(mhd_quirk_adjust_timeout(&set, -1), -1);
    assert_int_equal(mhd_quirk_adjust_timeout(&set, 0), 0);
}

TEST(sleeps_briefly_while_a_held_request_is_not_suspended)
{
    struct http_connection_set set = {.polled = 1};

    assert_int_equal(mhd_quirk_adjust_timeout(&set, 0), 0);
    assert_int_equal(mhd_quirk_adjust_timeout(&set, 0), HELD_POLL_MS);
    assert_int_equal(mhd_quirk_adjust_timeout(&set, 0), HELD_POLL_MS);
    set.polled = 0;
    assert_true(mhd_quirk_adjust_timeout(&set, 0) > HELD_POLL_MS);
}

TEST_MAIN(NULL, NULL)
