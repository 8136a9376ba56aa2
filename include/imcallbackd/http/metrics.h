// What the HTTP server counts; ends with NULL.
#pragma once

#include "imcallbackd/base/metrics.h"

extern const struct metric *const http_metrics[];
