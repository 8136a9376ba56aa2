// Tests the list of parameter names that the log shows in place of a query.
#include <string.h>

#include "../unit.h"
#include "imcallbackd/base/buffer.h"
#include "imcallbackd/callback/parameter_names.h"

#define LONG_NAME "abcdefghijklmnopqrstuvwxyz012345"

TEST(prints_the_names_of_parameters_without_values)
{
    static const struct {
        const char *query, *names;
    } rows[] = {
        {"", ""},
        {"&&=&=x&", ""},
        {"a", "a"},
        {"a=1&b&c=&a=2", "a, b, c, a"},
        {"Sign=0123456789abcdef&RequestTime=1&a-b_c.d0=x=y", "Sign, RequestTime, a-b_c.d0"},
        {"%53ign=1&a b&\x1b[31m&\xe7\xa4\xbe=1&a,b;c/d?e", "?53ign, a?b, ??31m, ???, a?b?c?d?e"},
        {LONG_NAME "=1&" LONG_NAME "6=1", LONG_NAME ", " LONG_NAME "..."},
    };
    char names[PARAMETER_NAMES_BYTES];

    for (size_t i = 0; i < COUNT(rows); i++) {
        parameter_names_print(rows[i].query, names);
        assert_string_equal(names, rows[i].names);
    }
}

TEST(prints_a_bounded_number_of_names)
{
    static const char *const repeated[] = {"a&", LONG_NAME "&", LONG_NAME LONG_NAME "=&"};
    struct buffer query = {0};

    for (size_t i = 0; i < COUNT(repeated); i++) {
        char names[PARAMETER_NAMES_BYTES];

        query.length = 0;
        for (size_t count = 0; count < PARAMETER_NAMES_BYTES; count++)
            assert_int_equal(buffer_print(&query, "%s", repeated[i]), 0);
        memset(names, 'x', sizeof names);
        parameter_names_print(query.data, names);
        assert_in_range(strlen(names), PARAMETER_NAMES_BYTES - 50, PARAMETER_NAMES_BYTES - 1);
        assert_string_equal(names + strlen(names) - strlen(", ..."), ", ...");
    }
    buffer_finish(&query);
}

TEST_MAIN(NULL, NULL)
