// The log: one line an event on standard error, for the journal or for a file. Any thread may call; a line is written
// whole, with one write(2). Bytes that are not printable text are escaped (\n, \x1b), so a caller of the daemon can
// neither forge a line nor move a terminal's cursor. Never pass a token, a Sign or a raw query.
#pragma once

#include "imcallbackd/base/error.h"

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

void log_write(enum log_level level, const char *format, ...) PRINTF_LIKE(2, 3);

#define log_crit(...)    log_write(LOG_LEVEL_CRIT, __VA_ARGS__)
#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
