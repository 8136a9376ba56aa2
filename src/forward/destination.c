#include "destination.h"

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

// Of one host, when the URL has no connect_timeout.
#define CONNECT_TIMEOUT_S "5"
// How soon a signal that came just before poll(2) is noticed.
#define LOOK_MS 200

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

// The first line, and that of each further host: the others are hints and context that repeat values.
static int failed(int code, const char *what, const char *message, struct error *error)
{
    struct error told, before;

    (void)error_set(&told, 0, "%.*s", (int)strcspn(message, "\n"), message);
    while ((message = strstr(message, "\nconnection to server "))) {
        before = told;
        message++;
        (void)error_set(&told, 0, "%s; %.*s", before.text, (int)strcspn(message, "\n"), message);
    }
    return error_set(error, code, "%s: %s", what, told.text);
}

// Classes of SQLSTATE that pass by themselves: the connection, a deadlock or a transaction that was in another's way, a
// server that stops, starts, has no room for one more, or has become a standby.
static bool passes(const char *sqlstate)
{
    static const char *const passing[] = {"08",    "40",    "57P01", "57P02", "57P03", "57P05",
                                          "25006", "53300", "57014", "25P03", "55P03"};

    for (size_t i = 0; i < sizeof passing / sizeof passing[0]; i++) {
        if (strncmp(sqlstate, passing[i], strlen(passing[i])) == 0)
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
    return error_set(error, passes(sqlstate) ? EAGAIN : EPROTO, "the destination reports SQLSTATE %s: %s", sqlstate,
                     message ? message : "no message");
}

// The server's notices are not ours to log: "relation exists already, skipping".
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

int destination_open(struct destination *destination, const struct forward_settings *settings, int64_t silence_ms,
                     struct error *error)
{
    char *password = NULL;
    int r = password_read(settings->password_file, &password, error);
    // What stands before the URL gives way to it, what stands behind it does not.
    const char *const names[] = {"connect_timeout",  "keepalives_idle",  "keepalives_interval",
                                 "keepalives_count", "application_name", "dbname",
                                 "client_encoding",  "password",         NULL};
    const char *const values[] = {CONNECT_TIMEOUT_S, "10",   "5",      "3", "imcallbackd forward",
                                  settings->url,     "UTF8", password, NULL};

    if (r < 0)
        return r;
    *destination = (struct destination){.silence_ms = silence_ms};
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

void destination_name(const struct destination *destination, struct error *ret_name)
{
    const char *host = PQhost(destination->connection), *port = PQport(destination->connection);

    (void)error_set(ret_name, 0, "%s, port %s", host ? host : "", port ? port : "");
}

// What was sent and has not arrived.
static int unacknowledged_bytes(int socket)
{
    int bytes = 0;

    return ioctl(socket, SIOCOUTQ, &bytes) == 0 ? bytes : 0;
}

// Sends what waits, and reads what comes. *ret_moved: something came or arrived there.
static int exchange(struct destination *destination, bool *ret_moved, struct error *error)
{
    struct pollfd server = {.fd = PQsocket(destination->connection), .events = POLLIN};
    int left = PQflush(destination->connection), before = unacknowledged_bytes(server.fd);
    bool ready;

    if (left > 0)
        server.events |= POLLOUT;
    ready = left < 0 || poll(&server, 1, LOOK_MS) > 0;
    *ret_moved = ready || unacknowledged_bytes(server.fd) < before;
    if (!ready)
        return 0;
    if (left < 0 || PQconsumeInput(destination->connection) == 0)
        return connection_failed(destination, "the connection was lost", error);
    return 0;
}

// Until a result can be taken without waiting for it. A large event on a slow line may take minutes.
static int await_result(struct destination *destination, struct error *error)
{
    int64_t give_up_at_ms = clock_monotonic_ms() + destination->silence_ms;
    bool moved;
    int r = 0;

    while (r == 0 && PQisBusy(destination->connection)) {
        if (cancelled)
            return error_set(error, ECANCELED, "stopped");
        if (clock_monotonic_ms() > give_up_at_ms)
            return error_set(error, ETIMEDOUT, "the destination has not answered for %d s",
                             (int)(destination->silence_ms / 1000));
        r = exchange(destination, &moved, error);
        if (moved)
            give_up_at_ms = clock_monotonic_ms() + destination->silence_ms;
    }
    return r;
}

int destination_send(struct destination *destination, const char *sql, const struct parameters *parameters,
                     struct error *error)
{
    static const struct parameters none;

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

int destination_query(struct destination *destination, const char *sql, const struct parameters *parameters,
                      PGresult **ret_result, struct error *error)
{
    int r = destination_send(destination, sql, parameters, error);
    PGresult *result = NULL, *last = NULL;

    while (r == 0 && (r = await_result(destination, error)) == 0 && (result = PQgetResult(destination->connection))) {
        PQclear(last);
        last = result;
    }
    if (r == 0 && PQresultStatus(last) != PGRES_TUPLES_OK && PQresultStatus(last) != PGRES_COMMAND_OK)
        r = result_failed(destination, last, error);
    if (r == 0 && ret_result)
        *ret_result = last;
    else
        PQclear(last);
    return r;
}

int destination_begin_pipeline(struct destination *destination, struct error *error)
{
    return PQenterPipelineMode(destination->connection) == 1 ? 0 : connection_failed(destination, "libpq", error);
}

int destination_sync(struct destination *destination, struct error *error)
{
    if (PQpipelineSync(destination->connection) == 1 && PQflush(destination->connection) >= 0)
        return 0;
    return connection_failed(destination, "the connection was lost", error);
}

int destination_await_sync(struct destination *destination, int which, int64_t *ret_rows, struct error *error)
{
    int statement = 0;

    for (;;) {
        int r = await_result(destination, error);
        PGresult *result = r == 0 ? PQgetResult(destination->connection) : NULL;
        ExecStatusType status = PQresultStatus(result);

        if (r < 0)
            return r;
        if (!result) { // the end of one statement's results
            if (PQstatus(destination->connection) != CONNECTION_OK)
                return connection_failed(destination, "the connection was lost", error);
            continue;
        }
        if (status == PGRES_FATAL_ERROR)
            r = result_failed(destination, result, error);
        else if (status == PGRES_COMMAND_OK && statement++ == which)
            *ret_rows = strtoll(PQcmdTuples(result), NULL, 10);
        PQclear(result);
        if (r < 0 || status == PGRES_PIPELINE_SYNC)
            return r;
    }
}
