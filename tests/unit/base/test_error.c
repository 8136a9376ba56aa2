#include <errno.h>
#include <string.h>

#include "../unit.h"
#include "imcallbackd/base/error.h"

// Longer than the text of an error, with room to add to it.
static void fill(char *text, size_t length)
{
    memset(text, 'x', length);
    text[length] = '\0';
}

static void sets_text_and_returns_code(void **state)
{
    struct error error;

    (void)state;
    assert_int_equal(error_set(&error, ENOENT, "%s has %d rows", "table", 3), -ENOENT);
    assert_string_equal(error.text, "table has 3 rows");
}

static void wraps_from_inside_out(void **state)
{
    struct error error;

    (void)state;
    error_set(&error, EIO, "disk");
    error_wrap(&error, "store %d", 7);
    error_wrap(&error, "serve");
    assert_string_equal(error.text, "serve: store 7: disk");
}

static void cuts_what_is_too_long(void **state)
{
    char longest[sizeof((struct error *)NULL)->text + 1];
    struct error error;

    (void)state;
    fill(longest, sizeof error.text);
    error_set(&error, EINVAL, "%s", longest);
    assert_int_equal(strlen(error.text), sizeof error.text - 1);
}

// Context stands in front, so it is the end of the inner text that is lost.
static void cuts_the_inner_text_when_wrapping(void **state)
{
    const size_t room = sizeof((struct error *)NULL)->text - 1;
    char inner[sizeof((struct error *)NULL)->text];
    struct error error;

    (void)state;
    for (size_t length = room - 5; length <= room; length++) {
        fill(inner, length);
        error_set(&error, EINVAL, "%s", inner);
        error_wrap(&error, "key");
        assert_int_equal(strncmp(error.text, "key: xxx", 8), 0);
        assert_int_equal(strlen(error.text), length + 5 < room ? length + 5 : room);
    }
}

static void context_that_fills_the_text_stays_alone(void **state)
{
    const size_t room = sizeof((struct error *)NULL)->text - 1;
    char context[sizeof((struct error *)NULL)->text + 1];
    struct error error;

    (void)state;
    for (size_t length = room - 2; length <= room + 1; length++) {
        fill(context, length);
        error_set(&error, EINVAL, "inner");
        error_wrap(&error, "%s", context);
        assert_int_equal(strspn(error.text, "x"), length < room ? length : room);
        assert_true(strlen(error.text) <= room);
        assert_null(strstr(error.text, "inner"));
    }
}

// The context may take all the room there is.
static void keeps_a_context_that_fills_it(void **state)
{
    const size_t room = sizeof((struct error *)NULL)->text - 1;
    char context[sizeof((struct error *)NULL)->text + 1];
    struct error error;

    (void)state;
    for (size_t length = room - 8; length <= room; length++) {
        size_t inner = length + 2 < room ? room - length - 2 : 0;

        fill(context, length);
        error_set(&error, EINVAL, "inner");
        error_wrap(&error, "%s", context);
        assert_memory_equal(error.text, context, length);
        assert_int_equal(strlen(error.text), length + 2 <= room ? length + 2 + (inner < 5 ? inner : 5) : length);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_text_and_returns_code),
        cmocka_unit_test(wraps_from_inside_out),
        cmocka_unit_test(cuts_what_is_too_long),
        cmocka_unit_test(keeps_a_context_that_fills_it),
        cmocka_unit_test(cuts_the_inner_text_when_wrapping),
        cmocka_unit_test(context_that_fills_the_text_stays_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
