// The part of the adapter that builds responses: a libmicrohttpd response in each of the two forms that a connection
// can need.
#pragma once

#include <stdbool.h>

#include "imcallbackd/http/handler.h"

struct MHD_Connection;

// Destroys the response if its lifetime is HTTP_RESPONSE_ONCE, and otherwise does nothing. NULL is allowed.
void http_response_release(struct http_response *response);

// Queues the response and releases it. With `closing`, the response announces Connection: close. Returns false if
// libmicrohttpd cannot send a response now. The loop's thread calls this.
bool http_response_queue(struct http_response *response, struct MHD_Connection *mhd, bool closing);
