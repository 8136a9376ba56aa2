// Tests reading files and expanding $CREDENTIALS_DIRECTORY.
#include <errno.h>
#include <string.h>

#include "../files.h"
#include "../unit.h"
#include "imcallbackd/base/file.h"

#define MAX_BYTES 10000

static char directory[64];
static struct error error;
static struct buffer contents;
static char path[sizeof directory + 16];

static int setup(void **state)
{
    (void)state;
    make_directory(directory, sizeof directory);
    (void)snprintf(path, sizeof path, "%s/file", directory);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    remove_directory(directory);
    return 0;
}

TEST(rejects_files_above_the_limit)
{
    static const size_t lengths[] = {0, 1, 4095, 4096, 4097, MAX_BYTES - 1, MAX_BYTES, MAX_BYTES + 1};
    char data[MAX_BYTES + 1];

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)(i * 31);
    for (size_t i = 0; i < COUNT(lengths); i++) {
        int r;

        write_file(path, data, lengths[i]);
        r = file_read(path, MAX_BYTES, &contents, &error);
        if (lengths[i] > MAX_BYTES) {
            assert_int_equal(r, -EFBIG);
            assert_non_null(strstr(error.text, path));
            assert_non_null(strstr(error.text, "10000"));
        } else {
            assert_int_equal(r, 0);
            assert_int_equal(contents.length, lengths[i]);
            assert_memory_equal(buffer_text(&contents), data, lengths[i]);
        }
        buffer_finish(&contents);
    }
}

// The previous contents of the buffer stay and do not count towards the limit.
TEST(appends_to_the_buffer)
{
    write_file(path, "def", 3);
    assert_int_equal(buffer_append(&contents, "abc", 3), 0);
    assert_int_equal(file_read(path, 3, &contents, &error), 0);
    assert_string_equal(contents.data, "abcdef");
    buffer_finish(&contents);
}

TEST(names_the_file_that_it_cannot_read)
{
    assert_int_equal(file_read("/does/not/exist", MAX_BYTES, &contents, &error), -ENOENT);
    assert_string_equal(error.text, "/does/not/exist: No such file or directory");
    assert_int_equal(file_read(directory, MAX_BYTES, &contents, &error), -EISDIR);
    assert_non_null(strstr(error.text, directory));
    buffer_finish(&contents);
}

// open() would wait for a writer of the FIFO.
TEST(regular_file_is_neither_a_fifo_nor_a_device)
{
    char fifo[sizeof path + 8];

    (void)snprintf(fifo, sizeof fifo, "%s.fifo", path);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    (void)alarm(20);
    assert_int_equal(file_read_regular(fifo, MAX_BYTES, &contents, &error), -EINVAL);
    (void)alarm(0);
    assert_non_null(strstr(error.text, ".fifo: not a regular file"));
    assert_int_equal(file_read_regular("/dev/zero", MAX_BYTES, &contents, &error), -EINVAL);
    assert_int_equal(file_read_regular(directory, MAX_BYTES, &contents, &error), -EINVAL);
    assert_int_equal(file_read_regular("/does/not/exist", MAX_BYTES, &contents, &error), -ENOENT);
    write_file(path, "abc", 3);
    assert_int_equal(file_read_regular(path, 3, &contents, &error), 0);
    assert_string_equal(buffer_text(&contents), "abc");
    buffer_finish(&contents);
}

TEST(expands_the_credentials_directory)
{
    static const struct {
        const char *path, *expanded;
    } rows[] = {
        {"/etc/token", "/etc/token"},
        {"relative/token", "relative/token"},
        {"$CREDENTIALS_DIRECTORY/token", "/run/c/token"},
        {"${CREDENTIALS_DIRECTORY}/token", "/run/c/token"},
        {"$CREDENTIALS_DIRECTORY", "/run/c"},
        {"$CREDENTIALS_DIRECTORYX/token", "$CREDENTIALS_DIRECTORYX/token"}, // another variable
        {"/a/$CREDENTIALS_DIRECTORY/token", "/a/$CREDENTIALS_DIRECTORY/token"},
        {"$HOME/token", "$HOME/token"},
    };

    assert_int_equal(setenv("CREDENTIALS_DIRECTORY", "/run/c", 1), 0);
    for (size_t i = 0; i < COUNT(rows); i++) {
        char *expanded;

        assert_int_equal(file_expand_path(rows[i].path, &expanded, &error), 0);
        assert_string_equal(expanded, rows[i].expanded);
        free(expanded);
    }
}

TEST(reports_missing_credentials)
{
    char *expanded = NULL;

    assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
    assert_int_equal(file_expand_path("$CREDENTIALS_DIRECTORY/token", &expanded, &error), -ENOENT);
    assert_null(expanded);
    assert_non_null(strstr(error.text, "$CREDENTIALS_DIRECTORY/token: "));
    assert_non_null(strstr(error.text, "LoadCredential="));
    assert_int_equal(file_expand_path("/etc/token", &expanded, &error), 0);
    free(expanded);
}

TEST(reads_a_secret_and_reports_its_mode)
{
    bool readable_by_all = true;

    write_text(path, "secret");
    assert_int_equal(file_read_secret(path, 6, &contents, &readable_by_all, &error), 0);
    assert_string_equal(buffer_text(&contents), "secret");
    assert_false(readable_by_all);
    file_forget_secret(&contents);
    assert_null(contents.data);
    assert_int_equal(chmod(path, 0604), 0);
    assert_int_equal(file_read_secret(path, 6, &contents, &readable_by_all, &error), 0);
    assert_true(readable_by_all);
    file_forget_secret(&contents);
}

TEST(keeps_nothing_of_a_secret_that_it_cannot_read)
{
    bool readable_by_all = true;

    write_text(path, "secret");
    assert_int_equal(file_read_secret(path, 5, &contents, &readable_by_all, &error), -EFBIG);
    assert_null(contents.data);
    assert_false(readable_by_all);
    assert_int_equal(file_read_secret("/nowhere/secret", 5, &contents, &readable_by_all, &error), -ENOENT);
    assert_non_null(strstr(error.text, "/nowhere/secret: No such file"));
}

TEST(says_that_a_secret_may_be_a_credential_of_another_service)
{
    bool readable_by_all;

    assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
    assert_int_equal(file_read_secret("$CREDENTIALS_DIRECTORY/a", 5, &contents, &readable_by_all, &error), -EACCES);
    assert_non_null(strstr(error.text, "CREDENTIALS_DIRECTORY is not set"));
}

TEST_MAIN(setup, teardown)
