// The acceptor thread: accepts connections from the listening sockets, admits them and distributes them to the loops.
#pragma once

#include "imcallbackd/base/error.h"
#include "loop.h"

struct http_acceptor;

// The settings and the loops (settings->threads of them) must outlive the acceptor.
int http_acceptor_start(struct http_shared *shared, const struct http_settings *settings,
                        struct http_loop *const *loops, struct http_acceptor **ret_acceptor,
                        struct error *error) MUST_CHECK;

// If settings->listening_is_ours, first accepts the connections that the kernel has queued. NULL is allowed.
void http_acceptor_stop(struct http_acceptor *acceptor);
