// Holds the text of a failure. The failing function fills in the error, each caller may put its own context in front,
// and the topmost caller reports the error once. The text is an array in the struct, so no function allocates memory,
// and a failed allocation can be reported too.
#pragma once

#define MUST_CHECK        __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

struct error {
    char text[1024]; // one line without a newline; a longer text is cut
};

// Sets the text and returns -code, so that a failing function can `return error_set(...)`. code is an errno value, or 0
// for a text that is not a failure.
int error_set(struct error *error, int code, const char *format, ...) PRINTF_LIKE(3, 4);

// Puts the formatted context and ": " before the text. The end of a text that becomes too long is cut.
void error_wrap(struct error *error, const char *format, ...) PRINTF_LIKE(2, 3);
