// Prints an event as the body of a callback, from which callback_read_body can read the event again.
#pragma once

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/callback/event.h"

// Appends a body from which callback_read_body reads the same fields. Omits empty text and values that the event does
// not have. EventTime is a string, as on the reference page. The text of the group must be valid UTF-8. Returns 0 or
// -ENOMEM. After -ENOMEM, part of the body may have been appended.
int callback_print_body(struct buffer *body, const struct destroyed_group *group) MUST_CHECK;
