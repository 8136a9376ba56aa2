// The order of the checks in judge_head is part of the protocol: it decides which refusal a client sees.
#include "request.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "imcallbackd/base/clock.h"
#include "mhd_response.h"

// The limit of a request's arena for each byte of the largest allowed body. Parsing a body takes about ten times its
// size in memory; the factor 16 leaves a margin. Only one request per loop needs this memory at a time, while
// handler.on_body runs.
#define ARENA_BYTES_PER_BODY_BYTE 16
#define ARENA_BASE_BYTES          ((size_t)1 << 20)
// The size of the first allocation for a body. The buffer grows as data arrives, whatever length is announced, so that
// a client cannot occupy memory for bytes that it does not send.
#define BODY_FIRST_BYTES ((size_t)4 << 10)
// All bodies in memory may together take as much space as this many bodies of the largest size. If a body would exceed
// this space, the server refuses the request with HTTP_REFUSE_OVERLOADED.
#define BODIES_IN_FLIGHT 16
// If the announced length of the body of a refused request is larger than this, the server sends the refusal without
// reading the body.
#define DROPPED_BODY_BYTES ((size_t)64 << 20)

struct http_exchange *http_request_start(struct http_connection *connection, const char *target)
{
    struct http_exchange *exchange;
    const char *mark = strchr(target, '?');

    assert(!connection->exchange);
    exchange = calloc(1, sizeof *exchange);
    if (!exchange)
        return NULL;
    connection->exchange = exchange;
    exchange->connection = connection;
    exchange->request.remote_address = connection->transport.remote_address;
    arena_init(&exchange->request.arena,
               ARENA_BASE_BYTES + connection->set->limits.body_bytes * ARENA_BYTES_PER_BODY_BYTE);
    exchange->target = arena_copy(&exchange->request.arena, target, strlen(target));
    exchange->request.query = !exchange->target ? NULL : mark ? exchange->target + (mark - target) + 1 : "";
    // Usually the first byte of a request moves the connection to stage HEAD. If the client has sent this request
    // together with the previous one, that byte arrived before the previous request was answered, and the connection is
    // still in stage IDLE.
    if (connection->deadline.stage != HTTP_STAGE_HEAD)
        http_connection_enter(connection, HTTP_STAGE_HEAD);
    return exchange;
}

void http_request_set_fault(struct http_exchange *exchange, const char *fault)
{
    assert(exchange->phase == HTTP_PHASE_TARGET);
    if (!exchange->framing.fault)
        exchange->framing.fault = fault;
}

void http_request_receive_header(struct http_exchange *exchange, const char *name, size_t name_length,
                                 const char *value, size_t value_length)
{
    assert(exchange->phase == HTTP_PHASE_TARGET);
    framing_add(&exchange->framing, name, name_length, value, value_length);
    if (exchange->connection->transport.client == HTTP_CLIENT_FROM_REQUESTS)
        forwarded_for_add(&exchange->forwarded_for, name, name_length, value, value_length);
}

static bool path_is(const char *target, const char *path)
{
    size_t length = strlen(path);

    return strncmp(target, path, length) == 0 && (target[length] == '\0' || target[length] == '?');
}

// Returns the client of a request, and sets request.remote_address if X-Forwarded-For names the client. Returns NULL if
// the last entry is not an address, because the proxy then hides the client. The proxy's own address must not replace
// the client's, because allow_from may contain the proxy.
static const struct address *find_client(struct http_exchange *exchange)
{
    const struct forwarded_for *forwarded_for = &exchange->forwarded_for;

    if (!forwarded_for->is_present)
        return &exchange->connection->transport.address;
    if (!forwarded_for->is_address)
        return NULL;
    address_print(&forwarded_for->address, exchange->forwarded_address);
    exchange->request.remote_address = exchange->forwarded_address;
    return &forwarded_for->address;
}

// Returns true if allow_from must be checked for each request. The server has admitted a connection regardless of
// allow_from if the connection belongs to a trusted proxy and no PROXY header has named the client.
static bool is_checked_per_request(const struct http_connection *connection)
{
    enum http_client client = connection->transport.client;

    return client == HTTP_CLIENT_IS_PROXY || client == HTTP_CLIENT_FROM_REQUESTS;
}

// Returns why the server itself refuses this head, or HTTP_REFUSE_NONE. Sets *ret_detail to the detail for
// handler.on_refusal.
static enum http_refusal judge_head(struct http_exchange *exchange, const char *method, const char *version,
                                    const char **ret_detail)
{
    struct http_shared *shared = exchange->connection->shared;
    struct framing *framing = &exchange->framing;
    const struct address *client;

    *ret_detail = framing_finish(framing, method, exchange->target, version);
    if (*ret_detail)
        return HTTP_REFUSE_FRAMING;
    *ret_detail = "";
    client = find_client(exchange); // only a head that can be read in one way names a client
    if (is_checked_per_request(exchange->connection) && !http_shared_allows(shared, client)) {
        *ret_detail = client ? "" : "The last entry of X-Forwarded-For is not an address.";
        return HTTP_REFUSE_PEER;
    }
    if (shared->stopping)
        return HTTP_REFUSE_OVERLOADED;
    if (framing->lengths > 0 && framing->length > exchange->connection->set->limits.body_bytes)
        return HTTP_REFUSE_TOO_LARGE;
    if (framing->encoded)
        return HTTP_REFUSE_ENCODED;
    if (!path_is(exchange->target, shared->path))
        return HTTP_REFUSE_PATH;
    if (strcmp(method, "POST") != 0)
        return HTTP_REFUSE_METHOD;
    return HTTP_REFUSE_NONE;
}

static struct http_response *refuse(const struct http_exchange *exchange, enum http_refusal why, const char *detail)
{
    const struct http_handler *handler = &exchange->connection->shared->handler;

    return handler->on_refusal(handler->context, why, exchange->request.remote_address, detail);
}

// On a connection beyond a limit, the server accepts only a verified request, and closes the connection after the
// response in any case.
static struct http_response *ask_handler(struct http_exchange *exchange)
{
    struct http_connection *connection = exchange->connection;
    struct http_shared *shared = connection->shared;
    struct http_response *response;

    if (shared->connection_count <= connection->set->limits.connections &&
        connection->exceeded_limit == HTTP_LIMIT_CONNECTIONS)
        connection->exceeded_limit = HTTP_LIMIT_NONE; // other connections have been closed since
    exchange->needs_on_end = true;
    response = shared->handler.on_head(shared->handler.context, &exchange->request);
    if (exchange->request.verified)
        http_connection_mark_verified(connection);
    exchange->closes_connection = connection->exceeded_limit != HTTP_LIMIT_NONE;
    if (exchange->closes_connection && !exchange->request.verified && !response)
        return refuse(exchange, HTTP_REFUSE_OVERLOADED, "");
    return response;
}

// Usually a refusal waits until the server has read and dropped the body: closing a connection with unread bytes resets
// it, and then the client may never see the response. The refusal does not wait in three cases: the end of the body is
// uncertain, the announced length is larger than DROPPED_BODY_BYTES, or the client waits for a response before it sends
// the body.
static bool answers_at_once(const struct framing *framing)
{
    return framing->fault || framing->expects || (framing->lengths > 0 && framing->length > DROPPED_BODY_BYTES);
}

enum http_verdict http_request_receive_head(struct http_exchange *exchange, const char *method, const char *version)
{
    enum http_refusal why;
    const char *detail;

    assert(exchange->phase == HTTP_PHASE_TARGET && !exchange->response);
    if (!exchange->target)
        return HTTP_VERDICT_CLOSE;
    why = judge_head(exchange, method, version, &detail);
    exchange->phase = HTTP_PHASE_BODY;
    exchange->request.received_at_ms = clock_realtime_ms();
    if (why == HTTP_REFUSE_NONE)
        exchange->response = ask_handler(exchange);
    else
        exchange->response = refuse(exchange, why, detail);
    http_connection_enter(exchange->connection, HTTP_STAGE_BODY);
    return exchange->response && answers_at_once(&exchange->framing) ? HTTP_VERDICT_ANSWER : HTTP_VERDICT_CONTINUE;
}

static void drop_body(struct http_exchange *exchange)
{
    struct http_shared *shared = exchange->connection->shared;
    size_t before = atomic_fetch_sub(&shared->body_in_flight, exchange->body_in_flight);

    assert(before >= exchange->body_in_flight);
    exchange->body_in_flight = 0;
    buffer_finish(&exchange->request.body);
}

// Appends data to the body. Returns the refusal if the data exceeds a limit or memory is exhausted, and NULL otherwise.
static struct http_response *append_body(struct http_exchange *exchange, const char *data, size_t length)
{
    struct http_shared *shared = exchange->connection->shared;
    size_t body_bytes = exchange->connection->set->limits.body_bytes;
    struct buffer *body = &exchange->request.body;

    if (length > body_bytes || body->length > body_bytes - length)
        return refuse(exchange, HTTP_REFUSE_TOO_LARGE, "");
    exchange->body_in_flight += length;
    if (atomic_fetch_add(&shared->body_in_flight, length) + length > body_bytes * BODIES_IN_FLIGHT ||
        (!body->data && buffer_reserve(body, BODY_FIRST_BYTES) < 0) || buffer_append(body, data, length) < 0)
        return refuse(exchange, HTTP_REFUSE_OVERLOADED, "");
    return NULL;
}

void http_request_receive_data(struct http_exchange *exchange, const char *data, size_t length)
{
    assert(exchange->phase == HTTP_PHASE_BODY && length > 0);
    if (exchange->response)
        return;
    exchange->response = append_body(exchange, data, length);
    if (exchange->response)
        drop_body(exchange);
}

enum http_verdict http_request_receive_end(struct http_exchange *exchange)
{
    struct http_shared *shared = exchange->connection->shared;
    struct http_response *response;

    assert(exchange->phase == HTTP_PHASE_BODY);
    // After the last pending request was completed, a stopping loop runs the library a few more times, but no longer
    // waits for the handler. A request that became pending then would get no response, so the server refuses the
    // request.
    if (!exchange->response && shared->stopping)
        exchange->response = refuse(exchange, HTTP_REFUSE_OVERLOADED, "");
    if (exchange->response)
        return HTTP_VERDICT_ANSWER;
    exchange->request.received_at_ms = clock_realtime_ms();
    exchange->complete_us = clock_monotonic_us();
    exchange->phase = HTTP_PHASE_PENDING;
    response = shared->handler.on_body(shared->handler.context, &exchange->request);
    // After on_body has returned NULL, exchange->response belongs to http_request_complete, which another thread may
    // have called already.
    if (!response) {
        exchange->connection->set->pending++;
        exchange->connection->set->polled++;
        metric_add(&http_requests_waiting, 0, 1);
        http_connection_enter(exchange->connection, HTTP_STAGE_HELD);
        return HTTP_VERDICT_HOLD;
    }
    exchange->response = response;
    return HTTP_VERDICT_ANSWER;
}

enum http_verdict http_request_poll(struct http_exchange *exchange)
{
    struct http_connection *connection = exchange->connection;

    if (exchange->phase == HTTP_PHASE_COMPLETED)
        return exchange->response ? HTTP_VERDICT_ANSWER : HTTP_VERDICT_CLOSE;
    assert(exchange->phase == HTTP_PHASE_PENDING && !exchange->suspended);
    if (connection->set->now_ms - connection->deadline.since_ms < HELD_POLL_MS)
        return HTTP_VERDICT_HOLD;
    exchange->suspended = true;
    connection->set->polled--;
    return HTTP_VERDICT_SUSPEND;
}

void http_request_unhold(struct http_exchange *exchange)
{
    struct http_connection_set *set = exchange->connection->set;

    assert(exchange->phase == HTTP_PHASE_PENDING);
    assert(exchange->connection->deadline.stage == HTTP_STAGE_HELD);
    assert(set->pending > 0);
    exchange->phase = HTTP_PHASE_COMPLETED;
    set->pending--;
    if (!exchange->suspended)
        set->polled--;
    metric_add(&http_requests_waiting, 0, -1);
}

struct http_response *http_request_take_response(struct http_exchange *exchange, bool *ret_closing)
{
    struct http_connection *connection = exchange->connection;
    struct http_response *response = exchange->response;

    assert(response);
    assert(exchange->phase == HTTP_PHASE_BODY || exchange->phase == HTTP_PHASE_COMPLETED);
    exchange->response = NULL;
    exchange->phase = HTTP_PHASE_ANSWERED;
    if (exchange->complete_us > 0)
        metric_observe(&http_answer_seconds, clock_monotonic_us() - exchange->complete_us);
    drop_body(exchange);
    http_connection_enter(connection, HTTP_STAGE_ANSWER);
    *ret_closing = exchange->closes_connection || connection->transport.receive_closed || connection->shared->draining;
    return response;
}

void http_request_report_fault(struct http_connection *connection, const char *fault)
{
    const struct http_handler *handler = &connection->shared->handler;

    if (connection->fault_reported || (connection->exchange && connection->exchange->response))
        return;
    connection->fault_reported = true;
    http_response_release(
        handler->on_refusal(handler->context, HTTP_REFUSE_FRAMING, connection->transport.remote_address, fault));
}

void http_request_finish(struct http_connection *connection)
{
    const struct http_handler *handler = &connection->shared->handler;
    struct http_exchange *exchange = connection->exchange;

    if (!exchange)
        return;
    assert(exchange->connection == connection && exchange->phase != HTTP_PHASE_PENDING);
    if (exchange->phase == HTTP_PHASE_TARGET && exchange->framing.fault)
        http_request_report_fault(connection, exchange->framing.fault);
    if (exchange->needs_on_end)
        handler->on_end(handler->context, &exchange->request);
    http_response_release(exchange->response);
    http_connection_enter(connection, HTTP_STAGE_IDLE);
    drop_body(exchange);
    arena_finish(&exchange->request.arena);
    connection->exchange = NULL;
    free(exchange);
}
