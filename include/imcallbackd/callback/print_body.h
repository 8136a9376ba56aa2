// The counterpart of callback_read_body: prints an event as the body of a callback.
#pragma once

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/callback/event.h"

// Appends a body in the protocol's fields, from which callback_read_body reads the same group. Text that is "" and
// values that the event does not have are left out. EventTime is a string, as on the reference page. The text of the
// group must be valid UTF-8. Returns 0, or -ENOMEM; a part may then have been appended.
int callback_print_body(struct buffer *body, const struct destroyed_group *group) MUST_CHECK;
