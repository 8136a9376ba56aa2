// Declares the functions for responses that only the HTTP module uses. A response has a form that announces Connection:
// close and, unless its status is 4xx, a form that leaves the connection open. Each form is a response of
// libmicrohttpd.
#pragma once

#include <stdbool.h>

#include "imcallbackd/http/handler.h"

struct MHD_Connection;

// Destroys the response if its lifetime is HTTP_RESPONSE_ONCE, and otherwise does nothing. NULL is allowed.
void http_response_release(struct http_response *response);

// Queues the response, and releases it even on failure. If `closing` is true or the status is 4xx, the response
// announces Connection: close. Returns false if libmicrohttpd cannot send a response now. The loop's thread calls this.
bool http_response_queue(struct http_response *response, struct MHD_Connection *mhd, bool closing);
