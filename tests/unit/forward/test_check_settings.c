// Tests which settings are rejected or cause a warning before any connection is made, and which passwords are read from
// a file.
#include <errno.h>

#include "../files.h"
#include "../unit.h"
#include "forward/password.h"
#include "imcallbackd/forward/forward.h"

static char reported[1024];

static void report(const char *sentence)
{
    (void)snprintf(reported + strlen(reported), sizeof reported - strlen(reported), "%s\n", sentence);
}

TEST(rejects_and_warns_of_urls)
{
    static const struct {
        const char *url;
        const char *rejection, *warning; // a part of the message; NULL: no message
    } rows[] = {
        {"postgresql://user@db1,db2:5433/events?sslmode=verify-full&target_session_attrs=read-write", NULL, NULL},
        {"postgresql://user@db1/events", NULL, "sslmode=prefer"},
        {"postgresql://user@db1/events?sslmode=verify-ca", NULL, "sslmode=verify-ca"},
        {"postgresql://user@localhost,db1/events?sslmode=require", NULL, "sslmode=require"},
        {"postgresql://user@localhost,127.0.0.1,[::1]/events", NULL, NULL},
        {"postgresql://user@a/events", NULL, "sslmode=prefer"},
        {"postgresql://user@,localhost/events", NULL, NULL}, // an empty host is a Unix socket
        {"postgresql:///events", NULL, NULL},
        {"postgresql://user@%2Frun%2Fpostgresql/events", NULL, NULL},
        {"postgresql://user@/events?host=/run/postgresql", NULL, NULL},
        {"postgresql://user@localhost/events?hostaddr=192.0.2.1", NULL, "sslmode=prefer"},
        {"postgresql://user:hidden@db1/events", "contains a password", NULL},
        {"postgresql://user@db1/events?pass%77ord=hidden", "contains a password", NULL},
        {"postgresql://user@db1/events?sslpassword=hidden", "contains a password", NULL},
        {"postgresql://user@db1/events?hidden=hidden", "cannot parse", NULL},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct error error = {""};
        int r;

        reported[0] = '\0';
        r = forward_check_url(rows[i].url, report, &error);
        if ((r < 0) != (rows[i].rejection != NULL) || (r < 0 && !strstr(error.text, rows[i].rejection)))
            fail_msg("%s: %s", rows[i].url, error.text);
        if ((*reported != '\0') != (rows[i].warning != NULL) || (rows[i].warning && !strstr(reported, rows[i].warning)))
            fail_msg("%s: %s", rows[i].url, reported);
        assert_null(strstr(error.text, "hidden"));
        assert_null(strstr(reported, "hidden"));
    }
}

static int create_file(void **state)
{
    static char path[64];
    int fd;

    (void)snprintf(path, sizeof path, "/tmp/imcallbackd-password-XXXXXX");
    fd = mkstemp(path);
    *state = path;
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    return unlink(*state);
}

TEST_WITH(reads_one_line_without_its_end, create_file, remove_file)
{
    static const struct {
        const char *text;
        size_t length;
        const char *password; // NULL: the file is rejected
    } rows[] = {
        {"p", 1, "p"},         {"with space\n", 11, "with space"}, {"", 0, NULL},
        {"\n", 1, NULL},       {"two\nlines\n", 10, NULL},         {"return\r\n", 8, NULL},
        {"nul\0nul", 7, NULL},
    };
    const char *path = *state;
    char *password = NULL;
    struct error error;

    for (size_t i = 0; i < COUNT(rows); i++) {
        bool readable_by_all;
        int r;

        write_file(path, rows[i].text, rows[i].length);
        r = password_read(path, &password, &readable_by_all, &error);
        assert_int_equal(r == 0, rows[i].password != NULL);
        if (r == 0)
            assert_string_equal(password, rows[i].password);
        else
            assert_non_null(strstr(error.text, path));
        password_forget(r == 0 ? password : NULL);
    }
}

TEST(accepts_no_password_file_but_rejects_a_missing_one)
{
    char *password = NULL;
    bool readable_by_all;
    struct error error;

    assert_true(password_read("/nowhere/password", &password, &readable_by_all, &error) < 0);
    assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
    assert_int_equal(password_read("$CREDENTIALS_DIRECTORY/password", &password, &readable_by_all, &error), -EACCES);
    assert_int_equal(password_read(NULL, &password, &readable_by_all, &error), 0);
    assert_null(password);
}

TEST_WITH(warns_of_a_password_that_every_user_can_read, create_file, remove_file)
{
    const char *path = *state;
    struct error error;

    write_text(path, "p\n");
    reported[0] = '\0';
    assert_int_equal(forward_check_password(path, report, &error), 0);
    assert_string_equal(reported, "");
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(forward_check_password(path, report, &error), 0);
    assert_non_null(strstr(reported, path));
    assert_non_null(strstr(reported, "chmod o-r"));
}

TEST_MAIN(NULL, NULL)
