// Creates the events and rejected callbacks that a script (scenario.h) names by letters and digits. The same letter
// stands for the same identity: the lower-case letter for the event itself, the upper-case letter for an event with
// that identity and other content. The events differ in size; some have no members, and some have no time.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "imcallbackd/callback/event.h"

// Takes a lower-case letter and returns true for p to t. These events, and those with the same identity, were received
// before event_old_before_ms, and are older than all other events by more than the retention EVENT_KEEP_MS.
bool event_is_old(char letter);
extern const int64_t event_old_before_ms;
#define EVENT_KEEP_MS (INT64_C(300) * 86400000)

// Creates all events and rejected callbacks. Must be called once, before the functions below.
void event_create_all(void);

const struct destroyed_group *event_group(char letter);

// Returns the rejected callback with this digit.
const struct rejected_callback *event_rejected(char digit);
