// Only these functions round; /status.json has the exact numbers.
#include "units.h"

#include <assert.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LAST_TIME_MS INT64_C(253402300799999) // the end of the year 9999
#define THIN_SPACE   "\xe2\x80\xaf"           // U+202F, which does not break

void units_print_duration(int64_t ms, char text[UNITS_BYTES])
{
    static const struct {
        int64_t ms;
        const char *name;
    } units[] = {{86400000, "days"}, {3600000, "hours"}, {60000, "minutes"}};

    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (ms >= 2 * units[i].ms) {
            (void)snprintf(text, UNITS_BYTES, "%" PRId64 " %s", ms / units[i].ms, units[i].name);
            return;
        }
    }
    (void)snprintf(text, UNITS_BYTES, "%" PRId64 " s", ms > 0 ? ms / 1000 : 0);
}

void units_print_size(int64_t bytes, char text[UNITS_BYTES])
{
    static const char *const names[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double size = (double)bytes / 1024;
    size_t i = 0;

    if (bytes < 0) {
        (void)snprintf(text, UNITS_BYTES, "unknown");
    } else if (bytes < 1024) {
        (void)snprintf(text, UNITS_BYTES, "%" PRId64 " bytes", bytes);
    } else {
        for (; size >= 1000; i++)
            size /= 1024;
        (void)snprintf(text, UNITS_BYTES, size < 10 ? "%.1f %s" : "%.0f %s", size, names[i]);
    }
}

void units_print_microseconds(int64_t us, char text[UNITS_BYTES])
{
    double ms = (double)us / 1000;

    if (us < 0)
        (void)snprintf(text, UNITS_BYTES, "\xe2\x80\x93");
    else if (ms < 0.995)
        (void)snprintf(text, UNITS_BYTES, "%.2f ms", ms);
    else if (ms < 9.95)
        (void)snprintf(text, UNITS_BYTES, "%.1f ms", ms);
    else if (ms < 999.5)
        (void)snprintf(text, UNITS_BYTES, "%.0f ms", ms);
    else
        (void)snprintf(text, UNITS_BYTES, "%.1f s", ms / 1000);
}

void units_print_count(int64_t count, char text[UNITS_BYTES])
{
    char digits[24];
    size_t length, at = 0;

    assert(count >= 0);
    (void)snprintf(digits, sizeof digits, "%" PRId64, count);
    length = strlen(digits);
    for (size_t i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            at += (size_t)snprintf(text + at, UNITS_BYTES - at, "%s", THIN_SPACE);
        text[at++] = digits[i];
    }
    text[at] = '\0';
}

static void print_time(int64_t unix_ms, const char *between, const char *end, char text[UNITS_BYTES])
{
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm at;

    if (unix_ms < 0 || unix_ms > LAST_TIME_MS || !gmtime_r(&seconds, &at))
        (void)snprintf(text, UNITS_BYTES, "?");
    else
        (void)snprintf(text, UNITS_BYTES, "%04d-%02d-%02d%s%02d:%02d:%02d%s", at.tm_year + 1900, at.tm_mon + 1,
                       at.tm_mday, between, at.tm_hour, at.tm_min, at.tm_sec, end);
}

void units_print_time(int64_t unix_ms, char text[UNITS_BYTES])
{
    print_time(unix_ms, " ", "", text);
}

void units_print_iso_time(int64_t unix_ms, char text[UNITS_BYTES])
{
    print_time(unix_ms, "T", "Z", text);
}
