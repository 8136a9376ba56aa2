#include "answer.h"

#include <stdlib.h>

static struct MHD_Response *make_response(unsigned int status, const char *body, size_t length, bool closing)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(length, (void *)body, MHD_RESPMEM_MUST_COPY);

    if (!response)
        return NULL;
    if (MHD_add_response_header(response, "Content-Type", "application/json") == MHD_YES &&
        MHD_add_response_header(response, "Strict-Transport-Security", "max-age=31536000") == MHD_YES &&
        MHD_add_response_header(response, "X-Content-Type-Options", "nosniff") == MHD_YES &&
        (!closing || MHD_add_response_header(response, "Connection", "close") == MHD_YES) &&
        (status != 405 || MHD_add_response_header(response, "Allow", "POST") == MHD_YES) &&
        (status != 503 || MHD_add_response_header(response, "Retry-After", "1") == MHD_YES))
        return response;
    MHD_destroy_response(response);
    return NULL;
}

struct http_answer *http_answer_create(unsigned int status, const char *body, size_t length, enum http_answer_use use)
{
    struct http_answer *answer = calloc(1, sizeof *answer);

    if (!answer)
        return NULL;
    answer->status = status;
    answer->use = use;
    answer->closing = make_response(status, body, length, true);
    if (status < 400 || status > 499)
        answer->keeping = make_response(status, body, length, false);
    if (answer->closing && (answer->keeping || (status >= 400 && status <= 499)))
        return answer;
    http_answer_destroy(answer);
    return NULL;
}

void http_answer_destroy(struct http_answer *answer)
{
    if (!answer)
        return;
    if (answer->keeping)
        MHD_destroy_response(answer->keeping);
    if (answer->closing)
        MHD_destroy_response(answer->closing);
    free(answer);
}

enum MHD_Result http_answer_queue(struct http_answer *answer, struct MHD_Connection *connection, bool closing)
{
    struct MHD_Response *response = closing || !answer->keeping ? answer->closing : answer->keeping;
    enum MHD_Result queued = MHD_queue_response(connection, answer->status, response);

    if (answer->use == HTTP_ANSWER_ONCE)
        http_answer_destroy(answer);
    return queued;
}
