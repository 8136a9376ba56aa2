// Tests which lines wait for a log that is read slowly or not at all, for how long, and which lines are dropped.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../unit.h"
#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"

#define DROPPED "<3>log: lines dropped because standard error did not accept them: "

static void make_pipe(int ends[2])
{
    assert_int_equal(pipe(ends), 0);
}

static void make_socket(int ends[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
}

// Reads all available data from a non-blocking descriptor and ends the text with a NUL. Returns the length of the text.
static size_t drain(int fd, char *text, size_t size)
{
    size_t length = 0;
    ssize_t got;

    while ((got = read(fd, text + length, size - 1 - length)) > 0)
        length += (size_t)got;
    assert_true(got == 0 || errno == EAGAIN);
    text[length] = '\0';
    return length;
}

// If each of the thousand lines waited like the first one, the test would time out.
TEST(only_the_first_line_waits_for_an_unread_log)
{
    enum { LINES_DROPPED = 1000 };
    static const struct {
        void (*make)(int ends[2]);
        enum log_level level;
        size_t first_bytes; // data in the first line: 1 byte if the log is full, otherwise more than the log holds
    } rows[] = {{make_pipe, LOG_LEVEL_ERROR, 1},
                {make_pipe, LOG_LEVEL_ERROR, 2000000},
                {make_socket, LOG_LEVEL_ERROR, 1},
                {make_socket, LOG_LEVEL_ERROR, 2000000},
                {make_pipe, LOG_LEVEL_CRIT, 2000000}};
    static char huge[2000000], text[4000000], filling[1024], expected[256];

    memset(huge, 'x', sizeof huge);
    memset(filling, '-', sizeof filling);
    log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    for (size_t i = 0; i < COUNT(rows); i++) {
        bool is_short = rows[i].first_bytes == 1;
        int ends[2], stderr_fd = dup(STDERR_FILENO);
        size_t length;

        rows[i].make(ends);
        assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
        assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
        while (is_short && write(ends[1], filling, sizeof filling) > 0)
            ;
        assert_int_equal(fcntl(ends[1], F_SETFL, 0), 0);
        assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);

        log_write_data(rows[i].level, huge, rows[i].first_bytes, "%s", "first ");
        for (size_t line = 1; line < LINES_DROPPED; line++)
            log_write(rows[i].level, "line %zu", line);
        assert_int_equal(fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK, 0);
        length = drain(ends[0], text, sizeof text);
        assert_int_equal(strncmp(text + 3, is_short ? "-" : "first xxxx", is_short ? 1 : 10), 0);
        assert_int_equal(text[length - 1], is_short ? '-' : 'x');

        log_error("last");
        (void)drain(ends[0], text, sizeof text);
        (void)snprintf(expected, sizeof expected, "%s" DROPPED "%d\n<3>last\n", is_short ? "" : "\n", LINES_DROPPED);
        assert_int_equal(dup2(stderr_fd, STDERR_FILENO), STDERR_FILENO);
        assert_string_equal(text, expected);
        assert_int_equal(close(stderr_fd) | close(ends[0]) | close(ends[1]), 0);
    }
}

#define PAGE_BYTES 4096 // a pipe frees its space in units of this size

// Standard error is a pipe, from which a thread reads a page every 10 ms and, once the reader is released, without a
// pause.
struct slow_reader {
    int fd, release_fd, stderr_fd; // stderr_fd: duplicate of the descriptor that the pipe replaces
    pthread_t thread;
    atomic_size_t length;
    char text[4 * 1024 * 1024];
};

static void *read_slowly(void *argument)
{
    struct slow_reader *reader = argument;
    ssize_t got;

    while ((got = read(reader->fd, reader->text + reader->length, PAGE_BYTES)) > 0) {
        reader->length += (size_t)got;
        assert_true(reader->length < sizeof reader->text - PAGE_BYTES);
        (void)poll(&(struct pollfd){.fd = reader->release_fd, .events = POLLIN}, 1, 10);
    }
    reader->text[reader->length] = '\0';
    return NULL;
}

static char data[300 * PAGE_BYTES]; // the slow reader needs three times LOG_WAIT_MS for this line

static struct slow_reader *slow_reader_create(void)
{
    static struct slow_reader reader;
    int ends[2];

    memset(data, 'x', sizeof data);
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    make_pipe(ends);
    reader.length = 0;
    reader.fd = ends[0];
    reader.release_fd = eventfd(0, EFD_CLOEXEC);
    reader.stderr_fd = dup(STDERR_FILENO);
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(close(ends[1]), 0);
    return &reader;
}

static void slow_reader_start(struct slow_reader *reader)
{
    assert_int_equal(pthread_create(&reader->thread, NULL, read_slowly, reader), 0);
}

static void slow_reader_release(struct slow_reader *reader)
{
    assert_int_equal(eventfd_write(reader->release_fd, 1), 0);
}

static void slow_reader_finish(struct slow_reader *reader)
{
    slow_reader_release(reader);
    while (poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, -1) != 1)
        ;
    log_info("end");
    assert_int_equal(dup2(reader->stderr_fd, STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(pthread_join(reader->thread, NULL), 0);
    assert_int_equal(close(reader->stderr_fd) | close(reader->fd) | close(reader->release_fd), 0);
}

TEST(only_crit_lines_wait_longer_for_a_log_that_is_read_slowly)
{
    static const struct {
        enum log_level level;
        bool arrives;
        const char *end;
    } rows[] = {
        {LOG_LEVEL_CRIT, true, "\n<6>end\n"},
        {LOG_LEVEL_ERROR, false, "\n" DROPPED "1\n<6>end\n"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct slow_reader *reader = slow_reader_create();
        size_t length;

        slow_reader_start(reader);
        log_write_data(rows[i].level, data, sizeof data, "%s", "");
        slow_reader_finish(reader);
        length = strspn(reader->text + 3, "x");
        assert_int_equal(length == sizeof data, rows[i].arrives);
        assert_string_equal(reader->text + 3 + length, rows[i].end);
    }
}

static void *read_late(void *argument)
{
    const struct slow_reader *reader = argument;

    (void)poll(&(struct pollfd){.fd = reader->release_fd, .events = POLLIN}, 1, 200);
    return read_slowly(argument);
}

// The log accepts data again after the first line was dropped and while the second line waits.
TEST(a_crit_line_waits_after_another_line_was_dropped)
{
    struct slow_reader *reader = slow_reader_create();

    log_write_data(LOG_LEVEL_INFO, data, sizeof data, "%s", "");
    assert_int_equal(pthread_create(&reader->thread, NULL, read_late, reader), 0);
    log_crit("event");
    slow_reader_finish(reader);
    assert_string_equal(reader->text + 3 + strspn(reader->text + 3, "x"), "\n" DROPPED "1\n<2>event\n<6>end\n");
}

static void *write_crit_line(void *is_written)
{
    log_write_data(LOG_LEVEL_CRIT, data, sizeof data, "%s", "");
    *(atomic_bool *)is_written = true;
    return NULL;
}

TEST(a_thread_does_not_wait_for_the_long_crit_line_of_another)
{
    struct slow_reader *reader = slow_reader_create();
    atomic_bool is_written = false;
    pthread_t writer;

    slow_reader_start(reader);
    assert_int_equal(pthread_create(&writer, NULL, write_crit_line, &is_written), 0);
    while (reader->length == 0)
        ;
    log_info("less important");
    assert_false(is_written);
    slow_reader_release(reader);
    assert_int_equal(pthread_join(writer, NULL), 0);
    slow_reader_finish(reader);
    assert_string_equal(strchr(reader->text, '\n'), "\n" DROPPED "1\n<6>end\n");
}

TEST(no_line_waits_after_the_deadline_but_the_report)
{
    struct slow_reader *reader = slow_reader_create();

    log_set_deadline(clock_monotonic_ms());
    log_write_data(LOG_LEVEL_CRIT, data, sizeof data, "%s", "");
    log_crit("second");
    slow_reader_start(reader);
    log_finish();
    log_finish(); // has nothing left to report
    slow_reader_finish(reader);
    assert_string_equal(reader->text + 3 + strspn(reader->text + 3, "x"), "\n" DROPPED "2\n<6>end\n");
}

TEST_MAIN(NULL, NULL)
