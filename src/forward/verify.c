// Compares the store with the destination. Both sides compute checksums of each row, so that the destination need not
// send the values of the columns. Both sides must compute a checksum from the same text, so print_sql and make_row must
// change together.
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "imcallbackd/forward/forward.h"

#include <openssl/evp.h>

#define MAX_REPORTED 20
#define MD5_BYTES    16
#define DIGEST_BYTES (2 * MD5_BYTES + 1)
#define SEPARATOR    "\x1f" // precedes each value in the text of a checksum

// The SQL that surrounds the name of a column and converts its value to the text for the checksum.
static const struct {
    const char *prefix, *suffix;
} conversions[] = {
    [COLUMN_INTEGER] = {"", "::text"},
    [COLUMN_TEXT] = {"", ""},
    [COLUMN_BYTES] = {"md5(", ")"},
};

// The SQL for the digest of an event's members, which follows the columns in the text for CHECKSUM_EVENT, and the SQL
// for the number of members.
static const char members_digest_sql[] =
    ", E'\\x1f', (SELECT md5(string_agg(E'\\x1f' || member_account, '' ORDER BY position))"
    " FROM destroyed_group_member AS m WHERE m.event_uid = r.event_uid)";
static const char member_count_sql[] =
    ", (SELECT count(*) FROM destroyed_group_member AS m WHERE m.event_uid = r.event_uid)";

// A row has two checksums, because two receivers of the same event agree on its identity and content, but differ in its
// reception. The reception is compared only if this receiver shipped the row.
enum checksum { CHECKSUM_EVENT, CHECKSUM_RECEPTION, CHECKSUM_COUNT };

// A row of the store, and the result of its comparison.
struct row {
    unsigned char uid[UID_BYTES];
    int64_t id;
    size_t member_count;
    char checksums[CHECKSUM_COUNT][DIGEST_BYTES];
    bool found, differs;
};

struct totals {
    int64_t in_store, found, members_in_store, members_found, missing, different, waiting;
};

struct verification {
    const struct forward_settings *settings;
    int64_t since_ms, until_ms;
    forward_report *report;
    struct destination destination;
    struct store_reader *reader;
    struct buffer sql;
    struct buffer rows; // array of struct row, which compare_rows sorts by uid
    struct buffer text; // values of the checksum that is being computed
    int code;           // 0, or -errno of the first checksum that could not be computed
    struct totals totals[STREAM_COUNT];
    unsigned int reported;
};

static const char *const kinds[STREAM_COUNT] = {"event", "rejected callback"};

static bool is_in(enum checksum checksum, const struct column *column)
{
    return (column->part == COLUMN_RECEPTION) == (checksum == CHECKSUM_RECEPTION);
}

// Checksums of the store

static void add_text(struct verification *verification, const char *text)
{
    if (verification->code == 0)
        verification->code = buffer_append(&verification->text, SEPARATOR, strlen(SEPARATOR));
    if (verification->code == 0)
        verification->code = text_append(&verification->text, text);
}

static void add_integer(struct verification *verification, int64_t value)
{
    if (verification->code == 0)
        verification->code = buffer_print(&verification->text, SEPARATOR "%" PRId64, value);
}

static void print_md5(struct verification *verification, const void *data, size_t length, char digest[DIGEST_BYTES])
{
    unsigned char bytes[MD5_BYTES] = {0};

    if (EVP_Digest(data, length, bytes, NULL, EVP_md5(), NULL) != 1)
        verification->code = -EIO;
    for (size_t i = 0; i < MD5_BYTES; i++)
        (void)snprintf(digest + 2 * i, 3, "%02x", bytes[i]);
}

// Computes the digest of the values that were added since the last call. Without any value, the digest is "".
static void finish_digest(struct verification *verification, char digest[DIGEST_BYTES])
{
    digest[0] = '\0';
    if (verification->text.length > 0)
        print_md5(verification, verification->text.data, verification->text.length, digest);
    verification->text.length = 0;
}

static void add_value(struct verification *verification, const struct column *column, const void *event)
{
    const struct column_value value = column_get(column, event);
    char digest[DIGEST_BYTES] = "";

    if (column->type == COLUMN_INTEGER && !value.is_null) {
        add_integer(verification, value.integer);
        return;
    }
    if (column->type == COLUMN_BYTES && !value.is_null)
        print_md5(verification, value.data, value.length, digest);
    add_text(verification, column->type == COLUMN_TEXT ? value.data : digest);
}

static int make_row(struct verification *verification, enum stream stream, const struct recorded_row *recorded,
                    struct row *row)
{
    const struct stream_table *table = &stream_tables[stream];
    const struct destroyed_group *group = stream == STREAM_GROUPS ? &recorded->event.group : NULL;
    char members[DIGEST_BYTES];
    int r = row_uid(stream, recorded, verification->settings->receiver, row->uid);

    row->id = recorded->id;
    row->member_count = group ? group->member_count : 0;
    for (size_t i = 0; i < row->member_count; i++)
        add_text(verification, group->members[i]);
    finish_digest(verification, members);
    for (enum checksum checksum = 0; checksum < CHECKSUM_COUNT; checksum++) {
        if (checksum == CHECKSUM_RECEPTION)
            add_integer(verification, recorded->id);
        for (size_t i = 0; i < table->column_count; i++) {
            if (is_in(checksum, &table->columns[i]))
                add_value(verification, &table->columns[i], &recorded->event);
        }
        if (group && checksum == CHECKSUM_EVENT)
            add_text(verification, members);
        finish_digest(verification, row->checksums[checksum]);
    }
    return r < 0 ? r : verification->code;
}

// Comparison

// Prints the statement whose result has the uid in hexadecimal, the receiver, both checksums, and the number of
// members.
static int print_sql(enum stream stream, struct buffer *sql)
{
    const struct stream_table *table = &stream_tables[stream];
    const char *uid = uid_columns[stream];
    int r;

    sql->length = 0;
    r = buffer_print(sql, "SELECT encode(%s, 'hex'), receiver", uid);
    for (enum checksum checksum = 0; checksum < CHECKSUM_COUNT && r == 0; checksum++) {
        bool has_members = stream == STREAM_GROUPS && checksum == CHECKSUM_EVENT;

        r = buffer_print(sql, ", md5(concat(%s", checksum == CHECKSUM_RECEPTION ? "E'\\x1f', id::text" : "''");
        for (size_t i = 0; i < table->column_count && r == 0; i++) {
            if (is_in(checksum, &table->columns[i]))
                r = buffer_print(sql, ", E'\\x1f', %s%s%s", conversions[table->columns[i].type].prefix,
                                 table->columns[i].name, conversions[table->columns[i].type].suffix);
        }
        if (r == 0)
            r = buffer_print(sql, "%s))", has_members ? members_digest_sql : "");
    }
    if (r == 0)
        r = buffer_print(sql, "%s FROM %s AS r WHERE %s = ANY ($1::bytea[])",
                         stream == STREAM_GROUPS ? member_count_sql : ", 0", table->name, uid);
    return r;
}

static int by_uid(const void *one, const void *other)
{
    return memcmp(((const struct row *)one)->uid, ((const struct row *)other)->uid, UID_BYTES);
}

static struct row *rows_of(const struct verification *verification, size_t *ret_count)
{
    assert(verification->rows.length % sizeof(struct row) == 0);
    *ret_count = verification->rows.length / sizeof(struct row);
    return (struct row *)(void *)verification->rows.data;
}

static void compare_row(struct verification *verification, struct totals *totals, const PGresult *result, int at)
{
    size_t count, member_count = strtoull(PQgetvalue(result, at, 4), NULL, 10);
    struct row wanted = {0}, *row, *rows = rows_of(verification, &count);
    bool is_ours = strcmp(PQgetvalue(result, at, 1), verification->settings->receiver) == 0;

    if (PQgetlength(result, at, 0) != 2 * UID_BYTES)
        return; // the destination is not trusted
    for (size_t i = 0; i < UID_BYTES; i++)
        (void)sscanf(PQgetvalue(result, at, 0) + 2 * i, "%2hhx", &wanted.uid[i]);
    row = bsearch(&wanted, rows, count, sizeof wanted, by_uid);
    if (!row)
        return;
    totals->members_found += (int64_t)member_count;
    row->found = true;
    row->differs = member_count != row->member_count ||
                   strcmp(PQgetvalue(result, at, 2), row->checksums[CHECKSUM_EVENT]) != 0 ||
                   (is_ours && strcmp(PQgetvalue(result, at, 3), row->checksums[CHECKSUM_RECEPTION]) != 0);
}

static void report_row(struct verification *verification, enum stream stream, const struct row *row)
{
    const char *what = row->found ? "differs" : "is missing";
    struct error sentence;

    if (verification->reported++ >= MAX_REPORTED)
        return;
    (void)error_set(&sentence, 0, "%s with id %" PRId64 " %s in the destination", kinds[stream], row->id, what);
    verification->report(sentence.text);
}

static void add_to_totals(struct verification *verification, enum stream stream)
{
    struct totals *totals = &verification->totals[stream];
    size_t count;
    const struct row *rows = rows_of(verification, &count);

    for (size_t i = 0; i < count; i++) {
        totals->in_store++;
        totals->members_in_store += (int64_t)rows[i].member_count;
        totals->found += rows[i].found;
        totals->missing += !rows[i].found;
        totals->different += rows[i].differs;
        if (!rows[i].found || rows[i].differs)
            report_row(verification, stream, &rows[i]);
    }
}

// Compares the rows that read_rows has collected with those in the destination.
static int compare_rows(struct verification *verification, enum stream stream, struct error *error)
{
    size_t count;
    struct row *rows = rows_of(verification, &count);
    struct parameters parameters = {0};
    struct array uids = {0};
    PGresult *result = NULL;
    int r;

    if (count == 0)
        return 0;
    qsort(rows, count, sizeof *rows, by_uid);
    array_start(&uids, ARRAY_OF_BYTES);
    for (size_t i = 0; i < count; i++)
        array_add_bytes(&uids, rows[i].uid, UID_BYTES);
    parameters_add_array(&parameters, &uids);
    r = destination_query(&verification->destination, verification->sql.data, &parameters, 5, &result, error);
    array_finish(&uids);
    if (r < 0)
        return r;
    for (int i = 0; i < PQntuples(result); i++)
        compare_row(verification, &verification->totals[stream], result, i);
    PQclear(result);
    add_to_totals(verification, stream);
    return 0;
}

static int add_row(struct verification *verification, enum stream stream, const struct recorded_row *recorded,
                   int64_t shipped_id)
{
    struct row row = {0};
    int r;

    if (recorded->received_at_ms < verification->since_ms || recorded->received_at_ms >= verification->until_ms)
        return 0;
    if (recorded->id > shipped_id) {
        verification->totals[stream].waiting++;
        return 0;
    }
    r = make_row(verification, stream, recorded, &row);
    return r < 0 ? r : buffer_append(&verification->rows, &row, sizeof row);
}

// Reads the next rows after *after_id, and moves *after_id to the last of them. Collects in verification->rows the rows
// within the period that the destination must have. *ret_count is 0 at the end of the store.
static int read_rows(struct verification *verification, enum stream stream, int64_t shipped_id, int64_t *after_id,
                     size_t *ret_count, struct error *error)
{
    const struct recorded_row *rows;
    int r = store_reader_read(verification->reader, stream, *after_id, &rows, ret_count, error);

    verification->rows.length = 0;
    for (size_t i = 0; r == 0 && i < *ret_count; i++) {
        assert(rows[i].id > *after_id);
        *after_id = rows[i].id;
        r = add_row(verification, stream, &rows[i], shipped_id);
        if (r < 0)
            return error_set(error, -r, "cannot compute a checksum: %s", strerror(-r));
    }
    return r;
}

static int compare_stream(struct verification *verification, enum stream stream, struct error *error)
{
    struct cursor shipped;
    int64_t after_id = 0;
    size_t count = 1;
    int r = cursor_read(&verification->destination, verification->settings->receiver, stream, &shipped, error);

    if (r == 0 && print_sql(stream, &verification->sql) < 0)
        r = error_set(error, ENOMEM, "out of memory");
    while (r == 0 && count > 0) {
        r = read_rows(verification, stream, shipped.id, &after_id, &count, error);
        if (r == 0)
            r = compare_rows(verification, stream, error);
    }
    return r;
}

static bool report_totals(const struct verification *verification, enum stream stream)
{
    const struct totals *totals = &verification->totals[stream];
    struct error sentence;

    (void)error_set(&sentence, 0,
                    "%ss: %" PRId64 " in the store, %" PRId64 " of them in the destination, %" PRId64
                    " missing, %" PRId64 " different; %" PRId64 " not shipped yet",
                    kinds[stream], totals->in_store, totals->found, totals->missing, totals->different,
                    totals->waiting);
    verification->report(sentence.text);
    if (stream == STREAM_GROUPS) {
        (void)error_set(&sentence, 0, "members: %" PRId64 " in the store, %" PRId64 " in the destination",
                        totals->members_in_store, totals->members_found);
        verification->report(sentence.text);
    }
    return totals->missing == 0 && totals->different == 0;
}

int forward_verify(const struct forward_settings *settings, int64_t since_ms, int64_t until_ms, forward_report *report,
                   bool *ret_same, struct error *error)
{
    struct verification verification = {
        .settings = settings, .since_ms = since_ms, .until_ms = until_ms, .report = report};
    int r = store_reader_open(settings->database, &verification.reader, error);

    if (r == 0)
        r = destination_open(&verification.destination, settings, ANSWER_TIMEOUT_MIN_MS, error);
    for (enum stream stream = 0; stream < STREAM_COUNT && r == 0; stream++)
        r = compare_stream(&verification, stream, error);
    if (r == 0)
        *ret_same = true;
    for (enum stream stream = 0; stream < STREAM_COUNT && r == 0; stream++)
        *ret_same = report_totals(&verification, stream) && *ret_same;
    buffer_finish(&verification.sql);
    buffer_finish(&verification.rows);
    buffer_finish(&verification.text);
    destination_close(&verification.destination);
    store_reader_close(verification.reader);
    return r;
}
