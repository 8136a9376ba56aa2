// Records events with one prepared statement of PostgreSQL, over TLS: the group, its members, and no duplicate.
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rivals.h"

#include <libpq-fe.h>

#define TEXT_BYTES         64
#define WARM_UP_EXECUTIONS 8

static const char statement[] =
    "WITH added AS (INSERT INTO destroyed_group (sdk_appid, group_id, event_time_ms, type, owner_account,"
    " operator_account, name, member_count, opt_platform, client_ip, received_at_ms)"
    " VALUES (1400000001, $1, $2, 'Public', 'owner', 'administrator', 'load', cardinality($3), 'RESTAPI', '127.0.0.1',"
    " extract(epoch FROM clock_timestamp()) * 1000)"
    " ON CONFLICT DO NOTHING RETURNING id)"
    " INSERT INTO destroyed_group_member SELECT added.id, member.position, member.account"
    " FROM added, unnest($3) WITH ORDINALITY AS member(account, position)";

enum { TYPE_INT8 = 20, TYPE_TEXT = 25, TYPE_TEXT_ARRAY = 1009 };

struct postgres_client {
    PGconn *connection;
    struct buffer members;
};

static void execute(PGconn *connection, PGresult *result)
{
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        die("statement", PQerrorMessage(connection));
    PQclear(result);
}

// A new connection of PostgreSQL first fills its caches, and plans each of the first five executions of a statement. A
// long-lived connection has done so, and so has this one before the measurement.
static void warm_up(PGconn *connection)
{
    static const char *const values[] = {"warm-up", "0", "{a,b,c}"};

    execute(connection, PQexec(connection, "BEGIN"));
    for (int i = 0; i < WARM_UP_EXECUTIONS; i++)
        execute(connection, PQexecPrepared(connection, "record", 3, values, NULL, NULL, 0));
    execute(connection, PQexec(connection, "ROLLBACK"));
}

static void *postgres_connect(const struct rivals_options *options, int *ret_fd)
{
    static const Oid types[] = {TYPE_TEXT, TYPE_INT8, TYPE_TEXT_ARRAY};
    struct postgres_client *client = allocate(1, sizeof *client);
    struct buffer url = {0};

    // The password comes from PGPASSWORD.
    if (buffer_print(&url,
                     "host=127.0.0.1 port=%" PRIu64
                     " user=owner dbname=postgres sslmode=verify-ca sslrootcert=%s gssencmode=disable",
                     options->port, options->ca) < 0)
        die("memory", strerror(ENOMEM));
    client->connection = PQconnectdb(buffer_text(&url));
    buffer_finish(&url);
    if (PQstatus(client->connection) != CONNECTION_OK)
        die("connection", PQerrorMessage(client->connection));
    execute(client->connection, PQprepare(client->connection, "record", statement, 3, types));
    warm_up(client->connection);
    if (PQsetnonblocking(client->connection, 1) != 0)
        die("connection", PQerrorMessage(client->connection));
    *ret_fd = PQsocket(client->connection);
    return client;
}

static int print_members(struct buffer *members, const struct rivals_options *options, uint64_t event)
{
    int r = 0;

    members->length = 0;
    for (uint64_t i = 0; i < options->members && r == 0; i++)
        r = buffer_print(members, "%smember-%" PRIu64 "-%" PRIu64, i > 0 ? "," : "{", event, i);
    return r == 0 ? buffer_print(members, "}") : r;
}

static void postgres_send(void *opaque, const struct rivals_options *options, uint64_t event)
{
    struct postgres_client *client = opaque;
    char group_id[TEXT_BYTES], time[TEXT_BYTES];
    const char *values[] = {group_id, time, NULL};

    (void)snprintf(group_id, sizeof group_id, "load-%" PRIu64 "-%" PRIu64, options->seed, event);
    (void)snprintf(time, sizeof time, "%" PRIu64, FIRST_EVENT_TIME_MS + event);
    if (print_members(&client->members, options, event) < 0)
        die("memory", strerror(ENOMEM));
    values[2] = client->members.data;
    // The connection has nothing else in flight, so the socket takes the whole statement.
    if (PQsendQueryPrepared(client->connection, "record", 3, values, NULL, NULL, 0) != 1 ||
        PQflush(client->connection) != 0)
        die("statement", PQerrorMessage(client->connection));
}

static enum progress postgres_receive(void *opaque)
{
    struct postgres_client *client = opaque;
    PGresult *result;
    bool recorded;

    if (PQconsumeInput(client->connection) != 1)
        die("connection", PQerrorMessage(client->connection));
    // The second result, NULL, arrives together with the first.
    if (PQisBusy(client->connection))
        return WAITING;
    result = PQgetResult(client->connection);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        die("statement", PQerrorMessage(client->connection));
    recorded = strcmp(PQcmdTuples(result), "0") != 0;
    PQclear(result);
    while ((result = PQgetResult(client->connection)))
        PQclear(result);
    return recorded ? RECORDED : REFUSED;
}

const struct protocol postgres_protocol = {postgres_connect, postgres_send, postgres_receive};
