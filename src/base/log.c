#include "imcallbackd/base/log.h"

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

// A line on its way, in pieces of a size that a pipe with any room takes without blocking. Whatever put() is given
// after a failure is dropped.
struct line {
    char piece[PIPE_BUF];
    size_t length;
    int64_t give_up_at_ms;
    bool earns; // by what gets out of it, the patience for the rest and for the next line
    bool begun; // something of it is out
    bool failed;
};

static const char *const level_names[] = {
    [LOG_LEVEL_CRIT] = "crit", [LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARNING] = "warning",
    [LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug",
};

// In so many times as long the patience comes back.
#define RECOVERY_TIMES 10

// What a line of level crit earns by each piece of it that the log takes.
#define EARNED_PER_PIECE_MS 8

static atomic_int configured_level = LOG_LEVEL_INFO;
static atomic_int configured_format = LOG_FORMAT_TEXT;
static atomic_int_fast64_t hurried_at_ms = INT64_MAX;     // by the monotonic clock; then no line waits any more
static atomic_ulong lost;                                 // lines that nobody has been told of yet
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; // guards standard error and what follows
static bool torn;                                         // the last line that got out lacks its end
static int64_t patience_ms = LOG_PATIENCE_MS;             // that is left to all lines
static int64_t counted_at_ms;                             // when some of it last came back

void log_configure(enum log_level level, enum log_format format)
{
    configured_level = (int)level;
    configured_format = (int)format;
}

// systemd sets JOURNAL_STREAM to "device:inode" of the stream that it gave us; see systemd.exec(5).
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

// U+2028 to U+202E and U+2066 to U+2069 break lines or turn the direction of what a person reads.
static bool is_layout_control(const unsigned char *at, size_t length)
{
    return length == 3 && at[0] == 0xe2 &&
           ((at[1] == 0x80 && at[2] >= 0xa8 && at[2] <= 0xae) || (at[1] == 0x81 && at[2] >= 0xa6 && at[2] <= 0xa9));
}

static void earn(struct line *line)
{
    int64_t latest_ms = clock_monotonic_ms() + LOG_PATIENCE_MS;

    line->give_up_at_ms += EARNED_PER_PIECE_MS;
    if (line->give_up_at_ms > latest_ms)
        line->give_up_at_ms = latest_ms;
}

static void flush(struct line *line)
{
    const char *data = line->piece, *end = data + line->length;

    while (data < end && !line->failed) {
        int64_t left_ms = clock_min_timeout_ms(line->give_up_at_ms, hurried_at_ms) - clock_monotonic_ms();
        struct pollfd log = {.fd = STDERR_FILENO, .events = POLLOUT};
        int ready = poll(&log, 1, left_ms > 0 ? (int)left_ms : 0);
        ssize_t written = -1;

        // Not O_NONBLOCK, which whoever shares standard error with us would have too.
        if (ready > 0)
            written = send(STDERR_FILENO, data, (size_t)(end - data), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (ready > 0 && written < 0 && errno == ENOTSOCK)
            written = write(STDERR_FILENO, data, (size_t)(end - data));
        if (written >= 0)
            data += written;
        else
            line->failed = ready == 0 || (errno != EAGAIN && errno != EINTR);
        line->begun = line->begun || written > 0;
    }
    if (line->earns && !line->failed)
        earn(line);
    line->length = 0;
}

static void put(struct line *line, const void *data, size_t length)
{
    if (length > sizeof line->piece - line->length)
        flush(line);
    memcpy(line->piece + line->length, data, length);
    line->length += length;
}

// What it prints is short.
static void print(struct line *line, const char *format, ...) PRINTF_LIKE(2, 3);

static void print(struct line *line, const char *format, ...)
{
    char text[128];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    put(line, text, strlen(text));
}

// Everything that is not printable UTF-8 is escaped; json also escapes what JSON wants escaped.
static void put_escaped(struct line *line, const void *text, size_t left, bool json)
{
    const unsigned char *at = text;

    while (left > 0 && !line->failed) {
        size_t length = utf8_length(at, left);
        // U+0080 to U+009F are control characters too, in two bytes.
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

// Waits for *wait_ms at most, of which what is left stays. False: the line is lost.
static bool write_line(enum log_level level, const char *text, const void *data, size_t length, int64_t *wait_ms)
{
    struct line line = {.give_up_at_ms = clock_monotonic_ms() + *wait_ms, .earns = level == LOG_LEVEL_CRIT};
    bool json = configured_format == LOG_FORMAT_JSON;

    if (torn)
        put(&line, "\n", 1);
    put_prefix(&line, level, json);
    put_escaped(&line, text, strlen(text), json);
    put_escaped(&line, data, length, json);
    print(&line, json ? "\"}\n" : "\n");
    flush(&line);
    torn = line.failed && (torn || line.begun);
    *wait_ms = line.give_up_at_ms - clock_monotonic_ms();
    if (*wait_ms < 0)
        *wait_ms = 0;
    return !line.failed;
}

static bool tell_lost(int64_t *wait_ms)
{
    unsigned long told = lost;
    char text[128];

    (void)snprintf(text, sizeof text, "lines of this log that are lost, because nothing took them: %lu", told);
    if (!write_line(LOG_LEVEL_ERROR, text, NULL, 0, wait_ms))
        return false;
    lost -= told;
    return true;
}

static void recover_patience(void)
{
    int64_t now_ms = clock_monotonic_ms();

    patience_ms += (now_ms - counted_at_ms) / RECOVERY_TIMES;
    counted_at_ms = now_ms - (now_ms - counted_at_ms) % RECOVERY_TIMES;
    if (patience_ms > LOG_PATIENCE_MS)
        patience_ms = LOG_PATIENCE_MS;
}

// Lines of level crit may take long one after another, and only they are worth the wait for that.
static bool enter(enum log_level level)
{
    const struct timespec end = clock_timespec(clock_realtime_ms() + LOG_PATIENCE_MS);

    if (level == LOG_LEVEL_CRIT)
        return pthread_mutex_lock(&mutex) == 0;
    return pthread_mutex_timedlock(&mutex, &end) == 0;
}

void log_write_data(enum log_level level, const void *data, size_t length, const char *format, ...)
{
    char text[LOG_TEXT_BYTES];
    int64_t no_ms = 0;
    va_list arguments;

    if ((int)level > configured_level)
        return;
    text[0] = '\0';
    va_start(arguments, format);
    if (vsnprintf(text, sizeof text, format, arguments) >= (int)sizeof text)
        memcpy(text + sizeof text - sizeof "...", "...", sizeof "...");
    va_end(arguments);
    if (!enter(level)) {
        lost++;
        return;
    }
    recover_patience();
    // While the log is stuck no usual line waits for it: the first one that passes is the one that tells.
    if ((lost > 0 && !tell_lost(level == LOG_LEVEL_CRIT ? &patience_ms : &no_ms)) ||
        !write_line(level, text, data, length, &patience_ms))
        lost++;
    pthread_mutex_unlock(&mutex);
}

void log_set_deadline(int64_t at_ms)
{
    hurried_at_ms = at_ms;
}

void log_finish(void)
{
    int64_t wait_ms = LOG_PATIENCE_MS;

    if (lost == 0)
        return;
    hurried_at_ms = INT64_MAX;
    pthread_mutex_lock(&mutex);
    (void)tell_lost(&wait_ms);
    pthread_mutex_unlock(&mutex);
}

bool log_rate_limit_allows(struct log_rate_limit *limit, unsigned int *ret_suppressed)
{
    int_fast64_t now_ms = clock_monotonic_ms(), quiet_until_ms = limit->quiet_until_ms;

    // When several threads arrive at the end of an interval, only the one that moves the interval on writes its line.
    if (now_ms < quiet_until_ms ||
        !atomic_compare_exchange_strong(&limit->quiet_until_ms, &quiet_until_ms, now_ms + LOG_RATE_LIMIT_INTERVAL_MS)) {
        limit->suppressed++;
        return false;
    }
    *ret_suppressed = atomic_exchange(&limit->suppressed, 0);
    return true;
}
