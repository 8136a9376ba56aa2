#include "private.h"

const struct metric http_connections_open = {METRIC_GAUGE("imcallbackd_connections", "Open connections.")};
const struct metric http_requests_waiting = {
    METRIC_GAUGE("imcallbackd_waiting_requests", "Requests whose callback waits to be recorded.")};
const struct metric http_handshakes = {
    METRIC_COUNTERS("imcallbackd_tls_handshakes_total",
                    "TLS handshakes; failed ones are connections that ended before theirs was done.", "result", "full",
                    "resumed", "failed")};
const struct metric http_answer_seconds = {METRIC_HISTOGRAM(
    "imcallbackd_answer_seconds", "From the last byte of a callback's body to its answer.", 6, 100, 250, 500, 1000,
    2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2000000, 5000000, 10000000)};

const struct metric *const http_metrics[] = {&http_connections_open, &http_requests_waiting, &http_handshakes,
                                             &http_answer_seconds, NULL};
