#include <stdlib.h>
#include <string.h>

#include "imcallbackd/base/clock.h"
#include "layout.h"
#include "private.h"
#include "response.h"

// A parsed body of the largest allowed size needs about ten times its bytes, while handler.on_body runs, so for one
// request a loop at a time.
#define ARENA_BYTES_PER_BODY_BYTE 16
#define ARENA_BASE_BYTES          ((size_t)1 << 20)
// Memory for a body is taken as it comes, not as it is announced.
#define BODY_FIRST_BYTES ((size_t)4 << 10)
// So many bodies of the largest size may be in memory at a time; a body beyond it is refused with 503.
#define BODIES_IN_FLIGHT 16
// A refused body up to this size is read and dropped.
#define DROPPED_BODY_BYTES ((size_t)64 << 20)

// A callback has seven. When it has no memory for another, libmicrohttpd 0.9.75 neither answers nor goes on.
#define PARAMETERS 100

static bool has_too_many_parameters(const char *target)
{
    size_t count = 1;

    for (const char *next = strchr(target, '?'); next && (next = strchr(next + 1, '&'));)
        count++;
    return count > PARAMETERS;
}

// MHD calls this with the raw target, before it cuts and unescapes it; the result is the request's context from then
// on.
void *http_request_on_target(void *context, const char *target, struct MHD_Connection *mhd)
{
    struct http_connection *connection = http_connection_of(mhd);
    struct http_exchange *exchange = calloc(1, sizeof *exchange);
    const char *mark = strchr(target, '?');

    (void)context;
    if (!exchange)
        return NULL;
    connection->exchange = exchange;
    exchange->connection = connection;
    exchange->request.remote_address = connection->remote_address;
    arena_init(&exchange->request.arena,
               ARENA_BASE_BYTES + http_loop_limits(connection->loop)->body_bytes * ARENA_BYTES_PER_BODY_BYTE);
    exchange->target = arena_copy(&exchange->request.arena, target, strlen(target));
    exchange->request.query = !exchange->target ? NULL : mark ? exchange->target + (mark - target) + 1 : "";
    if (connection->stage != HTTP_STAGE_HEAD)
        http_loop_enter(connection, HTTP_STAGE_HEAD); // it was in a buffer behind the request before
    if (has_too_many_parameters(target)) {
        exchange->framing.fault = "The query has more than 100 parameters.";
        http_connection_end_reading(connection);
    }
    return exchange;
}

static bool path_is(const char *target, const char *path)
{
    size_t length = strlen(path);

    return strncmp(target, path, length) == 0 && (target[length] == '\0' || target[length] == '?');
}

struct head {
    struct framing *framing;
    struct layout *layout;
};

static enum MHD_Result on_header(void *context, enum MHD_ValueKind kind, const char *name, size_t name_length,
                                 const char *value, size_t value_length)
{
    struct head *head = context;

    (void)kind;
    framing_add(head->framing, name, name_length, value, value_length);
    layout_add(head->layout, name, name_length, value, value_length);
    return MHD_YES;
}

bool http_library_is_old(void)
{
    return strncmp(MHD_get_version(), "0.", 2) == 0;
}

// What the server itself has against this head; HTTP_REFUSE_NONE for nothing.
static enum http_refusal judge_head(const struct http_server *server, struct http_exchange *exchange, const char *url,
                                    const char *method, const char *version)
{
    struct framing *framing = &exchange->framing;
    struct layout layout;

    layout_begin(&layout, method, url, strlen(exchange->target), version);
    (void)MHD_get_connection_values_n(exchange->connection->mhd, MHD_HEADER_KIND, on_header,
                                      &(struct head){framing, &layout});
    if (http_library_is_old() && layout_finish(&layout) && !framing->fault)
        framing->fault = "The head contains NUL bytes, folded lines, bare line feeds or superfluous spaces.";
    if (framing_finish(framing, method, exchange->target, version))
        return HTTP_REFUSE_FRAMING;
    if (server->stopping)
        return HTTP_REFUSE_OVERLOADED;
    if (framing->lengths > 0 && framing->length > http_loop_limits(exchange->connection->loop)->body_bytes)
        return HTTP_REFUSE_TOO_LARGE;
    if (framing->encoded)
        return HTTP_REFUSE_ENCODED;
    if (!path_is(exchange->target, server->path))
        return HTTP_REFUSE_PATH;
    if (strcmp(method, "POST") != 0)
        return HTTP_REFUSE_METHOD;
    return HTTP_REFUSE_NONE;
}

static struct http_response *refuse(struct http_server *server, const struct http_exchange *exchange,
                                    enum http_refusal why, const char *detail)
{
    return server->handler.on_refusal(server->handler.context, why, exchange->request.remote_address, detail);
}

static void drop_body(struct http_server *server, struct http_exchange *exchange)
{
    server->body_in_flight -= exchange->body_in_flight;
    exchange->body_in_flight = 0;
    buffer_finish(&exchange->request.body);
}

static enum MHD_Result send_answer(struct http_server *server, struct http_exchange *exchange)
{
    struct http_response *answer = exchange->answer;
    struct http_connection *connection = exchange->connection;

    exchange->answer = NULL;
    exchange->phase = HTTP_PHASE_ANSWERED;
    if (exchange->complete_us > 0)
        metric_observe(&http_answer_seconds, clock_monotonic_us() - exchange->complete_us);
    drop_body(server, exchange);
    http_loop_enter(connection, HTTP_STAGE_ANSWER);
    return http_response_queue(answer, connection->mhd,
                               exchange->closing || connection->reading_ended || server->draining);
}

// Asks the handler. On a connection that is one too many, only a verified call is taken, and it is the last one there.
static struct http_response *ask_handler(struct http_server *server, struct http_exchange *exchange)
{
    struct http_connection *connection = exchange->connection;
    struct http_response *answer;

    if (server->connections <= http_loop_limits(connection->loop)->connections &&
        connection->limit_reached == HTTP_LIMIT_CONNECTIONS)
        connection->limit_reached = HTTP_LIMIT_NONE; // others have gone meanwhile
    exchange->handled = true;
    answer = server->handler.on_head(server->handler.context, &exchange->request);
    if (exchange->request.verified)
        http_loop_prove(connection);
    exchange->closing = connection->limit_reached != HTTP_LIMIT_NONE;
    if (exchange->closing && !exchange->request.verified && !answer)
        return refuse(server, exchange, HTTP_REFUSE_OVERLOADED, "");
    return answer;
}

// A refusal waits until the body was read and dropped: closing on unread bytes would reset the connection, and the
// caller might never see the answer. Not so when the end of the body is in doubt or farther away than we would read, or
// when the caller waits for our word before it sends the body.
static bool answers_at_once(const struct framing *framing)
{
    return framing->fault || framing->expects || (framing->lengths > 0 && framing->length > DROPPED_BODY_BYTES);
}

static enum MHD_Result on_head(struct http_server *server, struct http_exchange *exchange, const char *url,
                               const char *method, const char *version)
{
    enum http_refusal why = judge_head(server, exchange, url, method, version);
    const char *fault = exchange->framing.fault;

    exchange->phase = HTTP_PHASE_BODY;
    exchange->request.received_at_ms = clock_realtime_ms();
    exchange->answer =
        why == HTTP_REFUSE_NONE ? ask_handler(server, exchange) : refuse(server, exchange, why, fault ? fault : "");
    http_loop_enter(exchange->connection, HTTP_STAGE_BODY);
    return exchange->answer && answers_at_once(&exchange->framing) ? send_answer(server, exchange) : MHD_YES;
}

static struct http_response *append_body(struct http_server *server, struct http_exchange *exchange, const char *data,
                                         size_t length)
{
    const struct http_limits *limits = http_loop_limits(exchange->connection->loop);
    struct buffer *body = &exchange->request.body;

    if (length > limits->body_bytes || body->length > limits->body_bytes - length)
        return refuse(server, exchange, HTTP_REFUSE_TOO_LARGE, "");
    exchange->body_in_flight += length;
    if (atomic_fetch_add(&server->body_in_flight, length) + length > limits->body_bytes * BODIES_IN_FLIGHT ||
        (!body->data && buffer_reserve(body, BODY_FIRST_BYTES) < 0) || buffer_append(body, data, length) < 0)
        return refuse(server, exchange, HTTP_REFUSE_OVERLOADED, "");
    return NULL;
}

static void take_body(struct http_server *server, struct http_exchange *exchange, const char *data, size_t length)
{
    if (exchange->answer)
        return; // refused: dropped
    exchange->answer = append_body(server, exchange, data, length);
    if (exchange->answer)
        drop_body(server, exchange);
}

static enum MHD_Result on_end(struct http_server *server, struct http_exchange *exchange)
{
    struct http_response *answer = exchange->answer;

    // Nobody would resume it any more.
    if (!answer && server->stopping)
        exchange->answer = answer = refuse(server, exchange, HTTP_REFUSE_OVERLOADED, "");
    if (!answer) {
        exchange->request.received_at_ms = clock_realtime_ms();
        exchange->complete_us = clock_monotonic_us();
        exchange->phase = HTTP_PHASE_PENDING;
        answer = server->handler.on_body(server->handler.context, &exchange->request);
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
    if (!exchange || !exchange->target)
        return MHD_NO;                           // no memory when the request line came
    http_loop_moved(exchange->connection->loop); // more may lie decrypted already, of which the kernel knows nothing
    switch (exchange->phase) {
    case HTTP_PHASE_TARGET:
        return on_head(server, exchange, url, method, version);
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

bool http_request_tell_library_answer(struct http_connection *connection)
{
    const struct http_exchange *exchange = connection->exchange;
    const char *fault = exchange ? exchange->framing.fault : NULL;

    if ((exchange && exchange->phase == HTTP_PHASE_ANSWERED) ||
        !MHD_get_connection_info(connection->mhd, MHD_CONNECTION_INFO_HTTP_STATUS))
        return false;
    http_request_tell_fault(connection, fault ? fault : "libmicrohttpd cannot parse the request.");
    return true;
}

void http_request_tell_fault(struct http_connection *connection, const char *fault)
{
    const struct http_handler *handler = &connection->server->handler;
    struct http_response *answer;

    if (connection->fault_told || (connection->exchange && connection->exchange->answer))
        return;
    connection->fault_told = true;
    answer = handler->on_refusal(handler->context, HTTP_REFUSE_FRAMING, connection->remote_address, fault);
    if (answer->use == HTTP_RESPONSE_ONCE)
        http_response_destroy(answer);
}

void http_request_end(struct http_connection *connection)
{
    struct http_server *server = connection->server;
    struct http_exchange *exchange = connection->exchange;

    if (!exchange)
        return;
    if (exchange->phase == HTTP_PHASE_TARGET && exchange->framing.fault)
        http_request_tell_fault(connection, exchange->framing.fault);
    (void)http_request_tell_library_answer(connection);
    if (exchange->handled)
        server->handler.on_end(server->handler.context, &exchange->request);
    if (exchange->answer && exchange->answer->use == HTTP_RESPONSE_ONCE)
        http_response_destroy(exchange->answer);
    http_loop_enter(connection, HTTP_STAGE_IDLE);
    drop_body(server, exchange);
    arena_finish(&exchange->request.arena);
    free(exchange);
    connection->exchange = NULL;
}

void http_request_on_over(void *context, struct MHD_Connection *mhd, void **request,
                          enum MHD_RequestTerminationCode how)
{
    (void)context;
    (void)how;
    if (*request)
        http_request_end(http_connection_of(mhd));
    *request = NULL;
}
