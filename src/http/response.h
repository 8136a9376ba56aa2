// What an answer is made of: libmicrohttpd's response, in the two forms in which a connection needs it.
#pragma once

#include <stdbool.h>

#include "imcallbackd/http/server.h"

#include <microhttpd.h>

struct http_response {
    unsigned int status;
    enum http_response_lifetime use;
    struct MHD_Response *keeping; // leaves the connection open; NULL for 4xx
    struct MHD_Response *closing; // says Connection: close
};

// The loop's thread. Consumes an answer that is for one request.
enum MHD_Result http_response_queue(struct http_response *answer, struct MHD_Connection *connection, bool closing);
