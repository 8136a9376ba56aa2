// `export` prints recorded events as JSON Lines in UTF-8. Control characters are escaped, so that each event is exactly
// one line. The first SIGTERM or SIGINT ends the export after a complete line.
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "imcallbackd/base/parse.h"
#include "imcallbackd/command/command.h"
#include "imcallbackd/outbound/cursor.h"
#include "imcallbackd/store/reader.h"
#include "options.h"

#define FLUSH_BYTES ((size_t)65536) // the export writes its lines at this size, and after each read of the store

static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
    (void)number;
    stopping = 1;
}

// After the first signal, the export still writes the lines that it has formatted. The same signal a second time ends
// the process at once, in case the reader of the output does not read those lines.
static void handle_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
}

// With --follow, an export that has nothing to write would otherwise not notice that the reader closed the pipe.
static bool is_pipe_closed(int fd)
{
    struct pollfd output = {.fd = fd};

    return poll(&output, 1, 0) > 0 && (output.revents & POLLERR) != 0;
}

static int print_string(struct buffer *text, const char *string, size_t length)
{
    int r = buffer_append(text, "\"", 1);

    if (r == 0)
        r = buffer_append_json(text, string, length);
    return r < 0 ? r : buffer_append(text, "\"", 1);
}

static int print_column(struct buffer *text, const struct column *column, const struct destroyed_group *group)
{
    struct column_value value = column_get(column, group);
    int r = buffer_print(text, ",\"%s\":", column->name);

    if (r < 0)
        return r;
    if (value.is_null)
        return buffer_print(text, "null");
    if (column->type == COLUMN_INTEGER)
        return buffer_print(text, "%" PRId64, value.integer);
    return print_string(text, value.data, value.length);
}

// Appends one line with a JSON object. The keys of the object are "id", the columns of destroyed_group, and "members",
// which is an array of the accounts in the order of the callback.
static int print_event(struct buffer *text, int64_t id, const struct destroyed_group *group)
{
    const struct stream_table *table = &stream_tables[STREAM_GROUPS];
    int r = buffer_print(text, "{\"id\":%" PRId64, id);

    for (size_t i = 0; i < table->column_count && r == 0; i++)
        r = print_column(text, &table->columns[i], group);
    if (r == 0)
        r = buffer_print(text, ",\"members\":[");
    for (size_t i = 0; i < group->member_count && r == 0; i++) {
        if (i > 0)
            r = buffer_append(text, ",", 1);
        if (r == 0)
            r = print_string(text, group->members[i], strlen(group->members[i]));
    }
    return r < 0 ? r : buffer_print(text, "]}\n");
}

// Writes the text to standard output, and then empties the buffer. Returns 0, or -errno without emptying the buffer.
static int flush(struct buffer *text)
{
    for (size_t done = 0; done < text->length;) {
        ssize_t written = write(STDOUT_FILENO, text->data + done, text->length - done);

        if (written >= 0)
            done += (size_t)written;
        else if (errno == EAGAIN) // another process that shares the open file made it non-blocking
            (void)poll(&(struct pollfd){.fd = STDOUT_FILENO, .events = POLLOUT}, 1, -1);
        else if (errno != EINTR)
            return -errno;
    }
    text->length = 0;
    return 0;
}

// Prints the rows, but stops early after a signal. Advances *last to the last row that the function started to print.
// Returns 0, -ENOMEM, or another -errno if standard output cannot be written.
static int print_rows(struct buffer *text, const struct recorded_row *rows, size_t count, struct cursor *last)
{
    int r = 0;

    for (size_t i = 0; i < count && !stopping && r == 0; i++) {
        r = print_event(text, rows[i].id, &rows[i].event.group);
        *last = (struct cursor){rows[i].id, rows[i].received_at_ms};
        if (r == 0 && text->length >= FLUSH_BYTES)
            r = flush(text);
    }
    return r < 0 ? r : flush(text);
}

// Reads the next rows. Fails with -ESTALE if the row at `last` has changed, because then a backup was restored into the
// open database.
static int read_rows(struct store_reader *reader, const struct cursor *last, const struct recorded_row **ret_rows,
                     size_t *ret_count, struct error *error)
{
    bool matches = true;
    int r = store_reader_read(reader, STREAM_GROUPS, last->id, ret_rows, ret_count, error);

    if (r == 0 && *ret_count > 0)
        r = cursor_check(reader, STREAM_GROUPS, last, &matches, error);
    if (r < 0 || matches)
        return r;
    return error_set(error, ESTALE,
                     "the database was restored from a backup: another event has the id %" PRId64
                     " now; continue after the newest id of the backup",
                     last->id);
}

// Without `follow`, the function ends once it has printed the event that was the newest one at its start. Otherwise an
// export that is slower than the load would never end. A row that does not exist at the start has the time -1, so that
// a row that gets its id later does not match.
static int export_events(struct store_reader *reader, struct buffer *text, int64_t since, bool follow,
                         struct error *error)
{
    struct cursor last = {.id = since};
    const struct recorded_row *rows;
    int64_t newest_id;
    size_t count;
    int r = store_reader_read_position(reader, STREAM_GROUPS, since, &newest_id, &last.received_at_ms, error);

    if (r < 0)
        return r;
    for (;;) {
        r = read_rows(reader, &last, &rows, &count, error);
        if (r < 0)
            return r;
        r = print_rows(text, rows, count, &last);
        if (r == -EPIPE) // a program such as head closes the pipe when it has read enough
            return 0;
        if (r < 0)
            return error_set(error, -r,
                             "standard output: cannot be written: %s; the last line may be incomplete, and lines up to "
                             "id %" PRId64 " may be missing",
                             strerror(-r), last.id);
        if (stopping && !follow)
            return error_set(error, EINTR, "stopped by a signal after id %" PRId64 "; continue with --since %" PRId64,
                             last.id, last.id);
        if (stopping || (!follow && (count == 0 || last.id >= newest_id)) ||
            (count == 0 && is_pipe_closed(STDOUT_FILENO)))
            return 0;
        if (count == 0)
            store_reader_wait(reader);
    }
}

static int export_from(const char *config_path, int64_t since, bool follow, struct error *error)
{
    struct config config = {0};
    struct store_reader *reader = NULL;
    struct buffer text = {0};
    int r = config_read(config_path, &config, error);

    if (r == 0)
        r = store_reader_open(config.store_database.text, &reader, error);
    if (r == 0)
        r = export_events(reader, &text, since, follow, error);
    // A network file system may report that a write failed, for example because the disk is full, only when the file is
    // closed.
    if (r == 0 && close(STDOUT_FILENO) < 0)
        r = error_set(error, errno, "standard output: cannot be written: %s", strerror(errno));
    buffer_finish(&text);
    store_reader_close(reader);
    config_finish(&config);
    return r;
}

int command_export(int argc, char **argv)
{
    const char *path = NULL, *since = NULL;
    struct option_spec specs[] = {
        {"--config", "-c", &path, 1, 0},
        {"--since", NULL, &since, 1, 0},
        {"--follow", NULL, NULL, 1, 0},
    };
    struct error error;
    uint64_t id = 0;

    if (options_read(argc, argv, specs, sizeof specs / sizeof specs[0]) < 0)
        return EXIT_USAGE;
    if (!path)
        return options_wrong_usage(argv[0], "-c FILE is required");
    if (since && parse_decimal(since, strlen(since), INT64_MAX, &id) < 0)
        return options_wrong_usage(argv[0], "--since requires the id of an event, a decimal number");
    handle_signals();
    return export_from(path, (int64_t)id, specs[2].count > 0, &error) < 0 ? command_failed(argv[0], &error) : 0;
}
