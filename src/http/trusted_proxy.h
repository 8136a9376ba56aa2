// Reads the PROXY header with which a connection of a trusted proxy may start, before libmicrohttpd and GnuTLS see a
// byte, and applies to the client the checks that the acceptor has left out.
#pragma once

#include <stdbool.h>

#include "connection.h"

// The caller calls this before each receive while the client is HTTP_CLIENT_UNDECIDED. Returns true if the next byte to
// receive belongs to TLS, or if the peer has ended the connection without sending a byte. Returns false and sets errno
// to EAGAIN if further bytes must arrive first, or to another value if the connection failed or this function has
// closed it.
bool trusted_proxy_receive(struct http_connection *connection);
