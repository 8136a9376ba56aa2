// A failure in words. Whoever fails fills it, whoever passes it on puts its own context in front, and the top logs it
// once. Lives on the caller's stack, never on the heap, so that running out of memory can be told too.
#pragma once

#define MUST_CHECK        __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

struct error {
    char text[1024]; // one sentence without a line end; cut when longer
};

// Sets the text and returns -code (an errno value), so that a failing function can `return error_set(...)`.
int error_set(struct error *error, int code, const char *format, ...) PRINTF_LIKE(3, 4);

// Puts "format: " before the text.
void error_wrap(struct error *error, const char *format, ...) PRINTF_LIKE(2, 3);
