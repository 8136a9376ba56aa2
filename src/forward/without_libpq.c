// Replaces all other files of the module in a build without libpq. Every function of forward.h needs a counterpart
// here.
#include <errno.h>

#include "imcallbackd/forward/forward.h"

const bool forward_is_built = false;

static int not_built(struct error *error)
{
    return error_set(error, ENOSYS,
                     "this build has no forward command: libpq was not installed when it was built; build it again "
                     "with libpq");
}

int forward_libpq_version(void)
{
    return 0;
}

int forward_print_metrics(struct buffer *text)
{
    (void)text;
    return 0;
}

int forward_check_url(const char *url, forward_report *report, struct error *error)
{
    (void)url;
    (void)report;
    return not_built(error);
}

int forward_check_password(const char *file, forward_report *report, struct error *error)
{
    (void)file;
    (void)report;
    return not_built(error);
}

int forward_check_destination(const struct forward_settings *settings, struct error *error)
{
    (void)settings;
    return not_built(error);
}

void forward_run(const struct forward_settings *settings)
{
    (void)settings;
}

void forward_stop(void)
{
}

int forward_verify(const struct forward_settings *settings, int64_t since_ms, int64_t until_ms, forward_report *report,
                   bool *ret_same, struct error *error)
{
    (void)settings;
    (void)since_ms;
    (void)until_ms;
    (void)report;
    (void)ret_same;
    return not_built(error);
}
