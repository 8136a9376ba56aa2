// Tests that a token file holds one or two tokens, each on a line of its own, that any other file is rejected, and that
// a file that all users can read is noticed.
#include <errno.h>

#include "command/settings.h"
#include "command_fixture.h"

#define BYTES(literal) (literal), sizeof(literal) - 1

static const struct {
    const char *contents;
    size_t length;
    const char *tokens[CALLBACK_MAX_TOKENS];
} valid[] = {
    {BYTES("one"), {"one"}},
    {BYTES("one\n"), {"one"}},
    {BYTES("one\r\n"), {"one"}},
    {BYTES("one\r"), {"one"}},
    {BYTES("old\nnew\n"), {"old", "new"}},
    {BYTES("old\r\nnew"), {"old", "new"}},
    {BYTES("same\nsame\n"), {"same", "same"}},
    {BYTES("!#~"), {"!#~"}},
};

TEST(reads_one_token_or_two)
{
    for (size_t i = 0; i < COUNT(valid); i++) {
        size_t count = valid[i].tokens[1] ? 2 : 1;
        struct token_file file;

        write_file("token", valid[i].contents, valid[i].length);
        assert_int_equal(token_file_read("token", &file, &error), 0);
        assert_int_equal(file.count, count);
        for (size_t j = 0; j < count; j++)
            assert_string_equal(file.tokens[j], valid[i].tokens[j]);
        assert_false(file.readable_by_all);
        token_file_finish(&file);
        assert_int_equal(file.count, 0);
    }
}

static const struct {
    const char *contents;
    size_t length;
    const char *part; // part of the error
} invalid[] = {
    {BYTES(""), "empty"},
    {BYTES("\n"), "empty"},
    {BYTES("\ns3cret\n"), "empty"},
    {BYTES("s3cret\n\n"), "empty"},
    {BYTES("s3cret\n\nthree\n"), "empty"},
    {BYTES(" s3cret"), "line 1"},
    {BYTES("s3cret "), "line 1"},
    {BYTES("s3cret two"), "line 1"},
    {BYTES("s3cret\ntwo\t\n"), "line 2"},
    {BYTES("\xef\xbb\xbfs3cret"), "line 1"},
    {BYTES("s3cret\x7f"), "line 1"},
    {BYTES("\xc3\xa4"), "line 1"},
    {BYTES("s3cret\0"), "NUL"},
    {BYTES("s3cret\n\0two"), "NUL"},
    {BYTES("\0s3cret"), "empty"},
    {BYTES("s3cret\ntwo\nthree"), "two tokens"},
};

TEST(rejects_invalid_files)
{
    for (size_t i = 0; i < COUNT(invalid); i++) {
        struct token_file file;

        error.text[0] = '\0';
        write_file("token", invalid[i].contents, invalid[i].length);
        if (token_file_read("token", &file, &error) != -EINVAL)
            fail_msg("row %zu is accepted", i);
        assert_starts_with(error.text, "token: ");
        assert_contains(error.text, invalid[i].part);
        assert_null(strstr(error.text, "s3cret")); // a token never appears in an error
        assert_int_equal(file.count, 0);
    }
}

TEST(rejects_files_above_the_limit)
{
    char contents[4098];

    memset(contents, 'x', sizeof contents);
    for (size_t length = 4095; length <= 4097; length++) {
        struct token_file file;

        write_file("token", contents, length);
        assert_int_equal(token_file_read("token", &file, &error), length <= 4096 ? 0 : -EFBIG);
        if (length <= 4096)
            assert_int_equal(strlen(file.tokens[0]), length);
        token_file_finish(&file);
    }
}

TEST(notices_a_file_that_all_users_can_read)
{
    static const struct {
        mode_t mode;
        bool readable_by_all;
    } rows[] = {{0600, false}, {0640, false}, {0644, true}, {0604, true}};

    write_text("token", "one\n");
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct token_file file;

        assert_int_equal(chmod("token", rows[i].mode), 0);
        assert_int_equal(token_file_read("token", &file, &error), 0);
        assert_int_equal(file.readable_by_all, rows[i].readable_by_all);
        token_file_finish(&file);
    }
}

TEST(names_a_file_that_it_cannot_read)
{
    struct token_file file;

    assert_int_equal(token_file_read("absent", &file, &error), -ENOENT);
    assert_starts_with(error.text, "absent: ");
    assert_int_equal(file.count, 0);
}

TEST_MAIN(enter_directory, leave_directory)
