// Preloaded into the daemon under test: delays fdatasync(2), holds the threads that wait in poll(2) for two descriptors
// or more, and limits the send buffers of accepted sockets. The test controls this through the file that DELAYS names.
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// The content of the file. FIELDS in delays.py has the same names in the same order.
struct control {
    atomic_uint sync_is_held;      // set by the test: syncs wait until it is 0 again
    atomic_uint sync_min_us;       // set by the test: a sync takes at least this time longer,
    atomic_uint sync_max_us;       // and at most this time
    atomic_uint syncs_started;     // set here
    atomic_uint syncs_finished;    // set here
    atomic_uint poll_is_held;      // set by the test: poll returns only when it is 0 again
    atomic_uint polls_held;        // set here: the number of threads that wait in a held poll
    atomic_uint send_buffer_bytes; // set by the test: SO_SNDBUF of each socket that is accepted; 0: the default
};

static struct control *control;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void map_control(void)
{
    static struct control none;
    const char *path = getenv("DELAYS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

    control = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (control == MAP_FAILED)
        control = &none;
    if (fd >= 0)
        close(fd);
}

static void nap(unsigned int us)
{
    (void)nanosleep(&(struct timespec){.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000L}, NULL);
}

// Returns a delay that depends only on the number of the sync, so that a run can be repeated.
static unsigned int choose_delay_us(unsigned int number)
{
    unsigned int low = control->sync_min_us, high = control->sync_max_us;

    return high > low ? low + (number * 2654435761U >> 8) % (high - low + 1) : low;
}

int fdatasync(int fd)
{
    int r;

    pthread_once(&once, map_control);
    nap(choose_delay_us(atomic_fetch_add(&control->syncs_started, 1)));
    while (control->sync_is_held)
        nap(1000);
    r = (int)syscall(SYS_fdatasync, fd);
    control->syncs_finished++;
    return r;
}

static int poll_now(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    struct timespec timeout = {.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000L};

    return ppoll(fds, count, timeout_ms < 0 ? NULL : &timeout, NULL);
}

int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    int ready = poll_now(fds, count, timeout_ms);

    pthread_once(&once, map_control);
    if (count < 2 || !control->poll_is_held)
        return ready;
    control->polls_held++;
    while (control->poll_is_held)
        nap(200);
    control->polls_held--;
    return poll_now(fds, count, 0); // the descriptors may be ready for more by now
}

int accept4(int listener, struct sockaddr *address, socklen_t *length, int flags)
{
    int fd = (int)syscall(SYS_accept4, listener, address, length, flags), bytes;

    pthread_once(&once, map_control);
    bytes = (int)control->send_buffer_bytes;
    if (fd >= 0 && bytes > 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    return fd;
}
