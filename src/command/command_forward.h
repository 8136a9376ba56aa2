// Converts the section [forward] of the configuration into the settings of the module forward. `check` and `forward`
// share this code.
#pragma once

#include "config.h"
#include "imcallbackd/forward/forward.h"

#define HOST_NAME_BYTES 65

// Checks the settings, and reports insecure ones. The settings refer to the configuration and to host_name, which
// receives the default receiver. -EINVAL: the configuration has no url, or a value is wrong. -EACCES: only another
// service can read the password. -ENOSYS: this build has no forward command.
int forward_settings_get(const struct config *config, char host_name[HOST_NAME_BYTES],
                         struct forward_settings *ret_settings, forward_report *report, struct error *error) MUST_CHECK;
