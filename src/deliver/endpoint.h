// Sends requests to the endpoint. Only endpoint.c calls libcurl. Uses HTTP/2 and keeps connections open if the endpoint
// allows both. Always verifies certificates, follows no redirects, and ignores .netrc, SSLKEYLOGFILE and the proxies in
// the environment.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "acceptance.h"
#include "delivery.h"
#include "imcallbackd/base/error.h"
#include "imcallbackd/deliver/deliver_settings.h"

struct endpoint;

// How one request ended.
struct endpoint_answer {
    int64_t id; // of the event
    enum outcome outcome;
    int status;             // HTTP status; 0: there is no answer
    int64_t retry_after_ms; // -1: the answer has none
    struct error why;       // for a failure: what happened, without the URL's path and query
};

// Prepares the requests, but does not connect. libcurl reads the certificates only when it connects. If the path of a
// file cannot be expanded, the error names the key of the configuration.
int endpoint_create(const struct deliver_settings *settings, struct endpoint **ret_endpoint,
                    struct error *error) MUST_CHECK;

// Starts one more request for the event with this id. Fewer than settings->in_flight requests may be in flight before
// the call. Takes over the buffers of the delivery, and replaces them with those of an earlier request, which
// delivery_build can use again.
int endpoint_send(struct endpoint *endpoint, int64_t id, struct delivery *delivery, struct error *error) MUST_CHECK;

// Continues all requests. Unless this ends a request, waits until one of them can continue, until `fd` is readable,
// until timeout_ms has passed, or until endpoint_wake is called. fd: -1 stands for none.
int endpoint_wait(struct endpoint *endpoint, int timeout_ms, int fd, struct error *error) MUST_CHECK;

// Sets *ret_answer to the end of a request that has not been returned yet. Returns false if there is none.
bool endpoint_next_answer(struct endpoint *endpoint, struct endpoint_answer *ret_answer);

// Aborts the requests that are in flight. NULL is allowed.
void endpoint_destroy(struct endpoint *endpoint);

// Connects and verifies the certificate, but sends no request. Appends a sentence about what was found.
int endpoint_check(const struct deliver_settings *settings, struct buffer *found, struct error *error) MUST_CHECK;

// Ends the current endpoint_wait, or the next one. This function is safe in a signal handler.
void endpoint_wake(void);

// Returns the host and the port of a URL for messages, without path and query. The result points into the URL;
// *ret_length is its length.
const char *endpoint_host(const char *url, size_t *ret_length);
