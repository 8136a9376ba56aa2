// Tests the form of log lines: levels, prefixes, escapes, cuts and long data.
#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../unit.h"
#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/log.h"

// capture_begin() replaces standard error with a pipe, which a thread reads until capture_end().
static struct {
    pthread_t thread;
    int read_fd;
    int stderr_fd; // duplicate of the replaced descriptor
    struct buffer text;
} capture;

static void *read_pipe(void *unused)
{
    char piece[1 << 16];
    ssize_t got;

    (void)unused;
    while ((got = read(capture.read_fd, piece, sizeof piece)) > 0) {
        if (buffer_append(&capture.text, piece, (size_t)got) < 0)
            abort();
    }
    return NULL;
}

static void capture_begin(void)
{
    int ends[2];

    capture.text.length = 0;
    assert_int_equal(pipe(ends), 0);
    capture.read_fd = ends[0];
    capture.stderr_fd = dup(STDERR_FILENO);
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(close(ends[1]), 0);
    assert_int_equal(pthread_create(&capture.thread, NULL, read_pipe, NULL), 0);
}

// Returns the captured text, which is valid until the next capture.
static const char *capture_end(void)
{
    assert_int_equal(dup2(capture.stderr_fd, STDERR_FILENO), STDERR_FILENO); // closes the last write end of the pipe
    assert_int_equal(close(capture.stderr_fd), 0);
    assert_int_equal(pthread_join(capture.thread, NULL), 0);
    assert_int_equal(close(capture.read_fd), 0);
    return buffer_text(&capture.text);
}

static int finish(void **state)
{
    (void)state;
    buffer_finish(&capture.text);
    return 0;
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
    {"\\x0a is text", "\\\\x0a is text", "\\\\\\\\x0a is text"},
    {"say \"x\"", "say \"x\"", "say \\\"x\\\""},
    {"\xe7\xa4\xbe\xe5\x8c\xba \xf0\x9f\x98\x80", "\xe7\xa4\xbe\xe5\x8c\xba \xf0\x9f\x98\x80",
     "\xe7\xa4\xbe\xe5\x8c\xba \xf0\x9f\x98\x80"},
    {"\xff\xc3", "\\xff\\xc3", "\\\\xff\\\\xc3"},
    {"\xed\xa0\x80", "\\xed\\xa0\\x80", "\\\\xed\\\\xa0\\\\x80"},
    {"\xc2\x9b\x33m", "\\xc2\\x9b3m", "\\\\xc2\\\\x9b3m"}, // U+009B starts a terminal's control sequence, like ESC [
    // The characters U+2028 to U+202E and U+2066 to U+2069 break a line or change its direction. For each range, the
    // first row has both ends of the range, and the second row has their neighbours, which are not escaped.
    // NOLINTNEXTLINE(misc-misleading-bidirectional): these are escapes
    {"\xe2\x80\xa8\xe2\x80\xae", "\\xe2\\x80\\xa8\\xe2\\x80\\xae", "\\\\xe2\\\\x80\\\\xa8\\\\xe2\\\\x80\\\\xae"},
    {"\xe2\x80\xa7\xe2\x80\xaf", "\xe2\x80\xa7\xe2\x80\xaf", "\xe2\x80\xa7\xe2\x80\xaf"},
    {"\xe2\x81\xa6\xe2\x81\xa9", "\\xe2\\x81\\xa6\\xe2\\x81\\xa9", "\\\\xe2\\\\x81\\\\xa6\\\\xe2\\\\x81\\\\xa9"},
    {"\xe2\x81\xa5\xe2\x81\xaa", "\xe2\x81\xa5\xe2\x81\xaa", "\xe2\x81\xa5\xe2\x81\xaa"},
    {"\xe2\x82\xac \xc3\xa9", "\xe2\x82\xac \xc3\xa9", "\xe2\x82\xac \xc3\xa9"},
    {"\xc2\x80\xc2\x9f\xc2\xa0", "\\xc2\\x80\\xc2\\x9f\xc2\xa0", "\\\\xc2\\\\x80\\\\xc2\\\\x9f\xc2\xa0"},
};

TEST(escapes_in_text)
{
    char expected[256];

    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    for (size_t i = 0; i < COUNT(escapes); i++) {
        capture_begin();
        log_info("%s", escapes[i].message);
        (void)snprintf(expected, sizeof expected, "<6>%s\n", escapes[i].text);
        assert_string_equal(capture_end(), expected);
    }
}

TEST(escapes_in_json)
{
    char expected[256];
    regex_t form;

    assert_int_equal(regcomp(&form,
                             "^\\{\"time\":\"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z\","
                             "\"level\":\"info\",\"message\":\".*\"}\n$",
                             REG_EXTENDED | REG_NOSUB),
                     0);
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    for (size_t i = 0; i < COUNT(escapes); i++) {
        const char *line;

        capture_begin();
        log_info("%s", escapes[i].message);
        line = capture_end();
        if (regexec(&form, line, 0, NULL, 0) != 0)
            fail_msg("not of the form: %s", line);
        (void)snprintf(expected, sizeof expected, ",\"message\":\"%s\"}\n", escapes[i].json);
        assert_string_equal(strstr(line, ",\"message\":"), expected);
    }
    regfree(&form);
}

TEST(omits_lines_above_the_level)
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

    for (size_t i = 0; i < COUNT(rows); i++) {
        log_configure(rows[i].level, LOG_FORMAT_TEXT);
        capture_begin();
        log_crit("crit");
        log_error("error");
        log_warning("warning");
        log_info("info");
        log_debug("debug");
        assert_string_equal(capture_end(), rows[i].lines);
    }
}

// The journal strips the prefix. In a file or a pipe, lines must be plain JSON.
TEST(json_has_the_prefix_only_in_the_journal)
{
    const char *lines;
    char stream[64];
    struct stat status;

    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    capture_begin();
    assert_int_equal(fstat(STDERR_FILENO, &status), 0);
    (void)snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
    assert_int_equal(setenv("JOURNAL_STREAM", stream, 1), 0);
    log_error("journal");
    assert_int_equal(strncmp(capture_end(), "<3>{\"time\":", 11), 0);

    capture_begin();
    assert_int_equal(fstat(STDERR_FILENO, &status), 0);
    (void)snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)status.st_dev + 1, (uintmax_t)status.st_ino);
    assert_int_equal(setenv("JOURNAL_STREAM", stream, 1), 0);
    log_error("another stream");
    assert_int_equal(unsetenv("JOURNAL_STREAM"), 0);
    log_error("no stream");
    lines = capture_end();
    assert_int_equal(strncmp(lines, "{\"time\":", 8), 0);
    assert_non_null(strstr(lines, "}\n{\"time\":"));
}

TEST(a_terminal_shows_the_level_as_a_word)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY), terminal, real = dup(STDERR_FILENO);
    char line[256] = "";
    size_t length = 0;

    assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
    assert_true(terminal >= 0);
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    assert_int_equal(dup2(terminal, STDERR_FILENO), STDERR_FILENO);
    log_error("words");
    assert_int_equal(dup2(real, STDERR_FILENO), STDERR_FILENO);
    while (!strchr(line, '\n')) { // the terminal may pass the line on in parts
        ssize_t got = read(master, line + length, sizeof line - 1 - length);

        assert_true(got > 0);
        length += (size_t)got;
    }
    assert_string_equal(line, "error: words\r\n");
    assert_int_equal(close(terminal) | close(master) | close(real), 0);
}

TEST(cuts_a_long_text)
{
    static const struct {
        size_t length, kept;
        const char *end;
    } rows[] = {
        {LOG_TEXT_BYTES - 1, LOG_TEXT_BYTES - 1, "\n"},
        {LOG_TEXT_BYTES, LOG_TEXT_BYTES - 4, "...\n"},
        {20000, LOG_TEXT_BYTES - 4, "...\n"},
    };
    static char message[20001];

    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    for (size_t i = 0; i < COUNT(rows); i++) {
        const char *line;

        memset(message, 'x', rows[i].length);
        message[rows[i].length] = '\0';
        capture_begin();
        log_info("%s", message);
        line = capture_end();
        assert_int_equal(strspn(line + 3, "x"), rows[i].kept);
        assert_string_equal(line + 3 + rows[i].kept, rows[i].end);
    }
}

TEST(writes_data_of_any_length)
{
    enum { LENGTH = 3 * 1024 * 1024 };
    char *data = malloc(LENGTH);
    const char *at;

    assert_non_null(data);
    for (size_t i = 0; i < LENGTH; i++)
        data[i] = (char)(i % 1000 == 999 ? '\0' : i % 1000 == 998 ? '\n' : 'a' + (int)(i % 26));
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    capture_begin();
    log_write_data(LOG_LEVEL_CRIT, data, LENGTH, "%s: ", "lost");
    at = capture_end();
    assert_int_equal(strncmp(at, "<2>lost: ", 9), 0);
    at += 9;
    for (size_t i = 0; i < LENGTH; i++) {
        const char expected[] = {data[i], '\0'}, *escaped = data[i] == '\0'   ? "\\x00"
                                                            : data[i] == '\n' ? "\\x0a"
                                                                              : expected;
        if (strncmp(at, escaped, strlen(escaped)) != 0)
            fail_msg("byte %zu", i);
        at += strlen(escaped);
    }
    assert_string_equal(at, "\n");
    free(data);
}

enum { WRITERS = 4, LINES = 50, LINE_BYTES = 10000 };

static void *write_lines(void *letter)
{
    char data[LINE_BYTES];

    memset(data, *(const char *)letter, sizeof data);
    for (size_t i = 0; i < LINES; i++)
        log_write_data(LOG_LEVEL_INFO, data, sizeof data, "%s", "");
    return NULL;
}

TEST(lines_of_several_threads_never_mix)
{
    static char letters[WRITERS] = {'a', 'b', 'c', 'd'};
    size_t lines[WRITERS] = {0};
    pthread_t writers[WRITERS];

    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    capture_begin();
    for (size_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, write_lines, &letters[i]), 0);
    for (size_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_join(writers[i], NULL), 0);
    for (const char *at = capture_end(); *at; at += 3 + LINE_BYTES + 1) {
        char letter[] = {at[3], '\0'};

        assert_int_equal(strncmp(at, "<6>", 3), 0);
        assert_in_range(at[3], 'a', 'd');
        assert_int_equal(strspn(at + 3, letter), LINE_BYTES);
        assert_int_equal(at[3 + LINE_BYTES], '\n');
        lines[at[3] - 'a']++;
    }
    for (size_t i = 0; i < WRITERS; i++)
        assert_int_equal(lines[i], LINES);
}

TEST(survives_a_closed_log)
{
    int stderr_fd = dup(STDERR_FILENO);

    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    assert_int_equal(close(STDERR_FILENO), 0);
    log_info("nowhere");
    assert_int_equal(dup2(stderr_fd, STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(close(stderr_fd), 0);
    capture_begin();
    log_info("there");
    assert_string_equal(capture_end(),
                        "<3>log: lines dropped because standard error did not accept them: 1\n<6>there\n");
}

TEST_MAIN(NULL, finish)
