// Writes whole lines to standard error. A thread holds the mutex while it writes a line, so each wait must respect the
// time limit of the line and the deadline of the shutdown.
#include "imcallbackd/base/log.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/utf8.h"

// A line that is being written, in pieces of at most PIPE_BUF bytes. A pipe that poll() reports as writable accepts
// such a piece without blocking. After a failure, flush() discards what put() adds.
struct line {
    char piece[PIPE_BUF];
    size_t length;         // bytes in piece
    int64_t give_up_at_ms; // on the monotonic clock
    bool is_crit;          // waits LOG_CRIT_WAIT_MS again after each piece that the log accepts
    bool is_partly_written;
    bool failed;
};

static const char *const level_names[] = {
    [LOG_LEVEL_CRIT] = "crit", [LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARNING] = "warning",
    [LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug",
};

static atomic_int configured_level = LOG_LEVEL_INFO;
static atomic_int configured_format = LOG_FORMAT_TEXT;
static atomic_int_fast64_t deadline_ms = INT64_MAX;       // on the monotonic clock; no line waits after this time
static atomic_ulong dropped_lines;                        // not reported yet
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; // guards standard error and the following variables
static bool has_unfinished_line;                          // the last line in the log is incomplete
static int64_t stalled_ms; // longest wait of a dropped line since the log last accepted data; 0: no such line

static bool is_level(enum log_level level)
{
    return (size_t)level < sizeof level_names / sizeof level_names[0] && level_names[level];
}

void log_configure(enum log_level level, enum log_format format)
{
    assert(is_level(level));
    assert(format == LOG_FORMAT_TEXT || format == LOG_FORMAT_JSON);
    configured_level = (int)level;
    configured_format = (int)format;
}

// systemd sets JOURNAL_STREAM to "device:inode" of the journal's stream that it passes as standard error; see
// systemd.exec(5).
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    char own[48];
    struct stat status;

    if (!stream || fstat(STDERR_FILENO, &status) < 0)
        return false;
    (void)snprintf(own, sizeof own, "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
    return strcmp(stream, own) == 0;
}

// U+2028 to U+202E and U+2066 to U+2069 break lines or change the direction of the text that a terminal shows.
static bool is_layout_control(const unsigned char *at, size_t length)
{
    return length == 3 && at[0] == 0xe2 &&
           ((at[1] == 0x80 && at[2] >= 0xa8 && at[2] <= 0xae) || (at[1] == 0x81 && at[2] >= 0xa6 && at[2] <= 0xa9));
}

// Returns the number of bytes that the log accepted, or -1 with errno set.
static ssize_t write_some(const char *data, size_t length)
{
    // MSG_DONTWAIT affects this call only. O_NONBLOCK would affect every process that shares standard error.
    ssize_t written = send(STDERR_FILENO, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (written < 0 && errno == ENOTSOCK)
        written = write(STDERR_FILENO, data, length);
    return written;
}

static void flush(struct line *line)
{
    const char *data = line->piece, *end = data + line->length;

    assert(line->length <= sizeof line->piece);
    while (data < end && !line->failed) {
        int64_t now_ms = clock_monotonic_ms();
        int64_t left_ms = clock_min_timeout_ms(line->give_up_at_ms, deadline_ms) - now_ms;
        struct pollfd log = {.fd = STDERR_FILENO, .events = POLLOUT};
        int ready = poll(&log, 1, left_ms > 0 ? (int)left_ms : 0);
        ssize_t written = ready > 0 ? write_some(data, (size_t)(end - data)) : -1;

        if (written < 0) {
            line->failed = ready == 0 || left_ms <= 0 || (errno != EAGAIN && errno != EINTR);
            continue;
        }
        data += written;
        line->is_partly_written = true;
        stalled_ms = 0;
        if (line->is_crit)
            line->give_up_at_ms = clock_monotonic_ms() + LOG_CRIT_WAIT_MS;
    }
    line->length = 0;
}

static void put(struct line *line, const void *data, size_t length)
{
    assert(length <= sizeof line->piece);
    if (length > sizeof line->piece - line->length)
        flush(line);
    memcpy(line->piece + line->length, data, length);
    line->length += length;
}

// The text must be shorter than 128 bytes.
PRINTF_LIKE(2, 3) static void print(struct line *line, const char *format, ...)
{
    char text[128];
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    assert(length >= 0 && (size_t)length < sizeof text);
    put(line, text, (size_t)length);
}

// Escapes backslashes and everything that is not printable UTF-8, and for JSON also quotation marks.
static void put_escaped(struct line *line, const void *text, size_t left, bool json)
{
    const unsigned char *at = text;

    while (left > 0 && !line->failed) {
        size_t length = utf8_length(at, left);
        // U+0080 to U+009F are control characters too; UTF-8 takes two bytes for each.
        bool control =
            *at < 0x20 || *at == 0x7f || (length == 2 && *at == 0xc2 && at[1] < 0xa0) || is_layout_control(at, length);

        if (length == 0 || control) {
            print(line, json ? "\\\\x%02x" : "\\x%02x", *at);
            length = 1;
        } else if (*at == '\\' || (json && *at == '"')) {
            print(line, json && *at == '\\' ? "\\\\\\%c" : "\\%c", *at);
        } else {
            put(line, at, length);
        }
        at += length;
        left -= length;
    }
}

static void put_prefix(struct line *line, enum log_level level, bool json)
{
    struct timespec now;
    struct tm utc;
    char time[sizeof "2026-11-23T12:00:00"] = "";

    if (json ? stderr_is_journal() : !isatty(STDERR_FILENO))
        print(line, "<%d>", (int)level);
    else if (!json)
        print(line, "%s: ", level_names[level]);
    if (!json)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    if (gmtime_r(&now.tv_sec, &utc))
        (void)strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &utc);
    print(line, "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"message\":\"", time, now.tv_nsec / 1000000,
          level_names[level]);
}

// Returns false if the log failed or did not accept the whole line in time.
static bool write_line(enum log_level level, int64_t wait_ms, const char *text, const void *data, size_t length)
{
    struct line line = {.is_crit = level == LOG_LEVEL_CRIT};
    bool json = configured_format == LOG_FORMAT_JSON;

    line.give_up_at_ms = clock_monotonic_ms() + (wait_ms > stalled_ms ? wait_ms - stalled_ms : 0);
    if (has_unfinished_line)
        put(&line, "\n", 1);
    put_prefix(&line, level, json);
    put_escaped(&line, text, strlen(text), json);
    put_escaped(&line, data, length, json);
    print(&line, json ? "\"}\n" : "\n");
    flush(&line);
    has_unfinished_line = line.failed && (has_unfinished_line || line.is_partly_written);
    if (line.failed && stalled_ms < wait_ms)
        stalled_ms = wait_ms;
    return !line.failed;
}

static bool report_dropped_lines(int64_t wait_ms)
{
    unsigned long reported = dropped_lines;
    char text[128];

    (void)snprintf(text, sizeof text, "log: lines dropped because standard error did not accept them: %lu", reported);
    if (!write_line(LOG_LEVEL_ERROR, wait_ms, text, NULL, 0))
        return false;
    dropped_lines -= reported;
    return true;
}

// Returns false if the line must be dropped. Other threads may write lines of level crit for a long time, and only a
// line of level crit may wait that long.
static bool lock(enum log_level level)
{
    const struct timespec end = clock_timespec(clock_realtime_ms() + LOG_WAIT_MS);

    if (level == LOG_LEVEL_CRIT)
        return pthread_mutex_lock(&mutex) == 0;
    return pthread_mutex_timedlock(&mutex, &end) == 0;
}

void log_write_data(enum log_level level, const void *data, size_t length, const char *format, ...)
{
    int64_t wait_ms = level == LOG_LEVEL_CRIT ? LOG_CRIT_WAIT_MS : LOG_WAIT_MS;
    char text[LOG_TEXT_BYTES];
    va_list arguments;

    assert(is_level(level));
    assert(data || length == 0);
    if ((int)level > configured_level)
        return;
    text[0] = '\0';
    va_start(arguments, format);
    if (vsnprintf(text, sizeof text, format, arguments) >= (int)sizeof text)
        memcpy(text + sizeof text - sizeof "...", "...", sizeof "...");
    va_end(arguments);
    if (!lock(level)) {
        dropped_lines++;
        return;
    }
    if ((dropped_lines > 0 && !report_dropped_lines(wait_ms)) || !write_line(level, wait_ms, text, data, length))
        dropped_lines++;
    pthread_mutex_unlock(&mutex);
}

void log_set_deadline(int64_t at_ms)
{
    deadline_ms = at_ms;
}

void log_finish(void)
{
    if (dropped_lines == 0)
        return;
    deadline_ms = INT64_MAX;
    pthread_mutex_lock(&mutex);
    stalled_ms = 0;
    (void)report_dropped_lines(LOG_WAIT_MS);
    pthread_mutex_unlock(&mutex);
}

bool log_rate_limit_allows(struct log_rate_limit *limit, unsigned int *ret_suppressed)
{
    int_fast64_t now_ms = clock_monotonic_ms(), quiet_until_ms = limit->quiet_until_ms;

    // If several threads arrive at the end of an interval, only the thread that starts the next interval writes a line.
    if (now_ms < quiet_until_ms ||
        !atomic_compare_exchange_strong(&limit->quiet_until_ms, &quiet_until_ms, now_ms + LOG_RATE_LIMIT_INTERVAL_MS)) {
        limit->suppressed++;
        return false;
    }
    *ret_suppressed = atomic_exchange(&limit->suppressed, 0);
    return true;
}
