// The sizes that the monitor reports: of the database, of its write-ahead log, and of the file system.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "../../../src/command/disk_usage.h"
#include "../base/unit.h"

static char directory[] = "/tmp/imcb-usage-XXXXXX";

static void write_file(const char *name, size_t length)
{
    static const char zeros[4096];
    FILE *file = fopen(name, "we");

    assert_non_null(file);
    assert_int_equal(fwrite(zeros, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static int enter_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) && chdir(directory) == 0 && mkdir("elsewhere", 0700) == 0 ? 0 : -1;
}

static int remove_directory(void **state)
{
    static const char *const files[] = {"callbacks.db", "callbacks.db-wal", "link.db"};

    (void)state;
    for (size_t i = 0; i < COUNT(files); i++)
        (void)unlink(files[i]);
    (void)rmdir("elsewhere");
    return rmdir(directory);
}

static void measures_the_database_and_its_log_through_a_symbolic_link(void **state)
{
    struct disk_usage usage;
    struct statvfs disk;
    struct error error;

    (void)state;
    write_file("callbacks.db", 4096);
    assert_int_equal(disk_usage_measure("callbacks.db", &usage, &error), 0);
    assert_int_equal(usage.database_bytes, 4096);
    assert_int_equal(usage.log_bytes, 0);
    write_file("callbacks.db-wal", 1000);
    assert_int_equal(symlink("callbacks.db", "link.db"), 0);
    assert_int_equal(disk_usage_measure("link.db", &usage, &error), 0);
    assert_int_equal(usage.database_bytes, 4096);
    assert_int_equal(usage.log_bytes, 1000);
    assert_int_equal(statvfs(".", &disk), 0);
    assert_true(usage.total_bytes > 0 && usage.total_bytes <= (int64_t)(disk.f_blocks * disk.f_frsize));
    assert_true(usage.free_bytes >= 0 && usage.free_bytes <= usage.total_bytes);
}

static void names_a_database_that_does_not_exist(void **state)
{
    struct disk_usage usage;
    struct error error;

    (void)state;
    assert_int_equal(disk_usage_measure("elsewhere/gone.db", &usage, &error), -ENOENT);
    assert_non_null(strstr(error.text, "elsewhere/gone.db: "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(measures_the_database_and_its_log_through_a_symbolic_link),
        cmocka_unit_test(names_a_database_that_does_not_exist),
    };

    return cmocka_run_group_tests(tests, enter_directory, remove_directory);
}
