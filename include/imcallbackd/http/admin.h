// Runs a second, plain HTTP server for a few text pages about the state of the daemon. The server has its own thread,
// at most 16 connections, and answers at most one request per millisecond, so that it cannot slow callbacks down. A
// new connection that takes the last slot makes the server close the oldest one. The server answers GET and HEAD, other
// methods with 405, and other paths with 404. On a TCP socket, it refuses a Host header that is not a name of this
// machine with 421 (src/http/admin_host.h).
#pragma once

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"

#define HTTP_PLAIN_TEXT        "text/plain; charset=utf-8"
#define HTTP_ADMIN_HOSTS_BYTES 256

struct http_admin;

struct http_admin_page {
    const char *path;
    const char *content_type;
    // Appends the text of the page, at least 1 byte, and returns the HTTP status. Returns 0 if memory is exhausted;
    // then the server closes the connection. The server's thread calls this for each GET or HEAD of the page.
    unsigned int (*print)(void *context, struct buffer *text);
    const char *security_policy; // the Content-Security-Policy; NULL: the page may load nothing and run nothing
};

// Starts the server. `pages` ends with a NULL path and must outlive the server. The server passes `context` to the
// print functions. listen_fd must be a bound, listening, non-blocking TCP or Unix socket. The caller closes listen_fd
// after http_admin_stop. `hosts` is copied, see http_admin_set_hosts. Returns 0, -ENOMEM, or -EIO if libmicrohttpd
// cannot start.
int http_admin_start(int listen_fd, const struct http_admin_page *pages, void *context, const char *hosts,
                     struct http_admin **ret_admin, struct error *error) MUST_CHECK;

// Replaces the list of additional names that a Host header may contain. The list is separated by spaces, tabs or
// commas, and has less than HTTP_ADMIN_HOSTS_BYTES bytes; NULL stands for an empty list. Any thread may call this
// function.
void http_admin_set_hosts(struct http_admin *admin, const char *hosts);

// Returns the version of libmicrohttpd.
const char *http_library_version(void);

// Ends the thread and closes every connection. NULL is allowed.
void http_admin_stop(struct http_admin *admin);
