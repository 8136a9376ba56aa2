// Runs a second, plain HTTP server for a few text pages about the state of the daemon. The server has its own thread
// and at most 16 connections, so that it cannot slow callbacks down. A new connection that takes the last slot makes
// the server close the oldest one. The server answers GET and HEAD, other methods with 405, and other paths with 404.
#pragma once

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"

#define HTTP_PLAIN_TEXT "text/plain; charset=utf-8"

struct http_admin;

struct http_admin_page {
    const char *path;
    const char *content_type;
    // Appends the text of the page, at least 1 byte, and returns the HTTP status. Returns 0 if memory is exhausted;
    // then the server closes the connection. The server's thread calls this for each GET or HEAD of the page.
    unsigned int (*print)(void *context, struct buffer *text);
};

// Starts the server. `pages` ends with a NULL path and must outlive the server. The server passes `context` to the
// print functions. listen_fd must be a bound, listening, non-blocking TCP or Unix socket. The caller closes listen_fd
// after http_admin_stop. Returns 0, -ENOMEM, or -EIO if libmicrohttpd cannot start.
int http_admin_start(int listen_fd, const struct http_admin_page *pages, void *context, struct http_admin **ret_admin,
                     struct error *error) MUST_CHECK;

// Ends the thread and closes every connection. NULL is allowed.
void http_admin_stop(struct http_admin *admin);
