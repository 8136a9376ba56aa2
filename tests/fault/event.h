// The events of the scripts, each named by a letter. The same letter is the same identity: small is the event itself,
// capital another content under its name. They differ in size, some have no members, some no time.
#pragma once

#include <stdbool.h>

#include "imcallbackd/callback/event.h"

// Makes them all; before any other call, once.
void event_create_all(void);

const struct destroyed_group *event_group(char letter);

// A body that was not understood, named by a digit.
const struct rejected_callback *event_rejected(char digit);
