// Tests which answers accept an event, which refuse it, and which are temporary failures.
#include <stdlib.h>
#include <string.h>

#include "../unit.h"
#include "deliver/acceptance.h"

static const struct {
    int status;
    const char *body;
    enum outcome outcome;
} answers[] = {
    {200, "", OUTCOME_ACCEPTED},
    {204, "", OUTCOME_ACCEPTED},
    {299, "anything", OUTCOME_ACCEPTED},
    {200, "{\"ActionStatus\":\"OK\",\"ErrorInfo\":\"\",\"ErrorCode\":0}", OUTCOME_ACCEPTED},
    {200, "{\"ActionStatus\":\"FAIL\",\"ErrorInfo\":\"x\",\"ErrorCode\":120001}", OUTCOME_FAIL},
    {201, " {\"ErrorCode\": 1, \"ActionStatus\": \"FAIL\"} ", OUTCOME_FAIL},
    {200, "{\"ActionStatus\":\"fail\"}", OUTCOME_ACCEPTED}, // the protocol distinguishes upper and lower case
    {200, "{\"actionstatus\":\"FAIL\"}", OUTCOME_ACCEPTED},
    {200, "[{\"ActionStatus\":\"FAIL\"}]", OUTCOME_ACCEPTED},
    {200, "\"FAIL\"", OUTCOME_ACCEPTED},
    {200, "{\"ActionStatus\":1}", OUTCOME_ACCEPTED},
    {200, "{\"ActionStatus\":\"FAIL\"", OUTCOME_ACCEPTED}, // not JSON
    {200, "<html>FAIL</html>", OUTCOME_ACCEPTED},
    {300, "", OUTCOME_REFUSED},
    {301, "", OUTCOME_REFUSED},
    {307, "", OUTCOME_REFUSED},
    {400, "", OUTCOME_REFUSED},
    {400, "{\"ActionStatus\":\"OK\"}", OUTCOME_REFUSED},
    {401, "", OUTCOME_REFUSED},
    {404, "", OUTCOME_REFUSED},
    {407, "", OUTCOME_REFUSED},
    {408, "", OUTCOME_THROTTLED},
    {409, "", OUTCOME_REFUSED},
    {424, "", OUTCOME_REFUSED},
    {425, "", OUTCOME_THROTTLED},
    {426, "", OUTCOME_REFUSED},
    {429, "", OUTCOME_THROTTLED},
    {499, "", OUTCOME_REFUSED},
    {500, "", OUTCOME_SERVER_ERROR},
    {503, "{\"ActionStatus\":\"OK\"}", OUTCOME_SERVER_ERROR},
    {599, "", OUTCOME_SERVER_ERROR},
    {600, "", OUTCOME_SERVER_ERROR},
    {199, "", OUTCOME_SERVER_ERROR},
    {0, "", OUTCOME_SERVER_ERROR},
};

TEST(judges_status_and_body)
{
    for (size_t i = 0; i < COUNT(answers); i++) {
        enum outcome outcome = acceptance_judge(answers[i].status, answers[i].body, strlen(answers[i].body));

        if (outcome != answers[i].outcome)
            fail_msg("%d %s: outcome %d", answers[i].status, answers[i].body, (int)outcome);
    }
}

// The first body is not a complete JSON object, so the status alone decides. The object in the second body ends exactly
// at the limit, so its ActionStatus counts.
TEST(accepts_a_body_of_the_largest_size)
{
    char *body = malloc(ANSWER_MAX_BYTES);

    assert_non_null(body);
    memset(body, '[', ANSWER_MAX_BYTES);
    assert_int_equal(acceptance_judge(200, body, ANSWER_MAX_BYTES), OUTCOME_ACCEPTED);
    memset(body, ' ', ANSWER_MAX_BYTES);
    memcpy(body + ANSWER_MAX_BYTES - 23, "{\"ActionStatus\":\"FAIL\"}", 23);
    assert_int_equal(acceptance_judge(200, body, ANSWER_MAX_BYTES), OUTCOME_FAIL);
    free(body);
}

TEST_MAIN(NULL, NULL)
