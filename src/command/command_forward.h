// What [forward] of the configuration says, in the form in which the forward room takes it.
#pragma once

#include "config.h"
#include "imcallbackd/forward/forward.h"

#define HOST_NAME_BYTES 65

// host_name gets the receiver's name when the configuration has none. The settings refer to both. Refuses a
// configuration without a url, and a build that cannot forward.
int forward_settings_get(const struct config *config, char host_name[HOST_NAME_BYTES],
                         struct forward_settings *ret_settings, forward_report *tell, struct error *error) MUST_CHECK;
