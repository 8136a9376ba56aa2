// The rewriting of the log at a start; that its bytes stay the same is what the tests of a loss of power show.
#include <errno.h>

#include "../../../src/store/rewrite.h"
#include "store_fixture.h"

static void what_is_not_there_need_not_be_written(void **state)
{
    const struct fixture *fixture = *state;
    struct error error = {""};

    assert_int_equal(rewrite_file(fixture->database, &error), 0);
}

static void what_cannot_be_rewritten_is_told(void **state)
{
    static const struct {
        const char *path;
        int code;
    } rows[] = {{"/tmp", -EISDIR}, {"/dev/full", -ENOSPC}, {"/proc/self/mem", -EIO}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct error error = {""};

        assert_int_equal(rewrite_file(rows[i].path, &error), rows[i].code);
        assert_non_null(strstr(error.text, rows[i].path));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_not_there_need_not_be_written, fixture_setup, fixture_teardown),
        cmocka_unit_test(what_cannot_be_rewritten_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
