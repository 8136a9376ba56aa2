// A log that is not read, or read slowly: who waits for it, and how long.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"
#include "unit.h"

static void make_pipe(int ends[2])
{
    assert_int_equal(pipe(ends), 0);
}

static void make_socket(int ends[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
}

// Everything that is in it by now; returns how much there was.
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

// Far more lines than could be waited for one by one: a line on which a log would hang is a test that times out.
static void a_log_that_is_not_read_holds_nobody_up(void **state)
{
    enum { LINES_LOST = 1000 };
    static const struct {
        void (*make)(int ends[2]);
        size_t first_bytes; // of the line that finds the log full: short, or longer than anything that takes it
    } rows[] = {{make_pipe, 1}, {make_pipe, 2000000}, {make_socket, 1}, {make_socket, 2000000}};
    static char data[2000000], text[4000000], filling[1024], expected[256];

    (void)state;
    memset(data, 'x', sizeof data);
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

        log_write_data(LOG_LEVEL_ERROR, data, rows[i].first_bytes, "%s", "first ");
        for (size_t line = 1; line < LINES_LOST; line++)
            log_error("line %zu", line);
        assert_int_equal(fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK, 0);
        length = drain(ends[0], text, sizeof text);
        assert_int_equal(strncmp(text, is_short ? "----" : "<3>first xxxx", 4), 0);
        assert_int_equal(text[length - 1], is_short ? '-' : 'x');

        log_error("last");
        (void)drain(ends[0], text, sizeof text);
        (void)snprintf(expected, sizeof expected,
                       "%s<3>lines of this log that are lost, because nothing took them: %d\n<3>last\n",
                       is_short ? "" : "\n", LINES_LOST);
        assert_int_equal(dup2(stderr_fd, STDERR_FILENO), STDERR_FILENO);
        assert_string_equal(text, expected);
        assert_int_equal(close(stderr_fd) | close(ends[0]) | close(ends[1]), 0);
    }
}

// Standard error is a pipe from which a thread, once it is started, reads so much at a time and pauses.
struct slow_reader {
    size_t bytes;
    useconds_t pause_us;
    atomic_bool hurry;
    int fd, stderr_fd; // the real one
    pthread_t thread;
    atomic_size_t got;
    char text[17 * 1024 * 1024];
};

static void *read_slowly(void *argument)
{
    struct slow_reader *reader = argument;
    ssize_t got;

    while ((got = read(reader->fd, reader->text + reader->got, reader->bytes)) > 0) {
        reader->got += (size_t)got;
        assert_true(reader->got < sizeof reader->text - reader->bytes);
        if (!reader->hurry)
            (void)usleep(reader->pause_us);
    }
    reader->text[reader->got] = '\0';
    return NULL;
}

static struct slow_reader *slow_reader_begin(size_t bytes, useconds_t pause_us)
{
    static struct slow_reader reader;
    int ends[2];

    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    make_pipe(ends);
    reader.bytes = bytes;
    reader.pause_us = pause_us;
    reader.hurry = false;
    reader.got = 0;
    reader.fd = ends[0];
    reader.stderr_fd = dup(STDERR_FILENO);
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(close(ends[1]), 0);
    return &reader;
}

static void slow_reader_start(struct slow_reader *reader)
{
    assert_int_equal(pthread_create(&reader->thread, NULL, read_slowly, reader), 0);
}

// Lets the rest be read at once.
static void slow_reader_end(struct slow_reader *reader)
{
    reader->hurry = true;
    while (poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, -1) != 1)
        ;
    log_info("there is room again");
    assert_int_equal(dup2(reader->stderr_fd, STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(close(reader->stderr_fd), 0);
    assert_int_equal(pthread_join(reader->thread, NULL), 0);
    assert_int_equal(close(reader->fd), 0);
}

// All lines share one patience: a log that takes each of them in time would hold up who logs for as long as there are.
static void a_slow_log_does_not_set_the_pace(void **state)
{
    enum { MANY = 400 };
    static const enum log_level levels[] = {LOG_LEVEL_ERROR, LOG_LEVEL_CRIT};
    static char data[4000];

    (void)state;
    memset(data, 'x', sizeof data);
    for (size_t i = 0; i < COUNT(levels); i++) {
        struct slow_reader *reader = slow_reader_begin(4096, 20000); // a line at a time

        slow_reader_start(reader);
        for (size_t line = 0; line < MANY; line++)
            log_write_data(levels[i], data, sizeof data, "%s", "");
        slow_reader_end(reader);
        assert_non_null(strstr(reader->text, "because nothing took them"));
    }
}

// The last place of an event is worth the wait, as long as it goes on: 4 MB a second here.
static void of_a_slow_log_no_line_of_level_crit_is_lost(void **state)
{
    enum { MANY = 80, DATA_BYTES = 100000 };
    static char data[DATA_BYTES];
    struct slow_reader *reader = slow_reader_begin(65536, 16000);
    const char *at = reader->text;

    (void)state;
    memset(data, 'x', sizeof data);
    slow_reader_start(reader);
    for (int line = 0; line < MANY; line++)
        log_write_data(LOG_LEVEL_CRIT, data, sizeof data, "%d ", line);
    slow_reader_end(reader);
    for (int line = 0; line < MANY; line++) {
        char begin[16];
        size_t length = (size_t)snprintf(begin, sizeof begin, "<2>%d x", line);

        assert_int_equal(strncmp(at, begin, length), 0);
        assert_int_equal(strspn(at + length, "x"), DATA_BYTES - 1);
        at += length + DATA_BYTES - 1;
        assert_int_equal(*at++, '\n');
    }
    assert_string_equal(at, "<6>there is room again\n");
}

static void *write_large_crit_line(void *argument)
{
    static char data[16000000];

    memset(data, 'x', sizeof data);
    log_write_data(LOG_LEVEL_CRIT, data, sizeof data, "%s", "");
    *(atomic_bool *)argument = true;
    return NULL;
}

// Whoever has something else to tell has other work too.
static void others_do_not_wait_for_a_long_line_of_level_crit(void **state)
{
    struct slow_reader *reader = slow_reader_begin(65536, 16000);
    atomic_bool written = false;
    pthread_t writer;

    (void)state;
    slow_reader_start(reader);
    assert_int_equal(pthread_create(&writer, NULL, write_large_crit_line, &written), 0);
    while (atomic_load(&reader->got) == 0)
        ;
    log_info("of less weight");
    assert_false(written);
    reader->hurry = true;
    assert_int_equal(pthread_join(writer, NULL), 0);
    slow_reader_end(reader);
    assert_string_equal(strchr(reader->text, '\n'),
                        "\n<3>lines of this log that are lost, because nothing took them: 1\n"
                        "<6>there is room again\n");
}

// In a hurry nothing is waited for any more; what is lost is told at the end, for which there is time.
static void what_is_lost_is_told_at_the_end(void **state)
{
    enum { DATA_BYTES = 200000 }; // more than a pipe takes at once
    static char data[DATA_BYTES];
    struct slow_reader *reader = slow_reader_begin(4096, 16000);

    (void)state;
    memset(data, 'x', sizeof data);
    log_set_deadline(clock_monotonic_ms());
    log_write_data(LOG_LEVEL_CRIT, data, sizeof data, "%s", "");
    log_crit("%s", "behind it");
    slow_reader_start(reader);
    log_finish();
    log_finish(); // has nothing more to tell
    slow_reader_end(reader);
    assert_string_equal(reader->text + 3 + strspn(reader->text + 3, "x"),
                        "\n<3>lines of this log that are lost, because nothing took them: 2\n"
                        "<6>there is room again\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_log_that_is_not_read_holds_nobody_up),
        cmocka_unit_test(a_slow_log_does_not_set_the_pace),
        cmocka_unit_test(of_a_slow_log_no_line_of_level_crit_is_lost),
        cmocka_unit_test(others_do_not_wait_for_a_long_line_of_level_crit),
        cmocka_unit_test(what_is_lost_is_told_at_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
