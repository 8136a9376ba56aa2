// Builds one request to the endpoint: the callback as the service would send it, with the headers of Standard Webhooks.
// The functions do no input or output; the time is an argument.
#pragma once

#include <stdint.h>

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"
#include "imcallbackd/deliver/deliver_settings.h"
#include "imcallbackd/store/reader.h"
#include "webhook_signature.h"

// The buffers keep their memory from one event to the next. A zeroed struct is ready for use.
struct delivery {
    struct buffer url;       // with the query
    struct buffer body;      // the recorded body; if it was not recorded, an equivalent body
    struct buffer id;        // webhook-id: the same at every attempt
    struct buffer timestamp; // webhook-timestamp: seconds since 1970
    struct buffer signature; // webhook-signature; empty without a secret
};

// Builds the request for an event. `now_s` is the time of the request in seconds since 1970. Returns 0, -ENOMEM, or
// -EIO if libcrypto fails.
int delivery_build(struct delivery *delivery, const struct deliver_settings *settings,
                   const struct webhook_secrets *secrets, const struct recorded_row *row, int64_t now_s,
                   struct error *error) MUST_CHECK;

void delivery_finish(struct delivery *delivery);
