// The log writes one line per message to standard error, which can be the journal, a pipe, a file or a terminal. Any
// thread may call these functions. Lines of one process never mix, and no function allocates memory. Bytes that are not
// printable text are escaped (\x0a, \x1b), so a client can neither forge a line nor move a terminal's cursor. A caller
// must never pass a token, a Sign or a raw query.

// Rules for a log that accepts data slowly or not at all:
//   - A line waits at most LOG_WAIT_MS for the log. A line of level crit, which may be the only copy of an event, waits
//     at most LOG_CRIT_WAIT_MS, and this time starts again after each piece that the log accepts.
//   - A line that would wait longer, or whose write fails, is dropped. Until the log accepts data again, the wait of a
//     dropped line counts for all later lines: they are dropped at once, except that the first line of level crit waits
//     for the rest of LOG_CRIT_WAIT_MS. The log reports the number of dropped lines before it writes the next line, or
//     in log_finish() at the latest.
//   - While another thread writes a line, a line of level crit waits for its turn without a time limit. A line of any
//     other level waits at most LOG_WAIT_MS for its turn and is then dropped.
//   - If a part of a dropped line was written, the log ends this part with a newline before it writes the next line.
//   - A write to a regular file blocks as long as the file system does.
//
// A line with the body of an event that could not be recorded can be very long. An operator must know about such lines:
//   - The journal cuts a line at LineMax= of journald.conf(5), 48K by default, into several entries, of which only the
//     first has the priority. `journalctl -u imcallbackd -o cat --all` shows the entries of one process in order, so
//     that an operator can put the body together. LineMax=64M keeps the line in one entry.
//   - The journal drops entries that exceed RateLimitBurst=, and reports how many it has dropped.
//   - In a pipe, a line of more than 4 KiB can mix with lines of another process that writes to the same pipe.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/error.h"

#define LOG_TEXT_BYTES 4096 // size of a formatted text with its NUL; a longer text is cut and ends with "..."
#define LOG_WAIT_MS    1000

// This time is longer than the reader of the log pauses on a busy machine. A larger value would block the caller, such
// as an event loop, for too long.
#define LOG_CRIT_WAIT_MS 5000

// The values are those of syslog(3) and of the journal's "<N>" prefix.
enum log_level {
    LOG_LEVEL_CRIT = 2,
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7,
};

enum log_format {
    LOG_FORMAT_TEXT, // "<6>text", or "info: text" on a terminal
    LOG_FORMAT_JSON, // {"time":"…Z","level":"info","message":"…"}, with "<6>" in front only for the journal
};

// Sets the least severe level that is written, and the format. Before the first call, the level is info and the format
// is text. Any thread may call this at any time.
void log_configure(enum log_level level, enum log_format format);

// Once the monotonic clock has reached at_ms, no line waits for the log. A shutdown sets this deadline, so that a slow
// log cannot delay the exit.
void log_set_deadline(int64_t at_ms);

// Reports how many lines were dropped since the last such report, if any were. Waits at most LOG_WAIT_MS for the log,
// even after the deadline of log_set_deadline(). This must be the last call to the log, because lines that are dropped
// later are not reported.
void log_finish(void);

// Writes one line, unless log_configure() has excluded the level: the formatted text, followed by all of the data,
// which may have any length and hold any bytes. data may be NULL if length is 0.
void log_write_data(enum log_level level, const void *data, size_t length, const char *format, ...) PRINTF_LIKE(4, 5);

#define log_write(level, ...) log_write_data(level, NULL, 0, __VA_ARGS__)

#define log_crit(...)    log_write(LOG_LEVEL_CRIT, __VA_ARGS__)
#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

// Keeps one cause from filling the log: a limit lets at most one line pass every LOG_RATE_LIMIT_INTERVAL_MS. A zeroed
// limit is ready for use by any thread.
#define LOG_RATE_LIMIT_INTERVAL_MS 10000

struct log_rate_limit {
    atomic_int_fast64_t quiet_until_ms; // on the monotonic clock
    atomic_uint suppressed;             // number of lines since the last line that passed
};

// Returns true if the caller should write the line. Then *ret_suppressed is the number of lines that were suppressed
// since the last line that passed, and the caller should report this number in the line.
bool log_rate_limit_allows(struct log_rate_limit *limit, unsigned int *ret_suppressed);
