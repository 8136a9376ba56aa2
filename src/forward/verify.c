// Comparing what is here with what is there. The destination makes a checksum of each row and of each list of members,
// and only these come over.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "uid.h"

#include <openssl/evp.h>

#define MAX_TOLD     20
#define MD5_BYTES    16
#define DIGEST_BYTES (2 * MD5_BYTES + 1)
#define BETWEEN      "\x1f" // the fields of which a checksum is made

// How the event came differs between the receivers of the same one.
static const char groups_sql[] =
    "SELECT encode(event_uid, 'hex'), receiver,"
    " md5(concat(sdk_appid::text, E'\\x1f', group_id, E'\\x1f', event_time_ms::text, E'\\x1f', type, E'\\x1f',"
    " owner_account, E'\\x1f', operator_account, E'\\x1f', name, E'\\x1f', member_count::text)),"
    " md5(concat(id::text, E'\\x1f', opt_platform, E'\\x1f', client_ip, E'\\x1f', remote_address, E'\\x1f',"
    " received_at_ms::text, E'\\x1f', md5(body)))"
    " FROM destroyed_group WHERE event_uid = ANY ($1::bytea[])";

static const char members_sql[] =
    "SELECT encode(event_uid, 'hex'), count(*), md5(string_agg(member_account, E'\\x1f' ORDER BY position))"
    " FROM destroyed_group_member WHERE event_uid = ANY ($1::bytea[]) GROUP BY event_uid";

static const char rejections_sql[] =
    "SELECT encode(callback_uid, 'hex'), receiver,"
    " md5(concat(sdk_appid::text, E'\\x1f', callback_command, E'\\x1f', reason, E'\\x1f', remote_address)),"
    " md5(concat(id::text, E'\\x1f', received_at_ms::text, E'\\x1f', md5(body)))"
    " FROM rejected_callback WHERE callback_uid = ANY ($1::bytea[])";

// What is here, and what was found of it.
struct row {
    unsigned char uid[UID_BYTES];
    int64_t id;
    char content[DIGEST_BYTES];
    char reception[DIGEST_BYTES];
    char members[DIGEST_BYTES];
    int64_t member_count;
    bool found, members_found, differs;
};

struct count {
    int64_t here, there, members_here, members_there, missing, different, waiting;
};

struct verification {
    const struct forward_settings *settings;
    int64_t since_ms, until_ms;
    forward_report *tell;
    struct destination destination;
    struct store_reader *reader;
    struct buffer rows; // struct row, sorted by uid once they are all there
    struct buffer text; // of which a checksum is made
    int code;           // the first failure to make one
    struct count counts[STREAM_COUNT];
    unsigned int told;
};

static const char *const kinds[STREAM_COUNT] = {"event", "rejected callback"};

// Checksums

static void add_text(struct verification *verification, const char *text)
{
    if (verification->code == 0)
        verification->code = text_append(&verification->text, text);
    if (verification->code == 0)
        verification->code = buffer_append(&verification->text, BETWEEN, 1);
}

static void add_integer(struct verification *verification, bool there, int64_t value)
{
    if (verification->code == 0)
        verification->code = there ? buffer_print(&verification->text, "%" PRId64 BETWEEN, value)
                                   : buffer_append(&verification->text, BETWEEN, 1);
}

static void print_md5(struct verification *verification, const void *data, size_t length, char digest[DIGEST_BYTES])
{
    unsigned char bytes[MD5_BYTES] = {0};

    if (EVP_Digest(data, length, bytes, NULL, EVP_md5(), NULL) != 1)
        verification->code = -EIO;
    for (size_t i = 0; i < MD5_BYTES; i++)
        (void)snprintf(digest + 2 * i, 3, "%02x", bytes[i]);
}

// Of all that was added, without what stands behind the last one. Nothing at all has none.
static void finish_digest(struct verification *verification, char digest[DIGEST_BYTES])
{
    if (verification->text.length > 0)
        print_md5(verification, verification->text.data, verification->text.length - 1, digest);
    verification->text.length = 0;
}

static void add_body(struct verification *verification, bool there, const char *body, size_t length)
{
    char digest[DIGEST_BYTES] = "";

    if (there)
        print_md5(verification, body, length, digest);
    add_text(verification, digest);
}

static int make_group_row(struct verification *verification, const struct recorded_row *group, struct row *row)
{
    const struct destroyed_group *event = &group->event.group;
    int r = uid_of_group(group, verification->settings->receiver, row->uid);

    row->id = group->id;
    row->member_count = (int64_t)event->member_count;
    add_integer(verification, true, event->sdk_appid);
    add_text(verification, event->group_id);
    add_integer(verification, event->has_event_time, event->event_time_ms);
    add_text(verification, event->type);
    add_text(verification, event->owner_account);
    add_text(verification, event->operator_account);
    add_text(verification, event->name);
    add_integer(verification, event->has_member_list, row->member_count);
    finish_digest(verification, row->content);
    add_integer(verification, true, group->id);
    add_text(verification, event->opt_platform);
    add_text(verification, event->client_ip);
    add_text(verification, event->remote_address);
    add_integer(verification, true, event->received_at_ms);
    add_body(verification, event->keep_body, event->body, event->body_length);
    finish_digest(verification, row->reception);
    for (size_t i = 0; i < event->member_count; i++)
        add_text(verification, event->members[i]);
    finish_digest(verification, row->members);
    return r;
}

static int make_rejection_row(struct verification *verification, const struct recorded_row *rejection, struct row *row)
{
    const struct rejected_callback *callback = &rejection->event.rejection;
    int r = uid_of_rejection(rejection, verification->settings->receiver, row->uid);

    row->id = rejection->id;
    add_integer(verification, true, callback->sdk_appid);
    add_text(verification, callback->callback_command);
    add_text(verification, callback->reason);
    add_text(verification, callback->remote_address);
    finish_digest(verification, row->content);
    add_integer(verification, true, rejection->id);
    add_integer(verification, true, callback->received_at_ms);
    add_body(verification, true, callback->body, callback->body_length);
    finish_digest(verification, row->reception);
    return r;
}

// Comparing

static int by_uid(const void *one, const void *other)
{
    return memcmp(((const struct row *)one)->uid, ((const struct row *)other)->uid, UID_BYTES);
}

static struct row *find_row(struct verification *verification, const char *hex)
{
    struct row wanted = {0};

    for (size_t i = 0; i < UID_BYTES; i++)
        (void)sscanf(hex + 2 * i, "%2hhx", &wanted.uid[i]);
    return bsearch(&wanted, verification->rows.data, verification->rows.length / sizeof wanted, sizeof wanted, by_uid);
}

static void compare_row(struct verification *verification, const PGresult *result, int at)
{
    struct row *row = find_row(verification, PQgetvalue(result, at, 0));
    bool is_ours = strcmp(PQgetvalue(result, at, 1), verification->settings->receiver) == 0;

    if (!row)
        return;
    row->found = true;
    row->differs = strcmp(PQgetvalue(result, at, 2), row->content) != 0 ||
                   (is_ours && strcmp(PQgetvalue(result, at, 3), row->reception) != 0);
}

static void compare_members(struct verification *verification, const PGresult *result, int at)
{
    struct row *row = find_row(verification, PQgetvalue(result, at, 0));
    int64_t count = strtoll(PQgetvalue(result, at, 1), NULL, 10);

    verification->counts[STREAM_GROUPS].members_there += count;
    if (!row)
        return;
    row->members_found = true;
    row->differs = row->differs || count != row->member_count || strcmp(PQgetvalue(result, at, 2), row->members) != 0;
}

static int ask(struct verification *verification, const char *sql, struct array *uids,
               void (*compare)(struct verification *, const PGresult *, int), struct error *error)
{
    struct parameters parameters = {0};
    PGresult *result = NULL;
    int r;

    parameters_add_array(&parameters, uids);
    r = destination_query(&verification->destination, sql, &parameters, &result, error);
    if (r < 0)
        return r;
    for (int i = 0; i < PQntuples(result); i++)
        compare(verification, result, i);
    PQclear(result);
    return 0;
}

static void tell_of(struct verification *verification, enum stream stream, const struct row *row, const char *what)
{
    struct error sentence;

    if (verification->told++ >= MAX_TOLD)
        return;
    (void)error_set(&sentence, 0, "%s with id %" PRId64 " %s", kinds[stream], row->id, what);
    verification->tell(sentence.text);
}

static void sum_up(struct verification *verification, enum stream stream)
{
    const struct row *rows = (const struct row *)(const void *)verification->rows.data;
    struct count *count = &verification->counts[stream];

    for (size_t i = 0; i < verification->rows.length / sizeof *rows; i++) {
        const struct row *row = &rows[i];

        count->here++;
        count->there += row->found;
        count->members_here += row->member_count;
        if (!row->found) {
            count->missing++;
            tell_of(verification, stream, row, "is missing in the destination");
        } else if (row->differs || row->members_found != (row->member_count > 0)) {
            count->different++;
            tell_of(verification, stream, row, "is another one in the destination");
        }
    }
}

// The rows of one read.
static int compare_rows(struct verification *verification, enum stream stream, struct error *error)
{
    struct row *rows = (struct row *)(void *)verification->rows.data;
    size_t count = verification->rows.length / sizeof *rows;
    struct array uids = {0};
    int r = 0;

    if (count == 0)
        return 0;
    qsort(rows, count, sizeof *rows, by_uid);
    array_begin(&uids, ARRAY_OF_BYTES);
    for (size_t i = 0; i < count; i++)
        array_add_bytes(&uids, rows[i].uid, UID_BYTES);
    r = ask(verification, stream == STREAM_GROUPS ? groups_sql : rejections_sql, &uids, compare_row, error);
    if (r == 0 && stream == STREAM_GROUPS)
        r = ask(verification, members_sql, &uids, compare_members, error);
    array_finish(&uids);
    if (r == 0)
        sum_up(verification, stream);
    return r;
}

// Going through

static int add_row(struct verification *verification, enum stream stream, const void *recorded, int64_t shipped_id)
{
    const struct recorded_row *group = recorded;
    const struct recorded_row *rejection = recorded;
    bool is_group = stream == STREAM_GROUPS;
    int64_t received_at_ms = is_group ? group->received_at_ms : rejection->received_at_ms;
    struct row row = {0};
    int r;

    if (received_at_ms < verification->since_ms || received_at_ms >= verification->until_ms)
        return 0;
    if ((is_group ? group->id : rejection->id) > shipped_id) {
        verification->counts[stream].waiting++;
        return 0;
    }
    r = is_group ? make_group_row(verification, group, &row) : make_rejection_row(verification, rejection, &row);
    if (r == 0)
        r = verification->code;
    return r < 0 ? r : buffer_append(&verification->rows, &row, sizeof row);
}

// Reads behind *after_id, and moves that to the last row that was read.
static int read_rows(struct verification *verification, enum stream stream, int64_t shipped_id, int64_t *after_id,
                     size_t *ret_count, struct error *error)
{
    const struct recorded_row *rejections = NULL;
    const struct recorded_row *groups = NULL;
    bool is_group = stream == STREAM_GROUPS;
    int r = is_group
                ? store_reader_read(verification->reader, STREAM_GROUPS, *after_id, &groups, ret_count, error)
                : store_reader_read(verification->reader, STREAM_REJECTIONS, *after_id, &rejections, ret_count, error);

    verification->rows.length = 0;
    for (size_t i = 0; r == 0 && i < *ret_count; i++) {
        *after_id = is_group ? groups[i].id : rejections[i].id;
        r = add_row(verification, stream, is_group ? (const void *)&groups[i] : &rejections[i], shipped_id);
        if (r < 0)
            return error_set(error, -r, "a checksum cannot be made: %s", strerror(-r));
    }
    return r;
}

static int compare_stream(struct verification *verification, enum stream stream, struct error *error)
{
    struct cursor shipped;
    int64_t after_id = 0;
    size_t count = 1;
    int r = cursor_read(&verification->destination, verification->settings->receiver, stream, &shipped, error);

    while (r == 0 && count > 0) {
        r = read_rows(verification, stream, shipped.id, &after_id, &count, error);
        if (r == 0)
            r = compare_rows(verification, stream, error);
    }
    return r;
}

static bool tell_counts(const struct verification *verification)
{
    const struct count *events = &verification->counts[STREAM_GROUPS];
    bool same = true;

    for (enum stream stream = 0; stream < STREAM_COUNT; stream++) {
        const struct count *count = &verification->counts[stream];
        struct error sentence;

        (void)error_set(&sentence, 0,
                        "%ss: %" PRId64 " here, %" PRId64 " of them there, %" PRId64 " missing, %" PRId64
                        " different; %" PRId64 " are not shipped yet",
                        kinds[stream], count->here, count->there, count->missing, count->different, count->waiting);
        verification->tell(sentence.text);
        if (stream == STREAM_GROUPS) {
            (void)error_set(&sentence, 0, "members: %" PRId64 " here, %" PRId64 " there", events->members_here,
                            events->members_there);
            verification->tell(sentence.text);
        }
        same = same && count->missing == 0 && count->different == 0;
    }
    return same;
}

int forward_verify(const struct forward_settings *settings, int64_t since_ms, int64_t until_ms, forward_report *tell,
                   bool *ret_same, struct error *error)
{
    struct verification verification = {.settings = settings, .since_ms = since_ms, .until_ms = until_ms, .tell = tell};
    int r = store_reader_open(settings->database, &verification.reader, error);

    if (r == 0)
        r = destination_open(&verification.destination, settings, SILENCE_MIN_MS, error);
    for (enum stream stream = 0; stream < STREAM_COUNT && r == 0; stream++)
        r = compare_stream(&verification, stream, error);
    if (r == 0)
        *ret_same = tell_counts(&verification);
    buffer_finish(&verification.rows);
    buffer_finish(&verification.text);
    destination_close(&verification.destination);
    store_reader_close(verification.reader);
    return r;
}
