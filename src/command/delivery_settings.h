// Derives the settings of the deliver module from the configuration and from the tokens of the apps.
#pragma once

#include "imcallbackd/deliver/deliver.h"
#include "settings.h"

struct delivery_settings {
    struct deliver_settings deliver;
    struct deliver_app *apps;
    char *shipped_file;
    char host_name[HOST_NAME_BYTES];
};

// Fills in *delivery, checks the files of [deliver], and reports secrets that every user can read. *delivery contains
// pointers to `settings`, which must outlive it, and to its own members, so the caller must not move the structure.
// Returns -EINVAL if a key is missing or wrong, -EACCES if only another user or another service can read a file,
// -ENOSYS if this build has no deliver command, or another -errno. The caller must call delivery_settings_finish, even
// after an error.
int delivery_settings_init(struct delivery_settings *delivery, const struct settings *settings, deliver_report *report,
                           struct error *error) MUST_CHECK;
void delivery_settings_finish(struct delivery_settings *delivery);

// Returns the path of the note for retention, which is next to [deliver] state_file, or NULL if memory is exhausted.
// The caller frees the path.
char *delivery_shipped_file(const struct config *config);
