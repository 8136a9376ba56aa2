// Settings that are rejected or cause a warning before any connection is made, and the password file.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../../src/forward/password.h"
#include "imcallbackd/forward/forward.h"

#include <cmocka.h>

static char reported[1024];

static void report(const char *sentence)
{
    (void)snprintf(reported + strlen(reported), sizeof reported - strlen(reported), "%s\n", sentence);
}

static void checks_urls(void **state)
{
    static const struct {
        const char *url;
        const char *rejection, *warning; // parts of the messages; NULL: no message
    } rows[] = {
        {"postgresql://user@db1,db2:5433/events?sslmode=verify-full&target_session_attrs=read-write", NULL, NULL},
        {"postgresql://user@db1/events", NULL, "sslmode=prefer"},
        {"postgresql://user@db1/events?sslmode=verify-ca", NULL, "sslmode=verify-ca"},
        {"postgresql://user@localhost,db1/events?sslmode=require", NULL, "sslmode=require"},
        {"postgresql://user@localhost,127.0.0.1,[::1]/events", NULL, NULL},
        {"postgresql:///events", NULL, NULL},
        {"postgresql://user@%2Frun%2Fpostgresql/events", NULL, NULL},
        {"postgresql://user@/events?host=/run/postgresql", NULL, NULL},
        {"postgresql://user@localhost/events?hostaddr=192.0.2.1", NULL, "sslmode=prefer"},
        {"postgresql://user:hidden@db1/events", "contains a password", NULL},
        {"postgresql://user@db1/events?pass%77ord=hidden", "contains a password", NULL},
        {"postgresql://user@db1/events?sslpassword=hidden", "contains a password", NULL},
        {"postgresql://user@db1/events?hidden=hidden", "cannot parse", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
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

static void reads_one_password_per_file(void **state)
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
    char path[] = "/tmp/imcallbackd-password-XXXXXX";
    int fd = mkstemp(path);
    char *password = NULL;
    struct error error;

    (void)state;
    assert_true(fd >= 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int r;

        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, rows[i].text, rows[i].length, 0), rows[i].length);
        r = password_read(path, &password, &error);
        assert_int_equal(r == 0, rows[i].password != NULL);
        if (r == 0)
            assert_string_equal(password, rows[i].password);
        else
            assert_non_null(strstr(error.text, path));
        password_forget(r == 0 ? password : NULL);
    }
    close(fd);
    assert_int_equal(unlink(path), 0);
    assert_true(password_read(path, &password, &error) < 0);
    assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
    assert_int_equal(password_read("$CREDENTIALS_DIRECTORY/password", &password, &error), -EACCES);
    assert_int_equal(password_read(NULL, &password, &error), 0);
    assert_null(password);
}

static void warns_of_readable_passwords(void **state)
{
    char path[] = "/tmp/imcallbackd-password-XXXXXX";
    int fd = mkstemp(path);
    struct error error;

    (void)state;
    assert_int_equal(write(fd, "p\n", 2), 2);
    reported[0] = '\0';
    assert_int_equal(forward_check_password(path, report, &error), 0);
    assert_string_equal(reported, "");
    assert_int_equal(fchmod(fd, 0644), 0);
    assert_int_equal(forward_check_password(path, report, &error), 0);
    assert_non_null(strstr(reported, path));
    assert_non_null(strstr(reported, "chmod o-r"));
    assert_int_equal(close(fd), 0);
    assert_int_equal(unlink(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checks_urls),
        cmocka_unit_test(reads_one_password_per_file),
        cmocka_unit_test(warns_of_readable_passwords),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
