// Appends markup to a buffer. After the first failed allocation, a writer ignores everything else, so that a caller
// checks for failure once, at the end.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "imcallbackd/base/buffer.h"

struct writer {
    struct buffer *text;
    bool failed;
};

// Appends text as it is. The format and its arguments must not come from outside.
void write_markup(struct writer *writer, const char *format, ...) PRINTF_LIKE(2, 3);

// Appends a text of any content so that HTML shows it literally, both between tags and in a quoted attribute. Invalid
// UTF-8 and control characters become U+FFFD.
void write_html(struct writer *writer, const char *text);

// Appends a text of any content as a JSON string with its quotes.
void write_json(struct writer *writer, const char *text);
