// What the store counts; ends with NULL.
#pragma once

#include "imcallbackd/base/metrics.h"

extern const struct metric *const store_metrics[];
