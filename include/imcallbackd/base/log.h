// The log writes one line per event to standard error, for the journal, a pipe or a file. Any thread may call these
// functions. Lines of one process never mix, and no function allocates memory. Bytes that are not printable text are
// escaped (\x0a, \x1b), so a client can neither forge a line nor move a terminal's cursor. Never pass a token, a Sign
// or a raw query.

// Rules for a log that accepts data slowly or not at all:
//   - A line waits at most LOG_WAIT_MS for the log. A line of level crit, which may be the only copy of an event, waits
//     LOG_CRIT_WAIT_MS, and again after each piece that the log accepts.
//   - A line that would wait longer is dropped. Until the log accepts data again, the wait of a dropped line counts for
//     all later lines: they are dropped at once, but the first line of level crit waits for the rest of its time. The
//     next line written, at the latest by log_finish(), reports the number of dropped lines.
//   - While one thread writes a line of level crit, a line of another level waits at most LOG_WAIT_MS for its turn. A
//     line of level crit waits for its turn as long as necessary.
//   - A line that was dropped in the middle is ended with a newline before the next line is written.
//   - A write to a regular file blocks as long as the file system does.
//
// Long lines are those with the body of an event that could not be recorded. An operator must know about such lines:
//   - The journal cuts a line at LineMax= of journald.conf(5), 48K by default, into several entries, of which only the
//     first has the priority. `journalctl -u imcallbackd -o cat --all` shows the entries of one _PID in order, so that
//     a body can be put together from them. LineMax=64M keeps the line in one entry.
//   - The journal drops entries that exceed RateLimitBurst=, and reports how many.
//   - In a pipe, a line of more than 4 KiB can mix with lines of another process that writes to the same pipe.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/error.h"

#define LOG_TEXT_BYTES 4096 // size of a formatted text with its NUL; a longer text is cut and ends with "..."
#define LOG_WAIT_MS    1000

// A reader on a busy machine pauses for less time than this. The caller's event loop is blocked while a line waits.
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

// Until the first call, the level is info and the format is text. The caller may change both at any time.
void log_configure(enum log_level level, enum log_format format);

// Once the monotonic clock has reached at_ms, no line waits for the log. A shutdown calls this function to end in time.
void log_set_deadline(int64_t at_ms);

// Reports the dropped lines that were not reported yet; waits at most LOG_WAIT_MS for the log. This must be the last
// call.
void log_finish(void);

// Writes one line: the formatted text, followed by all of the data, which may have any length and hold any bytes.
void log_write_data(enum log_level level, const void *data, size_t length, const char *format, ...) PRINTF_LIKE(4, 5);

#define log_write(level, ...) log_write_data(level, NULL, 0, __VA_ARGS__)

#define log_crit(...)    log_write(LOG_LEVEL_CRIT, __VA_ARGS__)
#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

// Keeps one cause from filling the log: a limit lets one line pass every LOG_RATE_LIMIT_INTERVAL_MS. A zeroed limit is
// ready for use by any thread.
#define LOG_RATE_LIMIT_INTERVAL_MS 10000

struct log_rate_limit {
    atomic_int_fast64_t quiet_until_ms; // on the monotonic clock
    atomic_uint suppressed;             // number of lines since the last line that passed
};

// Returns true if the caller should write the line. The line then reports *ret_suppressed, the number of lines that
// were suppressed since the previous one.
bool log_rate_limit_allows(struct log_rate_limit *limit, unsigned int *ret_suppressed);
