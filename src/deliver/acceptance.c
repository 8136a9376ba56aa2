// Only an answer with status 2xx and without ActionStatus FAIL accepts an event. If memory is exhausted while the
// answer is judged, the event is sent again rather than lost.
#include "acceptance.h"

#include "imcallbackd/callback/read_answer.h"

enum outcome acceptance_judge(int status, const char *body, size_t length)
{
    bool fails = false;

    if (status == 408 || status == 425 || status == 429)
        return OUTCOME_THROTTLED;
    if (status >= 300 && status < 500)
        return OUTCOME_REFUSED;
    if (status < 200 || status >= 500)
        return OUTCOME_SERVER_ERROR;
    if (answer_reports_failure(body, length, &fails) < 0)
        return OUTCOME_SERVER_ERROR;
    return fails ? OUTCOME_FAIL : OUTCOME_ACCEPTED;
}
