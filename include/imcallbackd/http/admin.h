// A second, plain HTTP server for a few text pages that are read by whoever watches the daemon. It has one thread of
// its own and takes few connections, so it can be in nobody's way; when one too many comes, the oldest makes room. HEAD
// works, other methods get 405, other paths 404.
#pragma once

#include <stddef.h>

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"

#define HTTP_PLAIN_TEXT "text/plain; charset=utf-8"

struct http_admin;

struct http_admin_page {
    const char *path;
    const char *content_type;
    // Appends the page's text, at least a byte, and returns its HTTP status; 0 when there is no memory, which closes
    // the connection. On the server's thread, for each request.
    unsigned int (*print)(void *context, struct buffer *text);
};

// pages: end with a NULL path, and outlive the server. listen_fd: bound, listening, non-blocking, TCP or Unix; stays
// the caller's to close, after http_admin_stop.
int http_admin_start(int listen_fd, const struct http_admin_page *pages, void *context, struct http_admin **ret_admin,
                     struct error *error) MUST_CHECK;

// Ends the thread and closes every connection. NULL is allowed.
void http_admin_stop(struct http_admin *admin);
