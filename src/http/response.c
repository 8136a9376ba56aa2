#include "response.h"

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

struct http_response *http_response_create(unsigned int status, const char *body, size_t length,
                                           enum http_response_lifetime use)
{
    struct http_response *answer = calloc(1, sizeof *answer);

    if (!answer)
        return NULL;
    answer->status = status;
    answer->use = use;
    answer->closing = make_response(status, body, length, true);
    if (status < 400 || status > 499)
        answer->keeping = make_response(status, body, length, false);
    if (answer->closing && (answer->keeping || (status >= 400 && status <= 499)))
        return answer;
    http_response_destroy(answer);
    return NULL;
}

void http_response_destroy(struct http_response *answer)
{
    if (!answer)
        return;
    if (answer->keeping)
        MHD_destroy_response(answer->keeping);
    if (answer->closing)
        MHD_destroy_response(answer->closing);
    free(answer);
}

enum MHD_Result http_response_queue(struct http_response *answer, struct MHD_Connection *connection, bool closing)
{
    struct MHD_Response *response = closing || !answer->keeping ? answer->closing : answer->keeping;
    enum MHD_Result queued = MHD_queue_response(connection, answer->status, response);

    if (answer->use == HTTP_RESPONSE_ONCE)
        http_response_destroy(answer);
    return queued;
}
