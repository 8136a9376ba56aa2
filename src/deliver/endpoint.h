// The connections to the endpoint. Only endpoint.c calls libcurl. HTTP/2 and keep-alive where the endpoint offers them;
// certificates are always verified; no redirects, and no proxy, password file or option from the environment.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "acceptance.h"
#include "delivery.h"
#include "imcallbackd/base/error.h"
#include "imcallbackd/deliver/deliver_settings.h"

struct endpoint;

// The end of one request.
struct endpoint_answer {
    int64_t id; // of the event
    enum outcome outcome;
    int status;             // HTTP status; 0: there is no answer
    int64_t retry_after_ms; // -1: the answer has none
    struct error why;       // for a failure: what happened, without the URL's path and query
};

// Loads the certificates, but does not connect. The errors name the key of the configuration.
int endpoint_create(const struct deliver_settings *settings, struct endpoint **ret_endpoint,
                    struct error *error) MUST_CHECK;

// Starts one more request. There are fewer than settings->in_flight so far. Takes the contents of the delivery and
// leaves it empty, with other memory to use again.
int endpoint_send(struct endpoint *endpoint, int64_t id, struct delivery *delivery, struct error *error) MUST_CHECK;

// Makes the requests go on and waits until one of them does, until the descriptor is readable, for this time, or until
// endpoint_wake is called. fd: -1 stands for none.
int endpoint_wait(struct endpoint *endpoint, int timeout_ms, int fd, struct error *error) MUST_CHECK;

// Returns one answer that has arrived; false: none is left.
bool endpoint_next_answer(struct endpoint *endpoint, struct endpoint_answer *ret_answer);

// Ends requests that are in flight without waiting for their answers. NULL is allowed.
void endpoint_destroy(struct endpoint *endpoint);

// Connects and verifies the certificate, but sends no request. Appends a sentence about what was found.
int endpoint_check(const struct deliver_settings *settings, struct buffer *found, struct error *error) MUST_CHECK;

// Ends the current endpoint_wait, or the next one. This function is safe in a signal handler.
void endpoint_wake(void);

// Returns the host and the port of a URL for messages, without path and query. *ret_length is the length of the text.
const char *endpoint_host(const char *url, size_t *ret_length);
