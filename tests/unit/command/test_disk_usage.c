// Tests the sizes that the monitor reports for the database, its write-ahead log and the file system.
#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#include "command/disk_usage.h"
#include "command_fixture.h"

TEST(measures_the_database_and_its_log_through_a_symbolic_link)
{
    struct disk_usage usage;
    struct statvfs disk;

    write_file("callbacks.db", (char[4096]){0}, 4096);
    assert_int_equal(disk_usage_measure("callbacks.db", &usage, &error), 0);
    assert_int_equal(usage.database_bytes, 4096);
    assert_int_equal(usage.log_bytes, 0);
    write_file("callbacks.db-wal", (char[1000]){0}, 1000);
    assert_int_equal(symlink("callbacks.db", "link.db"), 0);
    assert_int_equal(disk_usage_measure("link.db", &usage, &error), 0);
    assert_int_equal(usage.database_bytes, 4096);
    assert_int_equal(usage.log_bytes, 1000);
    assert_int_equal(statvfs(".", &disk), 0);
    assert_true(usage.total_bytes > 0 && usage.total_bytes <= (int64_t)(disk.f_blocks * disk.f_frsize));
    assert_true(usage.free_bytes >= 0 && usage.free_bytes <= usage.total_bytes);
}

TEST(names_a_database_that_does_not_exist)
{
    struct disk_usage usage;

    assert_int_equal(disk_usage_measure("absent/gone.db", &usage, &error), -ENOENT);
    assert_non_null(strstr(error.text, "absent/gone.db: "));
}

TEST_MAIN(enter_directory, leave_directory)
