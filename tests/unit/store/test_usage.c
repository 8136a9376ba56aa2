#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "../base/unit.h"
#include "imcallbackd/store/usage.h"

static char directory[] = "/tmp/imcb-usage-XXXXXX";

static void write_file(const char *name, size_t length)
{
    static const char zeros[4096];
    FILE *file = fopen(name, "we");

    assert_non_null(file);
    assert_int_equal(fwrite(zeros, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static int begin(void **state)
{
    (void)state;
    return mkdtemp(directory) && chdir(directory) == 0 && mkdir("elsewhere", 0700) == 0 ? 0 : -1;
}

static int end(void **state)
{
    static const char *const files[] = {"callbacks.db", "callbacks.db-wal", "link.db"};

    (void)state;
    for (size_t i = 0; i < COUNT(files); i++)
        (void)unlink(files[i]);
    (void)rmdir("elsewhere");
    return rmdir(directory);
}

static void sizes(void **state)
{
    struct store_usage usage;
    struct statvfs disk;
    struct error error;

    (void)state;
    write_file("callbacks.db", 4096);
    assert_int_equal(store_measure("callbacks.db", &usage, &error), 0);
    assert_int_equal(usage.database_bytes, 4096);
    assert_int_equal(usage.log_bytes, 0);
    write_file("callbacks.db-wal", 1000);
    assert_int_equal(symlink("callbacks.db", "link.db"), 0);
    assert_int_equal(store_measure("link.db", &usage, &error), 0);
    assert_int_equal(usage.database_bytes, 4096);
    assert_int_equal(usage.log_bytes, 1000);
    assert_int_equal(statvfs(".", &disk), 0);
    assert_true(usage.total_bytes > 0 && usage.total_bytes <= (int64_t)(disk.f_blocks * disk.f_frsize));
    assert_true(usage.free_bytes >= 0 && usage.free_bytes <= usage.total_bytes);
}

static void a_database_that_is_gone(void **state)
{
    struct store_usage usage;
    struct error error;

    (void)state;
    assert_int_equal(store_measure("elsewhere/gone.db", &usage, &error), -ENOENT);
    assert_non_null(strstr(error.text, "elsewhere/gone.db: "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes), cmocka_unit_test(a_database_that_is_gone)};

    return cmocka_run_group_tests(tests, begin, end);
}
