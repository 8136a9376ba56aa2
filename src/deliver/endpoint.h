// Sends requests to the endpoint. Only endpoint.c connects with libcurl. Uses HTTP/2 if the endpoint negotiates it over
// TLS, and keeps connections open. Always verifies certificates, follows no redirects, and ignores .netrc,
// SSLKEYLOGFILE and the proxies in the environment.
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
    int64_t retry_after_ms; // delay that Retry-After asks for; -1: none
    struct error why;       // for a failure: what happened and a remedy, without the URL's path and query
};

// Prepares the requests, but does not connect. libcurl reads the certificates only when it connects. If the path of a
// file cannot be expanded, the error names the key of the configuration.
int endpoint_create(const struct deliver_settings *settings, struct endpoint **ret_endpoint,
                    struct error *error) MUST_CHECK;

// Starts a request for the event with this id. The caller must keep the number of requests in flight within
// settings->in_flight. Takes over the buffers of the delivery, even after an error, and replaces them with those of an
// earlier request, which delivery_build can use again.
int endpoint_send(struct endpoint *endpoint, int64_t id, struct delivery *delivery, struct error *error) MUST_CHECK;

// Continues all requests. If none of them ends at once, waits until a request can continue, `fd` is readable,
// timeout_ms has passed, or endpoint_interrupt is called, and then continues the requests once more. An `fd` of -1
// stands for none.
int endpoint_wait(struct endpoint *endpoint, int timeout_ms, int fd, struct error *error) MUST_CHECK;

// Takes the next request that has ended: sets *ret_answer and returns true. Returns false if there is none.
bool endpoint_next_answer(struct endpoint *endpoint, struct endpoint_answer *ret_answer);

// Aborts the requests that are in flight and frees the endpoint. NULL is allowed.
void endpoint_destroy(struct endpoint *endpoint);

// Checks that libcurl accepts the URL. The error does not repeat the URL. Returns 0, -EINVAL or -ENOMEM.
int endpoint_check_url(const char *url, struct error *error) MUST_CHECK;

// Connects, and verifies the certificate of an https endpoint, but sends no request. Appends a sentence about the
// connection to `found`. Returns -EHOSTUNREACH if libcurl cannot connect, or another -errno.
int endpoint_check(const struct deliver_settings *settings, struct buffer *found, struct error *error) MUST_CHECK;

// Ends the current endpoint_wait, or the next one, and makes endpoint_is_interrupted return true from now on. Both
// functions are safe in a signal handler.
void endpoint_interrupt(void);
bool endpoint_is_interrupted(void);

// Returns the host and the port of a URL for messages, without path and query. The result points into the URL;
// *ret_length is its length.
const char *endpoint_host(const char *url, size_t *ret_length);

// Returns the version of libcurl, such as "7.88.1".
const char *endpoint_library_version(void);
