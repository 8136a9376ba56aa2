#include "watch.h"

#include <string.h>
#include <time.h>

#include "imcallbackd/base/clock.h"

#define LOOK_EVERY_MS 100

// Interrupts again and again, because SQLite forgets about it when it comes between two statements.
static void *watch_main(void *argument)
{
    struct watch *watch = argument;
    struct timespec next;

    do {
        watch->given_up = watch->given_up || !watch->go_on(watch->context);
        if (watch->given_up)
            sqlite3_interrupt(watch->connection);
        next = clock_timespec(clock_monotonic_ms() + LOOK_EVERY_MS);
    } while (sem_clockwait(&watch->over, CLOCK_MONOTONIC, &next) < 0);
    return NULL;
}

int watch_begin(struct watch *watch, sqlite3 *connection, bool (*go_on)(void *context), void *context,
                struct error *error)
{
    int code;

    *watch = (struct watch){.connection = connection, .go_on = go_on, .context = context};
    (void)sem_init(&watch->over, 0, 0);
    code = pthread_create(&watch->thread, NULL, watch_main, watch);
    if (code != 0) {
        (void)sem_destroy(&watch->over);
        return error_set(error, code, "a thread cannot be started: %s", strerror(code));
    }
    return 0;
}

bool watch_end(struct watch *watch)
{
    (void)sem_post(&watch->over);
    pthread_join(watch->thread, NULL);
    (void)sem_destroy(&watch->over);
    return !watch->given_up;
}
