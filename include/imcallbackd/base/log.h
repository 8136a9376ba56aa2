// The log: one line an event on standard error, for the journal, a pipe or a file. Any thread may call; lines of the
// process never mix, and nothing is taken from the heap. Bytes that are not printable text are escaped (\x0a, \x1b), so
// a caller of the daemon can neither forge a line nor move a terminal's cursor. Never pass a token, a Sign or a raw
// query.
//
// Nobody waits for long on a log that is not read, or read slowly. All lines together wait LOG_PATIENCE_MS at most,
// which comes back in ten times as long; a line that cannot wait any more is lost, and so are those behind it, at once,
// until the log takes something again: then a line of level error says how many are missing, at the latest at the end
// of the process. A line that was lost half written is ended there. (A file is written as the system lets us.)
//
// Lines of level crit, which may be the last place of an event, also earn patience by each 4 KiB that the log takes of
// them: one that takes half a MiB and 125 lines of them a second loses none, and those who log them go at its pace. For
// them others wait LOG_PATIENCE_MS at most, and then lose their line.
//
// What an operator has to know of long lines, which are those that hold the body of an event that could not be
// recorded:
//   - The journal cuts a line at LineMax= of journald.conf(5), 48K by default, into entries of which only the first has
//     the priority; a body is put together from the entries that follow one another under one _PID, as
//     `journalctl -u imcallbackd -o cat --all` shows them. LineMax=64M keeps it in one.
//   - The journal drops what comes faster than RateLimitBurst= allows, and says so.
//   - In a pipe, lines of more than 4 KiB can mix with those of another process that writes to it.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/error.h"

#define LOG_TEXT_BYTES  4096 // of a formatted text with its NUL; what is longer is cut and ends with "..."
#define LOG_PATIENCE_MS 1000

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
    LOG_FORMAT_JSON, // {"time":"…Z","level":"info","message":"…"}, after "<6>" only where standard error is the journal
};

// Before this is called the log stands at info and text. May be called again at any time.
void log_configure(enum log_level level, enum log_format format);

// From this time on, by the monotonic clock, no line waits any more: for an end that has to come in time.
void log_set_deadline(int64_t at_ms);

// Tells how many lines are lost when nobody was told yet, and waits LOG_PATIENCE_MS at most for that. Call it last.
void log_finish(void);

// One line: the formatted text and behind it the data, whole, however long they are and whatever bytes they hold.
void log_write_data(enum log_level level, const void *data, size_t length, const char *format, ...) PRINTF_LIKE(4, 5);

#define log_write(level, ...) log_write_data(level, NULL, 0, __VA_ARGS__)

#define log_crit(...)    log_write(LOG_LEVEL_CRIT, __VA_ARGS__)
#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

// Keeps one cause from filling the log: a limit lets one line pass in LOG_RATE_LIMIT_INTERVAL_MS. Zero-initialized, it
// is ready for use by any thread.
#define LOG_RATE_LIMIT_INTERVAL_MS 10000

struct log_rate_limit {
    atomic_int_fast64_t quiet_until_ms; // by the monotonic clock
    atomic_uint suppressed;
};

// Returns true if the caller is to write the line. The line then reports *ret_suppressed, the number of lines that were
// suppressed since the previous one.
bool log_rate_limit_allows(struct log_rate_limit *limit, unsigned int *ret_suppressed);
