// Once connected, libpq runs in nonblocking mode, because every wait must end after destination_cancel, or when no byte
// has moved for answer_timeout_ms.
#include "destination.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "imcallbackd/base/clock.h"
#include "password.h"

// The timeout for connecting to each host, unless the URL sets connect_timeout.
#define CONNECT_TIMEOUT_S "5"
// The maximum delay until a wait notices a signal that arrived just before poll(2).
#define POLL_MS 200

static volatile sig_atomic_t cancelled, connecting;

void destination_cancel(void)
{
    cancelled = 1;
    if (connecting)
        _exit(0);
}

bool destination_cancelled(void)
{
    return cancelled != 0;
}

static void assert_owner(const struct destination *destination)
{
    assert(destination->connection);
    assert(pthread_equal(destination->thread, pthread_self()));
}

// Keeps the first line of libpq's message and the line about each further host. The other lines are hints and context,
// which may repeat values of the rows.
static int failed(int code, const char *what, const char *message, struct error *error)
{
    struct error kept, before;

    (void)error_set(&kept, 0, "%.*s", (int)strcspn(message, "\n"), message);
    while ((message = strstr(message, "\nconnection to server "))) {
        before = kept;
        message++;
        (void)error_set(&kept, 0, "%s; %.*s", before.text, (int)strcspn(message, "\n"), message);
    }
    return error_set(error, code, "%s: %s", what, kept.text);
}

// Returns true for connection exceptions, deadlocks, serialization failures, timeouts and cancelled statements, for a
// server that stops, starts, accepts no further connection or has become a standby, and for an empty SQLSTATE.
// imcallbackd-forward(8) lists these codes.
static bool is_temporary_sqlstate(const char *sqlstate)
{
    static const char *const temporary[] = {"08",    "40",    "57P01", "57P02", "57P03", "57P05",
                                            "25006", "53300", "57014", "25P03", "55P03"};

    for (size_t i = 0; i < sizeof temporary / sizeof temporary[0]; i++) {
        if (strncmp(sqlstate, temporary[i], strlen(temporary[i])) == 0)
            return true;
    }
    return *sqlstate == '\0';
}

static int connection_failed(struct destination *destination, const char *what, struct error *error)
{
    destination->sqlstate[0] = '\0';
    return failed(EAGAIN, what, PQerrorMessage(destination->connection), error);
}

static int result_failed(struct destination *destination, const PGresult *result, struct error *error)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

    if (!sqlstate)
        return connection_failed(destination, "the connection was lost", error);
    (void)strncpy(destination->sqlstate, sqlstate, sizeof destination->sqlstate - 1);
    return error_set(error, is_temporary_sqlstate(sqlstate) ? EAGAIN : EPROTO,
                     "the destination reports SQLSTATE %s: %s", sqlstate, message ? message : "no message");
}

// Replaces libpq's default, which prints notices such as "relation already exists, skipping" to standard error.
static void ignore_notice(void *context, const PGresult *result)
{
    (void)context;
    (void)result;
}

static int check_connection(struct destination *destination, struct error *error)
{
    const char *encoding = PQparameterStatus(destination->connection, "server_encoding");

    if (PQstatus(destination->connection) != CONNECTION_OK)
        return connection_failed(destination, "cannot connect", error);
    (void)PQsetNoticeReceiver(destination->connection, ignore_notice, NULL);
    if (encoding && strcmp(encoding, "UTF8") != 0)
        return error_set(
            error, EPROTO,
            "the destination database has the encoding %s, which cannot represent every character; create a "
            "database with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
            encoding);
    return PQsetnonblocking(destination->connection, 1) == 0 ? 0 : connection_failed(destination, "libpq", error);
}

int destination_open(struct destination *destination, const struct forward_settings *settings,
                     int64_t answer_timeout_ms, struct error *error)
{
    char *password = NULL;
    bool readable_by_all;
    int r = password_read(settings->password_file, &password, &readable_by_all, error);
    // The URL in dbname overrides the keywords before dbname, and the keywords after dbname override the URL.
    const char *const names[] = {"connect_timeout",  "keepalives_idle",  "keepalives_interval",
                                 "keepalives_count", "application_name", "dbname",
                                 "client_encoding",  "password",         NULL};
    const char *const values[] = {CONNECT_TIMEOUT_S, "10",   "5",      "3", "imcallbackd forward",
                                  settings->url,     "UTF8", password, NULL};

    assert(!destination->connection);
    if (r < 0)
        return r;
    *destination = (struct destination){.thread = pthread_self(), .answer_timeout_ms = answer_timeout_ms};
    connecting = 1;
    if (!cancelled)
        destination->connection = PQconnectdbParams(names, values, 1);
    connecting = 0;
    password_forget(password);
    if (cancelled)
        return error_set(error, ECANCELED, "stopped");
    if (!destination->connection)
        return error_set(error, ENOMEM, "out of memory");
    return check_connection(destination, error);
}

void destination_close(struct destination *destination)
{
    PQfinish(destination->connection);
    destination->connection = NULL;
}

const char *destination_host(const struct destination *destination)
{
    return PQhost(destination->connection);
}

const char *destination_port(const struct destination *destination)
{
    return PQport(destination->connection);
}

// Returns how many bytes in the socket's send queue the peer has not acknowledged yet, or 0 if the number is unknown.
static int unacknowledged_bytes(int socket)
{
    int bytes = 0;

    return ioctl(socket, SIOCOUTQ, &bytes) == 0 ? bytes : 0;
}

// Sends what the socket accepts, waits for up to POLL_MS until the socket is ready, and then receives what has arrived.
// Sets *ret_moved to true if the socket became ready or the peer acknowledged bytes.
static int exchange(struct destination *destination, bool *ret_moved, struct error *error)
{
    struct pollfd server = {.fd = PQsocket(destination->connection), .events = POLLIN};
    int left = PQflush(destination->connection), before = unacknowledged_bytes(server.fd);
    bool ready;

    if (left > 0)
        server.events |= POLLOUT;
    ready = left < 0 || poll(&server, 1, POLL_MS) > 0;
    *ret_moved = ready || unacknowledged_bytes(server.fd) < before;
    if (!ready)
        return 0;
    if (left < 0 || PQconsumeInput(destination->connection) == 0)
        return connection_failed(destination, "the connection was lost", error);
    return 0;
}

// Waits until PQgetResult will not block. Sending a large event over a slow network may take minutes, so the timeout
// restarts whenever bytes move.
static int await_result(struct destination *destination, struct error *error)
{
    int64_t give_up_at_ms = clock_monotonic_ms() + destination->answer_timeout_ms;
    bool moved;
    int r = 0;

    while (r == 0 && PQisBusy(destination->connection)) {
        if (cancelled)
            return error_set(error, ECANCELED, "stopped");
        if (clock_monotonic_ms() > give_up_at_ms)
            return error_set(error, ETIMEDOUT, "the destination has not answered for %d s",
                             (int)(destination->answer_timeout_ms / 1000));
        r = exchange(destination, &moved, error);
        if (moved)
            give_up_at_ms = clock_monotonic_ms() + destination->answer_timeout_ms;
    }
    return r;
}

int destination_send(struct destination *destination, const char *sql, const struct parameters *parameters,
                     struct error *error)
{
    static const struct parameters none;

    assert_owner(destination);
    if (!parameters)
        parameters = &none;
    if (parameters->code < 0)
        return error_set(error, -parameters->code, "the statement parameters cannot be encoded: %s",
                         strerror(-parameters->code));
    if (PQsendQueryParams(destination->connection, sql, parameters->count, parameters->types, parameters->values,
                          parameters->lengths, parameters->formats, 0) == 1)
        return 0;
    return connection_failed(destination, "the connection was lost", error);
}

// PQgetResult returns the result of a COPY again and again, so a loop that reads results must stop at such a result.
static bool is_copy(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);

    return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

// The destination is not trusted: the result of a COPY, or a result without the expected columns, is an error.
static int check_result(struct destination *destination, const PGresult *result, int columns, struct error *error)
{
    ExecStatusType status = PQresultStatus(result);

    if (is_copy(result) || (status == PGRES_COMMAND_OK && columns > 0) ||
        (status == PGRES_TUPLES_OK && PQnfields(result) < columns)) {
        destination->sqlstate[0] = '\0';
        return error_set(error, EPROTO,
                         "the destination returned a result that does not belong to the statement; "
                         "check that [forward] url names a PostgreSQL-compatible database");
    }
    return status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK ? 0 : result_failed(destination, result, error);
}

int destination_query(struct destination *destination, const char *sql, const struct parameters *parameters,
                      int columns, PGresult **ret_result, struct error *error)
{
    int r = destination_send(destination, sql, parameters, error);
    PGresult *result = NULL, *last = NULL;

    assert(!destination->in_pipeline);
    while (r == 0 && !is_copy(last) && (r = await_result(destination, error)) == 0 &&
           (result = PQgetResult(destination->connection))) {
        PQclear(last);
        last = result;
    }
    if (r == 0)
        r = check_result(destination, last, columns, error);
    if (r == 0 && ret_result)
        *ret_result = last;
    else
        PQclear(last);
    return r;
}

int destination_enter_pipeline(struct destination *destination, struct error *error)
{
    assert_owner(destination);
    assert(!destination->in_pipeline);
    if (PQenterPipelineMode(destination->connection) != 1)
        return connection_failed(destination, "libpq", error);
    destination->in_pipeline = true;
    return 0;
}

int destination_sync(struct destination *destination, struct error *error)
{
    assert_owner(destination);
    assert(destination->in_pipeline);
    if (PQpipelineSync(destination->connection) == 1 && PQflush(destination->connection) >= 0)
        return 0;
    return connection_failed(destination, "the connection was lost", error);
}

int destination_await_sync(struct destination *destination, int statement_index, int64_t *ret_rows, struct error *error)
{
    int statement = 0;

    assert_owner(destination);
    assert(destination->in_pipeline);
    for (;;) {
        int r = await_result(destination, error);
        PGresult *result = r == 0 ? PQgetResult(destination->connection) : NULL;
        ExecStatusType status = PQresultStatus(result);

        if (r < 0)
            return r;
        if (!result) { // no more results of this statement
            if (PQstatus(destination->connection) != CONNECTION_OK)
                return connection_failed(destination, "the connection was lost", error);
            continue;
        }
        if (status != PGRES_PIPELINE_SYNC)
            r = check_result(destination, result, 0, error);
        if (status == PGRES_COMMAND_OK && statement++ == statement_index)
            *ret_rows = strtoll(PQcmdTuples(result), NULL, 10);
        PQclear(result);
        if (r < 0 || status == PGRES_PIPELINE_SYNC)
            return r;
    }
}
