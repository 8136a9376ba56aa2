// Tests how the text of an error is set, wrapped and cut.
#include <errno.h>
#include <string.h>

#include "../unit.h"
#include "imcallbackd/base/error.h"

static struct error error;

static void fill(char *text, size_t length)
{
    memset(text, 'x', length);
    text[length] = '\0';
}

TEST(sets_text_and_returns_code)
{
    assert_int_equal(error_set(&error, ENOENT, "%s has %d rows", "table", 3), -ENOENT);
    assert_string_equal(error.text, "table has 3 rows");
}

TEST(wraps_with_the_outermost_context_first)
{
    error_set(&error, EIO, "disk");
    error_wrap(&error, "store %d", 7);
    error_wrap(&error, "serve");
    assert_string_equal(error.text, "serve: store 7: disk");
}

TEST(cuts_a_long_text)
{
    char longest[sizeof((struct error *)NULL)->text + 1];

    fill(longest, sizeof error.text);
    error_set(&error, EINVAL, "%s", longest);
    assert_int_equal(strlen(error.text), sizeof error.text - 1);
}

TEST(cuts_the_end_of_the_inner_text)
{
    const size_t max = sizeof((struct error *)NULL)->text - 1;
    char inner[sizeof((struct error *)NULL)->text];

    for (size_t length = max - 5; length <= max; length++) {
        fill(inner, length);
        error_set(&error, EINVAL, "%s", inner);
        error_wrap(&error, "key");
        assert_int_equal(strncmp(error.text, "key: xxx", 8), 0);
        assert_int_equal(strlen(error.text), length + 5 < max ? length + 5 : max);
    }
}

TEST(drops_the_inner_text_if_the_context_is_too_long)
{
    const size_t max = sizeof((struct error *)NULL)->text - 1;
    char context[sizeof((struct error *)NULL)->text + 1];

    for (size_t length = max - 2; length <= max + 1; length++) {
        fill(context, length);
        error_set(&error, EINVAL, "inner");
        error_wrap(&error, "%s", context);
        assert_int_equal(strspn(error.text, "x"), length < max ? length : max);
        assert_true(strlen(error.text) <= max);
        assert_null(strstr(error.text, "inner"));
    }
}

TEST(keeps_as_much_of_the_inner_text_as_fits)
{
    const size_t max = sizeof((struct error *)NULL)->text - 1;
    char context[sizeof((struct error *)NULL)->text + 1];

    for (size_t length = max - 8; length <= max; length++) {
        size_t inner = length + 2 < max ? max - length - 2 : 0;

        fill(context, length);
        error_set(&error, EINVAL, "inner");
        error_wrap(&error, "%s", context);
        assert_memory_equal(error.text, context, length);
        assert_int_equal(strlen(error.text), length + 2 <= max ? length + 2 + (inner < 5 ? inner : 5) : length);
    }
}

TEST_MAIN(NULL, NULL)
