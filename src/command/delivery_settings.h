// Derives the settings of the module deliver from the section [deliver] and from the tokens of the apps.
#pragma once

#include "imcallbackd/deliver/deliver.h"
#include "settings.h"

struct delivery_settings {
    struct deliver_settings deliver;
    struct deliver_app *apps;
    char *shipped_file;
    char host_name[HOST_NAME_BYTES];
};

// The settings refer to `settings`, and to themselves: the caller does not move them. -EINVAL: the configuration has no
// url, or a value is wrong. -EACCES: only another service can read a file. -ENOSYS: this build has no deliver command.
// The caller calls delivery_settings_finish, also after an error.
int delivery_settings_init(struct delivery_settings *delivery, const struct settings *settings, deliver_report *report,
                           struct error *error) MUST_CHECK;
void delivery_settings_finish(struct delivery_settings *delivery);

// Prints the path of the note for retention that belongs to this state file. The caller frees the path. Returns NULL if
// out of memory.
char *delivery_shipped_file(const struct config *config);
