#include "imcallbackd/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/utf8.h"

static atomic_int configured_level = LOG_LEVEL_INFO;
static atomic_int configured_format = LOG_FORMAT_TEXT;

void log_configure(enum log_level level, enum log_format format)
{
    configured_level = (int)level;
    configured_format = (int)format;
}

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_CRIT:
        return "crit";
    case LOG_LEVEL_ERROR:
        return "error";
    case LOG_LEVEL_WARNING:
        return "warning";
    case LOG_LEVEL_INFO:
        return "info";
    case LOG_LEVEL_DEBUG:
        return "debug";
    }
    return "unknown";
}

// systemd sets JOURNAL_STREAM to "device:inode" of the stream that it gave us; see systemd.exec(5).
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long device, inode;
    struct stat status;

    return stream && sscanf(stream, "%lu:%lu", &device, &inode) == 2 && fstat(STDERR_FILENO, &status) == 0 &&
           status.st_dev == device && status.st_ino == inode;
}

// U+2028 to U+202E and U+2066 to U+2069 break lines or turn the direction of what a person reads.
static bool is_layout_control(const unsigned char *at, size_t length)
{
    return length == 3 && at[0] == 0xe2 &&
           ((at[1] == 0x80 && at[2] >= 0xa8 && at[2] <= 0xae) || (at[1] == 0x81 && at[2] >= 0xa6 && at[2] <= 0xa9));
}

// Appends the message with everything escaped that is not printable UTF-8; json also escapes what JSON wants escaped.
static int append_escaped(struct buffer *line, const char *message, bool json)
{
    const unsigned char *at = (const unsigned char *)message;
    size_t left = strlen(message);

    while (left > 0) {
        size_t length = utf8_length(at, left);
        // U+0080 to U+009F are control characters too, in two bytes.
        bool control =
            *at < 0x20 || *at == 0x7f || (length == 2 && *at == 0xc2 && at[1] < 0xa0) || is_layout_control(at, length);
        int r;

        if (length == 0 || control) {
            r = buffer_print(line, json ? "\\\\x%02x" : "\\x%02x", *at);
            length = 1;
        } else if (*at == '\\' || (json && *at == '"')) {
            r = buffer_print(line, json && *at == '\\' ? "\\\\\\%c" : "\\%c", *at);
        } else {
            r = buffer_append(line, at, length);
        }
        if (r < 0)
            return r;
        at += length;
        left -= length;
    }
    return 0;
}

static int format_line(struct buffer *line, enum log_level level, const char *message)
{
    bool json = configured_format == LOG_FORMAT_JSON;
    struct timespec now;
    struct tm utc;
    char time[sizeof "2026-11-23T12:00:00"];

    if (json ? stderr_is_journal() : !isatty(STDERR_FILENO)) {
        if (buffer_print(line, "<%d>", (int)level) < 0)
            return -1;
    } else if (!json && buffer_print(line, "%s: ", level_name(level)) < 0) {
        return -1;
    }
    if (json) {
        clock_gettime(CLOCK_REALTIME, &now);
        gmtime_r(&now.tv_sec, &utc);
        if (strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &utc) == 0)
            return -1;
        if (buffer_print(line, "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"message\":\"", time, now.tv_nsec / 1000000,
                         level_name(level)) < 0)
            return -1;
    }
    if (append_escaped(line, message, json) < 0)
        return -1;
    return buffer_print(line, json ? "\"}\n" : "\n");
}

void log_write(enum log_level level, const char *format, ...)
{
    struct buffer message = {0}, line = {0};
    va_list arguments;
    int r;

    if ((int)level > configured_level)
        return;
    va_start(arguments, format);
    r = buffer_print_list(&message, format, arguments);
    va_end(arguments);
    if (r == 0 && format_line(&line, level, buffer_text(&message)) == 0)
        r = write(STDERR_FILENO, line.data, line.length) < 0;
    else
        r = write(STDERR_FILENO, "<2>out of memory for a log line\n", 32) < 0;
    (void)r; // there is nowhere left to tell that the log cannot be written
    buffer_finish(&message);
    buffer_finish(&line);
}
