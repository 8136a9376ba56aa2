// The metrics of the HTTP server that other modules read. All of them are also in http_metrics (server.h).
#pragma once

#include "imcallbackd/base/metrics.h"

// The values of http_handshakes and of http_proxy_headers.
enum http_handshake { HTTP_HANDSHAKE_FULL, HTTP_HANDSHAKE_RESUMED, HTTP_HANDSHAKE_FAILED };
enum http_proxy_header { HTTP_PROXY_HEADER_CLIENT, HTTP_PROXY_HEADER_LOCAL, HTTP_PROXY_HEADER_MALFORMED };

extern const struct metric http_connections_open, http_requests_waiting, http_handshakes, http_proxy_headers,
    http_answer_seconds;
