// Tests which files hold valid secrets, and which errors the other files cause.
#include <errno.h>

#include "../files.h"
#include "deliver/secret_file.h"

#define OLD "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define NEW "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

static char directory[64], path[96];

static int setup(void **state)
{
    (void)state;
    make_directory(directory, sizeof directory);
    (void)snprintf(path, sizeof path, "%s/secret", directory);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    remove_directory(directory);
    return 0;
}

TEST(reads_one_or_two_secrets)
{
    static const struct {
        const char *text;
        size_t count;
    } files[] = {{OLD, 1}, {OLD "\n", 1}, {OLD "\r\n", 1}, {OLD "\n" NEW "\n", 2}, {OLD "\r\n" NEW, 2}};
    struct webhook_secrets secrets;
    bool readable_by_all;
    struct error error;

    for (size_t i = 0; i < COUNT(files); i++) {
        write_text(path, files[i].text);
        assert_int_equal(secret_file_read(path, &secrets, &readable_by_all, &error), 0);
        assert_int_equal(secrets.count, files[i].count);
        assert_false(readable_by_all);
        secret_file_forget(&secrets);
        assert_int_equal(secrets.count, 0);
    }
}

TEST(gives_no_secret_without_a_file)
{
    struct webhook_secrets secrets;
    bool readable_by_all;
    struct error error;

    assert_int_equal(secret_file_read(NULL, &secrets, &readable_by_all, &error), 0);
    assert_int_equal(secrets.count, 0);
}

TEST(refuses_files_without_valid_secrets)
{
    static const struct {
        const char *text;
        size_t length;
        const char *says;
    } files[] = {
        {"", 0, "line 1 is not a Standard Webhooks secret"},
        {"\n", 1, "line 1 is not"},
        {OLD "\n\n", sizeof OLD + 1, "line 2 is not"},
        {OLD "\nhello\n", sizeof OLD + 6, "line 2 is not"},
        {OLD "\n" OLD "\n" OLD, 3 * sizeof OLD - 1, "more than two lines"},
        {OLD "\0", sizeof OLD, "NUL byte"},
    };
    struct webhook_secrets secrets;
    bool readable_by_all;
    struct error error;

    for (size_t i = 0; i < COUNT(files); i++) {
        write_file(path, files[i].text, files[i].length);
        assert_int_equal(secret_file_read(path, &secrets, &readable_by_all, &error), -EINVAL);
        if (!strstr(error.text, files[i].says))
            fail_msg("%zu: %s", i, error.text);
        assert_null(strstr(error.text, "whsec_M")); // an error never repeats a secret
        assert_int_equal(secrets.count, 0);
    }
}

TEST(reports_a_file_that_every_user_can_read)
{
    struct webhook_secrets secrets;
    bool readable_by_all;
    struct error error;

    write_text(path, OLD);
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(secret_file_read(path, &secrets, &readable_by_all, &error), 0);
    assert_true(readable_by_all);
}

TEST(rejects_a_fifo_without_waiting)
{
    struct webhook_secrets secrets;
    bool readable_by_all;
    struct error error;

    (void)unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    alarm(10); // ends the process if the open waits for a writer
    assert_int_equal(secret_file_read(path, &secrets, &readable_by_all, &error), -EINVAL);
    alarm(0);
    assert_non_null(strstr(error.text, "not a regular file"));
    assert_int_equal(unlink(path), 0);
}

TEST(says_that_a_credential_belongs_to_another_service)
{
    struct webhook_secrets secrets;
    bool readable_by_all;
    struct error error;

    unsetenv("CREDENTIALS_DIRECTORY");
    assert_int_equal(secret_file_read("$CREDENTIALS_DIRECTORY/secret", &secrets, &readable_by_all, &error), -EACCES);
    assert_int_equal(secret_file_read("/nonexistent/secret", &secrets, &readable_by_all, &error), -ENOENT);
}

TEST_MAIN(setup, teardown)
