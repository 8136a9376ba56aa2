// Tests which answers of another callback handler report a failure.
#include <stdlib.h>
#include <string.h>

#include "../unit.h"
#include "imcallbackd/callback/answer.h"
#include "imcallbackd/callback/read_answer.h"

static bool fails(const char *body, size_t length)
{
    bool result = true;

    assert_int_equal(answer_reports_failure(body, length, &result), 0);
    return result;
}

TEST(recognizes_every_answer_of_this_program)
{
    for (enum answer_code code = 0; code < ANSWER_CODE_COUNT; code++) {
        struct buffer body = {0};

        assert_int_equal(answer_print(&body, code, NULL), 0);
        assert_int_equal(fails(body.data, body.length), code != ANSWER_OK);
        buffer_finish(&body);
    }
}

TEST(takes_every_other_body_as_no_report)
{
    static const char *const bodies[] = {"",
                                         " ",
                                         "FAIL",
                                         "\"FAIL\"",
                                         "[]",
                                         "{}",
                                         "null",
                                         "{\"ActionStatus\":null}",
                                         "{\"ActionStatus\":{\"ActionStatus\":\"FAIL\"}}",
                                         "{\"a\":{\"ActionStatus\":\"FAIL\"}}",
                                         "{\"ActionStatus\":\"FAIL\\u0000\"}",
                                         "\xff\xfe"};

    for (size_t i = 0; i < COUNT(bodies); i++)
        assert_false(fails(bodies[i], strlen(bodies[i])));
}

TEST(reads_a_large_answer)
{
    size_t length = 65536;
    char *body = malloc(length);

    assert_non_null(body);
    memset(body, 'x', length);
    memcpy(body, "{\"ActionStatus\":\"FAIL\",\"ErrorInfo\":\"", 36);
    memcpy(body + length - 2, "\"}", 2);
    assert_true(fails(body, length));
    free(body);
}

TEST_MAIN(NULL, NULL)
