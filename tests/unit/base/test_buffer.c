// Tests growth, contents and failures of a buffer.
#include <errno.h>
#include <string.h>
#include <wchar.h>

#include "../unit.h"
#include "imcallbackd/base/buffer.h"

static void assert_holds(const struct buffer *buffer, const char *text)
{
    assert_int_equal(buffer->length, strlen(text));
    assert_string_equal(buffer_text(buffer), text);
    assert_true(buffer->capacity >= buffer->length);
}

TEST(a_zeroed_buffer_is_empty)
{
    struct buffer buffer = {0};

    assert_holds(&buffer, "");
    buffer_finish(&buffer);
    buffer_finish(&buffer);
    assert_holds(&buffer, "");
}

TEST(appends_and_prints)
{
    struct buffer buffer = {0};

    assert_int_equal(buffer_append(&buffer, "one", 3), 0);
    assert_int_equal(buffer_print(&buffer, ", %s, %d", "two", 3), 0);
    assert_int_equal(buffer_append(&buffer, NULL, 0), 0);
    assert_holds(&buffer, "one, two, 3");
    buffer_finish(&buffer);
    assert_int_equal(buffer_append(&buffer, "again", 5), 0);
    assert_holds(&buffer, "again");
    buffer_finish(&buffer);
}

TEST(is_a_string_after_an_empty_append)
{
    struct buffer appended = {0}, printed = {0};

    assert_int_equal(buffer_append(&appended, "", 0), 0);
    assert_int_equal(buffer_print(&printed, "%s", ""), 0);
    assert_non_null(appended.data);
    assert_non_null(printed.data);
    assert_holds(&appended, "");
    assert_holds(&printed, "");
    buffer_finish(&appended);
    buffer_finish(&printed);
}

TEST(keeps_nul_bytes)
{
    struct buffer buffer = {0};

    assert_int_equal(buffer_append(&buffer, "a\0b", 3), 0);
    assert_int_equal(buffer.length, 3);
    assert_memory_equal(buffer.data, "a\0b", 4);
    buffer_finish(&buffer);
}

// A NUL follows the last byte at every length, and growing never changes an earlier byte.
TEST(grows_byte_by_byte)
{
    struct buffer buffer = {0};
    size_t moves = 0;

    for (size_t i = 0; i < 10000; i++) {
        size_t capacity = buffer.capacity;
        char byte = (char)('a' + i % 26);

        assert_int_equal(buffer_append(&buffer, &byte, 1), 0);
        assert_int_equal(buffer.length, i + 1);
        assert_int_equal(buffer.data[buffer.length], 0);
        moves += buffer.capacity != capacity;
    }
    for (size_t i = 0; i < 10000; i++)
        assert_int_equal(buffer.data[i], 'a' + i % 26);
    assert_in_range(moves, 1, 20); // the capacity doubles
    buffer_finish(&buffer);
}

TEST(does_not_reallocate_what_is_reserved)
{
    struct buffer buffer = {0};
    const char *data;

    assert_int_equal(buffer_reserve(&buffer, 100), 0);
    assert_holds(&buffer, "");
    data = buffer.data;
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(buffer_append(&buffer, "x", 1), 0);
    assert_ptr_equal(buffer.data, data);
    assert_int_equal(buffer_reserve(&buffer, 50), 0);
    assert_ptr_equal(buffer.data, data);
    assert_int_equal(buffer.capacity, 100);
    buffer_finish(&buffer);
}

TEST(a_failure_leaves_the_buffer_unchanged)
{
    struct buffer buffer = {0};

    assert_int_equal(buffer_append(&buffer, "kept", 4), 0);
    assert_int_equal(buffer_reserve(&buffer, SIZE_MAX), -ENOMEM);
    assert_int_equal(buffer_append(&buffer, "", SIZE_MAX), -ENOMEM);
    assert_int_equal(buffer_append(&buffer, "", SIZE_MAX / 2), -ENOMEM);
    assert_true(buffer_print(&buffer, "%lc", (wint_t)0x110000) < 0); // not a character
    assert_holds(&buffer, "kept");
    buffer_finish(&buffer);
}

TEST_MAIN(NULL, NULL)
