// http_response_create builds both forms of a response, because only the loop knows whether the connection stays open.
// A 4xx response has only the closing form.
#include "mhd_response.h"

#include <assert.h>
#include <stdlib.h>

#include <microhttpd.h>

struct http_response {
    unsigned int status;
    enum http_response_lifetime lifetime;
    struct MHD_Response *keeping; // leaves the connection open; NULL for 4xx
    struct MHD_Response *closing; // announces Connection: close
};

static struct MHD_Response *create_form(unsigned int status, const char *body, size_t length, bool closing)
{
    struct MHD_Response *form = MHD_create_response_from_buffer(length, (void *)body, MHD_RESPMEM_MUST_COPY);

    if (!form)
        return NULL;
    if (MHD_add_response_header(form, "Content-Type", "application/json") == MHD_YES &&
        MHD_add_response_header(form, "Strict-Transport-Security", "max-age=31536000") == MHD_YES &&
        MHD_add_response_header(form, "X-Content-Type-Options", "nosniff") == MHD_YES &&
        (!closing || MHD_add_response_header(form, "Connection", "close") == MHD_YES) &&
        (status != 405 || MHD_add_response_header(form, "Allow", "POST") == MHD_YES) &&
        (status != 503 || MHD_add_response_header(form, "Retry-After", "1") == MHD_YES))
        return form;
    MHD_destroy_response(form);
    return NULL;
}

struct http_response *http_response_create(unsigned int status, const char *body, size_t length,
                                           enum http_response_lifetime lifetime)
{
    struct http_response *response = calloc(1, sizeof *response);
    bool always_closes = status >= 400 && status <= 499;

    if (!response)
        return NULL;
    response->status = status;
    response->lifetime = lifetime;
    response->closing = create_form(status, body, length, true);
    if (!always_closes)
        response->keeping = create_form(status, body, length, false);
    if (response->closing && (response->keeping || always_closes))
        return response;
    http_response_destroy(response);
    return NULL;
}

void http_response_destroy(struct http_response *response)
{
    if (!response)
        return;
    if (response->keeping)
        MHD_destroy_response(response->keeping);
    if (response->closing)
        MHD_destroy_response(response->closing);
    free(response);
}

void http_response_release(struct http_response *response)
{
    if (response && response->lifetime == HTTP_RESPONSE_ONCE)
        http_response_destroy(response);
}

bool http_response_queue(struct http_response *response, struct MHD_Connection *mhd, bool closing)
{
    struct MHD_Response *form = closing || !response->keeping ? response->closing : response->keeping;
    enum MHD_Result queued;

    assert(form);
    queued = MHD_queue_response(mhd, response->status, form);
    http_response_release(response);
    return queued == MHD_YES;
}
