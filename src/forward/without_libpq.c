// The room in a build without libpq.
#include <errno.h>
#include <stddef.h>

#include "imcallbackd/forward/forward.h"

const bool forward_is_built = false;
const struct metric *const forward_metrics[] = {NULL};

static int absent(struct error *error)
{
    return error_set(
        error, ENOSYS,
        "this build has no forward command: libpq was not installed when it was built; build it again with libpq");
}

void forward_update_metrics(void)
{
}

int forward_check_url(const char *url, forward_report *tell, struct error *error)
{
    (void)url;
    (void)tell;
    return absent(error);
}

int forward_check_password(const char *file, forward_report *tell, struct error *error)
{
    (void)file;
    (void)tell;
    return absent(error);
}

int forward_check_destination(const struct forward_settings *settings, struct error *error)
{
    (void)settings;
    return absent(error);
}

void forward_run(const struct forward_settings *settings)
{
    (void)settings;
}

void forward_stop(void)
{
}

int forward_verify(const struct forward_settings *settings, int64_t since_ms, int64_t until_ms, forward_report *tell,
                   bool *ret_same, struct error *error)
{
    (void)settings;
    (void)since_ms;
    (void)until_ms;
    (void)tell;
    (void)ret_same;
    return absent(error);
}
