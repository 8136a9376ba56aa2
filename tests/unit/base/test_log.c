#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imcallbackd/base/log.h"
#include "unit.h"

// What a call to the log writes to standard error, by way of a pipe in its place.
struct capture {
    int read_fd;
    int stderr_fd; // the real one
};

static struct capture capture_begin(void)
{
    struct capture capture;
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    capture.read_fd = ends[0];
    capture.stderr_fd = dup(STDERR_FILENO);
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(close(ends[1]), 0);
    return capture;
}

static void capture_end(struct capture capture, char *text, size_t size)
{
    size_t length = 0;
    ssize_t got;

    assert_int_equal(dup2(capture.stderr_fd, STDERR_FILENO), STDERR_FILENO); // closes the pipe's last writer
    assert_int_equal(close(capture.stderr_fd), 0);
    while ((got = read(capture.read_fd, text + length, size - 1 - length)) > 0)
        length += (size_t)got;
    assert_int_equal(got, 0);
    assert_int_equal(close(capture.read_fd), 0);
    text[length] = '\0';
}

static const struct {
    const char *message, *text, *json;
} escapes[] = {
    {"plain text", "plain text", "plain text"},
    {"", "", ""},
    {"a\nb", "a\\x0ab", "a\\\\x0ab"},
    {"<0>forged\r\n<0>", "<0>forged\\x0d\\x0a<0>", "<0>forged\\\\x0d\\\\x0a<0>"},
    {"\x1b[31m", "\\x1b[31m", "\\\\x1b[31m"},
    {"\x01\x1f\x7f", "\\x01\\x1f\\x7f", "\\\\x01\\\\x1f\\\\x7f"},
    {"back\\slash", "back\\\\slash", "back\\\\\\\\slash"},
    {"\\x0a is no newline", "\\\\x0a is no newline", "\\\\\\\\x0a is no newline"},
    {"say \"x\"", "say \"x\"", "say \\\"x\\\""},
    {"\xe7\xa4\xbe\xe5\x8c\xba \xf0\x9f\x98\x80", "\xe7\xa4\xbe\xe5\x8c\xba \xf0\x9f\x98\x80",
     "\xe7\xa4\xbe\xe5\x8c\xba \xf0\x9f\x98\x80"},
    {"\xff\xc3", "\\xff\\xc3", "\\\\xff\\\\xc3"},
    {"\xed\xa0\x80", "\\xed\\xa0\\x80", "\\\\xed\\\\xa0\\\\x80"},
    {"\xc2\x9b\x33m", "\\xc2\\x9b3m", "\\\\xc2\\\\x9b3m"}, // U+009B moves a terminal's cursor like ESC [
    {"\xc2\x80\xc2\x9f\xc2\xa0", "\\xc2\\x80\\xc2\\x9f\xc2\xa0", "\\\\xc2\\\\x80\\\\xc2\\\\x9f\xc2\xa0"},
};

static void escapes_in_text(void **state)
{
    char line[256], expected[256];

    (void)state;
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    for (size_t i = 0; i < COUNT(escapes); i++) {
        struct capture capture = capture_begin();

        log_info("%s", escapes[i].message);
        capture_end(capture, line, sizeof line);
        (void)snprintf(expected, sizeof expected, "<6>%s\n", escapes[i].text);
        assert_string_equal(line, expected);
    }
}

static void escapes_in_json(void **state)
{
    char line[256], expected[256];
    regex_t form;

    (void)state;
    assert_int_equal(regcomp(&form,
                             "^\\{\"time\":\"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z\","
                             "\"level\":\"info\",\"message\":\".*\"}\n$",
                             REG_EXTENDED | REG_NOSUB),
                     0);
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    for (size_t i = 0; i < COUNT(escapes); i++) {
        struct capture capture = capture_begin();

        log_info("%s", escapes[i].message);
        capture_end(capture, line, sizeof line);
        if (regexec(&form, line, 0, NULL, 0) != 0)
            fail_msg("not of the form: %s", line);
        (void)snprintf(expected, sizeof expected, ",\"message\":\"%s\"}\n", escapes[i].json);
        assert_string_equal(strstr(line, ",\"message\":"), expected);
    }
    regfree(&form);
}

static void write_all_levels(void)
{
    log_crit("crit");
    log_error("error");
    log_warning("warning");
    log_info("info");
    log_debug("debug");
}

static void leaves_out_what_is_above_the_level(void **state)
{
    static const struct {
        enum log_level level;
        const char *lines;
    } rows[] = {
        {LOG_LEVEL_CRIT, "<2>crit\n"},
        {LOG_LEVEL_ERROR, "<2>crit\n<3>error\n"},
        {LOG_LEVEL_WARNING, "<2>crit\n<3>error\n<4>warning\n"},
        {LOG_LEVEL_INFO, "<2>crit\n<3>error\n<4>warning\n<6>info\n"},
        {LOG_LEVEL_DEBUG, "<2>crit\n<3>error\n<4>warning\n<6>info\n<7>debug\n"},
    };
    char lines[256];

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct capture capture;

        log_configure(rows[i].level, LOG_FORMAT_TEXT);
        capture = capture_begin();
        write_all_levels();
        capture_end(capture, lines, sizeof lines);
        assert_string_equal(lines, rows[i].lines);
    }
}

// JSON lines stay plain JSON in a file or a pipe; only the journal, which strips it, gets the prefix.
static void json_gets_the_prefix_only_in_the_journal(void **state)
{
    struct capture capture;
    char line[256], stream[64];
    struct stat status;

    (void)state;
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    capture = capture_begin();
    assert_int_equal(fstat(STDERR_FILENO, &status), 0);
    (void)snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
    assert_int_equal(setenv("JOURNAL_STREAM", stream, 1), 0);
    log_error("journal");
    capture_end(capture, line, sizeof line);
    assert_int_equal(strncmp(line, "<3>{\"time\":", 11), 0);

    capture = capture_begin();
    assert_int_equal(fstat(STDERR_FILENO, &status), 0);
    (void)snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)status.st_dev + 1, (uintmax_t)status.st_ino);
    assert_int_equal(setenv("JOURNAL_STREAM", stream, 1), 0);
    log_error("another stream");
    assert_int_equal(unsetenv("JOURNAL_STREAM"), 0);
    log_error("no stream");
    capture_end(capture, line, sizeof line);
    assert_int_equal(strncmp(line, "{\"time\":", 8), 0);
    assert_non_null(strstr(line, "}\n{\"time\":"));
}

static void long_lines_stay_whole(void **state)
{
    static char message[20001], line[30000];
    struct capture capture;

    (void)state;
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    memset(message, 'x', sizeof message - 1);
    capture = capture_begin();
    log_info("%s", message);
    capture_end(capture, line, sizeof line);
    assert_int_equal(strlen(line), 3 + 20000 + 1);
    assert_int_equal(strspn(line + 3, "x"), 20000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escapes_in_text),
        cmocka_unit_test(escapes_in_json),
        cmocka_unit_test(leaves_out_what_is_above_the_level),
        cmocka_unit_test(json_gets_the_prefix_only_in_the_journal),
        cmocka_unit_test(long_lines_stay_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
