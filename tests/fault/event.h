// The events of the scripts, each named by a letter. The same letter is the same identity: small is the event itself,
// capital another content under its name. They differ in size, some have no members, some no time.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "imcallbackd/callback/event.h"

// From p to t they were received longer ago before the others than the retention, and before event_old_before_ms.
bool event_is_old(char letter);
extern const int64_t event_old_before_ms;
#define EVENT_KEEP_MS (INT64_C(300) * 86400000)

// Makes them all; before any other call, once.
void event_create_all(void);

const struct destroyed_group *event_group(char letter);

// A body that was not understood, named by a digit.
const struct rejected_callback *event_rejected(char digit);
