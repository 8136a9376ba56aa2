// Declares what the fuzz targets share. Each target is one LLVMFuzzerTestOneInput(), which libFuzzer calls in the
// preset `fuzz`; in every other build, replay.c calls it. A target keeps no state between inputs. Where possible, its
// assertions judge a result without the code that produced the result.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/callback/callback.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// The targets use this time and these rules. The rules have an app with two tokens, of which FUZZ_TOKEN is the first;
// an app without a token; and an app with the largest SDKAppID and one token.
#define FUZZ_NOW_MS INT64_C(1669872112000)
#define FUZZ_TOKEN  "xxxxyyyy"

extern const struct callback_rules fuzz_rules;

// Copies the data and appends a NUL. The block has no further bytes, so that a sanitizer finds each read after its end.
// Never returns NULL. The caller frees the copy.
char *fuzz_copy(const void *data, size_t length);

// Like fuzz_copy, but without the NUL, for functions that get a length.
char *fuzz_copy_bare(const void *data, size_t length);

// Initializes a callback as the receiver does.
void fuzz_begin(struct callback *callback, struct arena *arena);

// Returns true if the text is valid UTF-8. Decodes the code points, unlike base/utf8.c, which compares ranges of bytes.
bool is_utf8(const char *text, size_t length);

// The functions below abort if the callback module breaks its contract.
void check_after_query(const struct callback *callback, const struct callback_rules *rules, const char *query,
                       enum callback_verdict verdict);
void check_after_body(const struct callback *callback, const char *body, size_t length, enum callback_verdict verdict);
void check_answer(enum answer_code code, const char *detail);
