// Tests which words of a command line become values of which option, and the one line that reports wrong usage.
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../unit.h"
#include "command/options.h"

enum { CONFIG, HOST, VERBOSE, UNNAMED, OPTIONS };

struct parsed {
    const char *values[OPTIONS][3];
    struct option_spec specs[OPTIONS];
};

// Splits the line at spaces and passes the words to options_read(). If has_unnamed is false, unnamed arguments are not
// allowed. The values in *parsed point into `words`.
static int read_line(const char *line, bool has_unnamed, char words[256], struct parsed *parsed)
{
    char *argv[16] = {"test"}, *rest = words;
    int argc = 1;

    memset(parsed, 0, sizeof *parsed);
    parsed->specs[CONFIG] = (struct option_spec){"--config", "-c", parsed->values[CONFIG], 1, 0};
    parsed->specs[HOST] = (struct option_spec){"--host", NULL, parsed->values[HOST], 3, 0};
    parsed->specs[VERBOSE] = (struct option_spec){"--verbose", "-v", NULL, 2, 0};
    parsed->specs[UNNAMED] = (struct option_spec){"", NULL, parsed->values[UNNAMED], 2, 0};
    (void)snprintf(words, 256, "%s", line);
    while (rest && *rest && argc < (int)COUNT(argv) - 1)
        argv[argc++] = strsep(&rest, " ");
    return options_read(argc, argv, parsed->specs, has_unnamed ? OPTIONS : UNNAMED);
}

static const struct {
    const char *line;
    size_t counts[OPTIONS];
    const char *last[OPTIONS]; // last value of each option
} valid[] = {
    {"", {0, 0, 0, 0}, {NULL}},
    {"-c a", {1, 0, 0, 0}, {"a"}},
    {"--config a", {1, 0, 0, 0}, {"a"}},
    {"--host a b c", {0, 3, 0, 0}, {NULL, "c"}},
    {"--host a --host b", {0, 2, 0, 0}, {NULL, "b"}},
    {"-v --verbose", {0, 0, 2, 0}, {NULL}},
    {"a b", {0, 0, 0, 2}, {NULL, NULL, NULL, "b"}},
    {"-c a b", {1, 0, 0, 1}, {"a", NULL, NULL, "b"}},
    {"-v a -c b c", {1, 0, 1, 2}, {"b", NULL, NULL, "c"}},
    {"--host a b c d", {0, 3, 0, 1}, {NULL, "c", NULL, "d"}},
    {"a --host b -v c", {0, 1, 1, 2}, {NULL, "b", NULL, "c"}},
};

TEST(reads_valid_lines)
{
    for (size_t i = 0; i < COUNT(valid); i++) {
        struct parsed parsed;
        char words[256];

        assert_int_equal(read_line(valid[i].line, true, words, &parsed), 0);
        for (size_t option = 0; option < OPTIONS; option++) {
            size_t count = parsed.specs[option].count;

            if (count != valid[i].counts[option])
                fail_msg("'%s': option %zu has %zu values", valid[i].line, option, count);
            if (valid[i].last[option])
                assert_string_equal(parsed.values[option][count - 1], valid[i].last[option]);
        }
    }
}

static const struct {
    const char *line;
    bool has_unnamed;
    const char *word; // the word that the message names
} invalid[] = {
    {"--unknown", true, "'--unknown'"},
    {"-x", true, "'-x'"},
    {"-", true, "'-'"},
    {"--conf a", true, "'--conf'"},
    {"-c", true, "'-c'"},
    {"-c -v", true, "'-c'"},
    {"-c a -c b", true, "'-c'"},
    {"-c a --config b", true, "'--config'"},
    {"-v -v -v", true, "'-v'"},
    {"--host a -c", true, "'-c'"},
    {"--config=a", true, "'--config=a'"},
    {"a b c", true, "'c'"},
    {"a", false, "'a'"},
    {"-c a b", false, "'b'"},
    {"-v a", false, "'a'"},
    {"--host a b c d", false, "'d'"},
};

TEST(rejects_wrong_usage_with_one_line)
{
    for (size_t i = 0; i < COUNT(invalid); i++) {
        int ends[2], stderr_fd = dup(STDERR_FILENO), r;
        struct parsed parsed;
        char words[256], message[512];
        ssize_t length;

        assert_int_equal(pipe(ends), 0);
        assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
        r = read_line(invalid[i].line, invalid[i].has_unnamed, words, &parsed);
        assert_int_equal(dup2(stderr_fd, STDERR_FILENO), STDERR_FILENO);
        assert_int_equal(close(ends[1]), 0);
        length = read(ends[0], message, sizeof message - 1);
        assert_true(length > 0);
        message[length] = '\0';
        assert_int_equal(close(ends[0]) | close(stderr_fd), 0);
        if (r != -EINVAL || !strstr(message, invalid[i].word))
            fail_msg("'%s': %d: %s", invalid[i].line, r, message);
        assert_int_equal(strncmp(message, "imcallbackd test: ", 18), 0);
        assert_string_equal(strstr(message, "; see "), "; see imcallbackd test --help\n");
    }
}

TEST_MAIN(NULL, NULL)
