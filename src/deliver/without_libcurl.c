// Replaces all other files of the module in a build without libcurl. Every function of deliver.h needs a counterpart
// here.
#include <errno.h>

#include "imcallbackd/deliver/deliver.h"

const bool deliver_is_built = false;

static int not_built(struct error *error)
{
    return error_set(error, ENOSYS,
                     "this build has no deliver command: libcurl was not installed when it was built; build it again "
                     "with libcurl");
}

const char *deliver_libcurl_version(void)
{
    return NULL;
}

int deliver_print_metrics(struct buffer *text)
{
    (void)text;
    return 0;
}

int deliver_check_url(const char *url, struct error *error)
{
    (void)url;
    return not_built(error);
}

int deliver_check_secrets(const char *file, deliver_report *report, struct error *error)
{
    (void)file;
    (void)report;
    return not_built(error);
}

int deliver_check_file(const char *file, struct error *error)
{
    (void)file;
    return not_built(error);
}

int deliver_check_ca_file(const char *file, struct error *error)
{
    (void)file;
    return not_built(error);
}

void deliver_check_state_file(const char *state_file, deliver_report *report)
{
    (void)state_file;
    (void)report;
}

int deliver_check_endpoint(const struct deliver_settings *settings, deliver_report *report, struct error *error)
{
    (void)settings;
    (void)report;
    return not_built(error);
}

int deliver_run(const struct deliver_settings *settings, bool from_now, struct error *error)
{
    (void)settings;
    (void)from_now;
    return not_built(error);
}

int deliver_replay(const struct deliver_settings *settings, int64_t first_id, int64_t last_id, deliver_report *report,
                   bool *ret_all_accepted, struct error *error)
{
    (void)settings;
    (void)first_id;
    (void)last_id;
    (void)report;
    (void)ret_all_accepted;
    return not_built(error);
}

void deliver_stop(void)
{
}
