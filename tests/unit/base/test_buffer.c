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

static void a_zeroed_buffer_is_empty(void **state)
{
    struct buffer buffer = {0};

    (void)state;
    assert_holds(&buffer, "");
    buffer_finish(&buffer);
    buffer_finish(&buffer);
    assert_holds(&buffer, "");
}

static void appends_and_prints(void **state)
{
    struct buffer buffer = {0};

    (void)state;
    assert_int_equal(buffer_append(&buffer, "one", 3), 0);
    assert_int_equal(buffer_print(&buffer, ", %s, %d", "two", 3), 0);
    assert_int_equal(buffer_append(&buffer, NULL, 0), 0);
    assert_holds(&buffer, "one, two, 3");
    buffer_finish(&buffer);
    assert_int_equal(buffer_append(&buffer, "again", 5), 0);
    assert_holds(&buffer, "again");
    buffer_finish(&buffer);
}

static void is_a_string_after_an_empty_append(void **state)
{
    struct buffer appended = {0}, printed = {0};

    (void)state;
    assert_int_equal(buffer_append(&appended, "", 0), 0);
    assert_int_equal(buffer_print(&printed, "%s", ""), 0);
    assert_non_null(appended.data);
    assert_non_null(printed.data);
    assert_holds(&appended, "");
    assert_holds(&printed, "");
    buffer_finish(&appended);
    buffer_finish(&printed);
}

static void keeps_nul_bytes(void **state)
{
    struct buffer buffer = {0};

    (void)state;
    assert_int_equal(buffer_append(&buffer, "a\0b", 3), 0);
    assert_int_equal(buffer.length, 3);
    assert_memory_equal(buffer.data, "a\0b", 4);
    buffer_finish(&buffer);
}

// At every length, a NUL follows the last byte and no earlier byte has changed.
static void grows_byte_by_byte(void **state)
{
    struct buffer buffer = {0};
    size_t moves = 0;

    (void)state;
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

static void does_not_reallocate_what_is_reserved(void **state)
{
    struct buffer buffer = {0};
    const char *data;

    (void)state;
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

static void a_failure_leaves_the_buffer_unchanged(void **state)
{
    struct buffer buffer = {0};

    (void)state;
    assert_int_equal(buffer_append(&buffer, "kept", 4), 0);
    assert_int_equal(buffer_reserve(&buffer, SIZE_MAX), -ENOMEM);
    assert_int_equal(buffer_append(&buffer, "", SIZE_MAX), -ENOMEM);
    assert_int_equal(buffer_append(&buffer, "", SIZE_MAX / 2), -ENOMEM);
    assert_true(buffer_print(&buffer, "%lc", (wint_t)0x110000) < 0); // not a character
    assert_holds(&buffer, "kept");
    buffer_finish(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_zeroed_buffer_is_empty),
        cmocka_unit_test(appends_and_prints),
        cmocka_unit_test(is_a_string_after_an_empty_append),
        cmocka_unit_test(keeps_nul_bytes),
        cmocka_unit_test(grows_byte_by_byte),
        cmocka_unit_test(does_not_reallocate_what_is_reserved),
        cmocka_unit_test(a_failure_leaves_the_buffer_unchanged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
