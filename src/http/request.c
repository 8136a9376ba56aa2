#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "answer.h"
#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/base/parse.h"
#include "private.h"

// A parsed body of the largest allowed size needs about ten times its bytes.
#define ARENA_BYTES_PER_BODY_BYTE 16
#define ARENA_BASE_BYTES          ((size_t)1 << 20)
// Memory for a body is taken as it comes, not as it is announced.
#define BODY_FIRST_BYTES ((size_t)64 << 10)

static const char *find_header(struct http_exchange *exchange, const char *name)
{
    return MHD_lookup_connection_value(exchange->mhd, MHD_HEADER_KIND, name);
}

// MHD calls this with the raw target, before it cuts and unescapes it; the result is the request's context from then
// on.
void *http_request_on_target(void *context, const char *target, struct MHD_Connection *mhd)
{
    struct http_server *server = context;
    struct http_connection *connection = http_connection_of(mhd);
    struct http_exchange *exchange = calloc(1, sizeof *exchange);
    const char *mark = strchr(target, '?');

    if (!exchange)
        return NULL;
    exchange->connection = connection;
    exchange->mhd = mhd;
    exchange->request.remote_address = connection->remote_address;
    arena_init(&exchange->request.arena,
               ARENA_BASE_BYTES + server->settings.body_limit_bytes * ARENA_BYTES_PER_BODY_BYTE);
    exchange->target = arena_copy(&exchange->request.arena, target, strlen(target));
    exchange->request.query = !exchange->target ? NULL : mark ? exchange->target + (mark - target) + 1 : "";
    connection->exchange = exchange;
    return exchange;
}

static bool path_is(const char *target, const char *path)
{
    size_t length = strlen(path);

    return strncmp(target, path, length) == 0 && (target[length] == '\0' || target[length] == '?');
}

// What the server itself has against this head; HTTP_REFUSE_COUNT for nothing.
static enum http_refusal judge_head(const struct http_server *server, struct http_exchange *exchange,
                                    const char *method)
{
    const char *encoding = find_header(exchange, "Content-Encoding");
    const char *announced = find_header(exchange, "Content-Length");
    uint64_t length;

    if (server->stopping)
        return HTTP_REFUSE_OVERLOADED;
    if (announced && parse_decimal(announced, strlen(announced), server->settings.body_limit_bytes, &length) < 0)
        return HTTP_REFUSE_TOO_LARGE;
    if (encoding && strcasecmp(encoding, "identity") != 0)
        return HTTP_REFUSE_ENCODED;
    if (!path_is(exchange->target, server->settings.path))
        return HTTP_REFUSE_PATH;
    if (strcmp(method, "POST") != 0)
        return HTTP_REFUSE_METHOD;
    return HTTP_REFUSE_COUNT;
}

static struct http_answer *refuse(struct http_server *server, enum http_refusal why)
{
    server->handler.refused(server->handler.context, why);
    return server->handler.refusals[why];
}

static enum MHD_Result send_answer(struct http_server *server, struct http_exchange *exchange)
{
    struct http_answer *answer = exchange->answer;

    exchange->answer = NULL;
    exchange->phase = HTTP_PHASE_ANSWERED;
    buffer_finish(&exchange->request.body);
    return http_answer_queue(answer, exchange->mhd, server->draining);
}

// A refusal waits until the body was read and dropped: closing on unread bytes would reset the connection, and the
// caller might never see the answer. Not so when the caller waits for our word before it sends the body, or when the
// body is larger than we would read.
static enum MHD_Result on_head(struct http_server *server, struct http_exchange *exchange, const char *method)
{
    enum http_refusal why = judge_head(server, exchange, method);

    exchange->phase = HTTP_PHASE_BODY;
    exchange->request.received_at_ms = clock_realtime_ms();
    if (why != HTTP_REFUSE_COUNT) {
        exchange->answer = refuse(server, why);
    } else {
        exchange->handled = true;
        exchange->answer = server->handler.head(server->handler.context, &exchange->request);
    }
    if (exchange->answer && (why == HTTP_REFUSE_TOO_LARGE || find_header(exchange, "Expect")))
        return send_answer(server, exchange);
    return MHD_YES;
}

static void take_body(struct http_server *server, struct http_exchange *exchange, const char *data, size_t length)
{
    struct buffer *body = &exchange->request.body;

    if (exchange->answer)
        return; // refused: dropped
    if (length > server->settings.body_limit_bytes - body->length)
        exchange->answer = refuse(server, HTTP_REFUSE_TOO_LARGE);
    else if ((!body->data && buffer_reserve(body, length > BODY_FIRST_BYTES ? length : BODY_FIRST_BYTES) < 0) ||
             buffer_append(body, data, length) < 0)
        exchange->answer = refuse(server, HTTP_REFUSE_OVERLOADED);
    if (exchange->answer)
        buffer_finish(body);
}

static enum MHD_Result on_end(struct http_server *server, struct http_exchange *exchange)
{
    struct http_answer *answer = exchange->answer;

    if (!answer) {
        exchange->request.received_at_ms = clock_realtime_ms();
        exchange->phase = HTTP_PHASE_PENDING;
        answer = server->handler.body(server->handler.context, &exchange->request);
        if (!answer) {
            // From here on exchange->answer belongs to http_request_complete, which may have set it already.
            http_loop_suspend(exchange->connection->loop, exchange);
            return MHD_YES;
        }
        exchange->answer = answer;
    }
    return send_answer(server, exchange);
}

// MHD calls this once for the head, then for each piece of the body, then with no data at its end, and again after a
// suspended request was resumed.
enum MHD_Result http_request_on_data(void *context, struct MHD_Connection *mhd, const char *url, const char *method,
                                     const char *version, const char *data, size_t *length, void **request)
{
    struct http_server *server = context;
    struct http_exchange *exchange = *request;

    (void)mhd;
    (void)url;
    (void)version;
    if (!exchange || !exchange->target)
        return MHD_NO; // no memory when the request line came
    switch (exchange->phase) {
    case HTTP_PHASE_TARGET:
        return on_head(server, exchange, method);
    case HTTP_PHASE_BODY:
        if (*length == 0)
            return on_end(server, exchange);
        take_body(server, exchange, data, *length);
        *length = 0;
        return MHD_YES;
    case HTTP_PHASE_PENDING:
        return exchange->answer ? send_answer(server, exchange) : MHD_NO;
    case HTTP_PHASE_ANSWERED:
        break;
    }
    return MHD_YES;
}

void http_request_on_over(void *context, struct MHD_Connection *mhd, void **request,
                          enum MHD_RequestTerminationCode how)
{
    struct http_server *server = context;
    struct http_exchange *exchange = *request;

    (void)mhd;
    (void)how;
    if (!exchange)
        return;
    if (exchange->handled)
        server->handler.over(server->handler.context, &exchange->request);
    if (exchange->answer && exchange->answer->use == HTTP_ANSWER_ONCE)
        http_answer_destroy(exchange->answer);
    exchange->connection->exchange = NULL;
    buffer_finish(&exchange->request.body);
    arena_finish(&exchange->request.arena);
    free(exchange);
    *request = NULL;
}
