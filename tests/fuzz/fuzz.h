// What the fuzz targets share. Each target is one LLVMFuzzerTestOneInput: libFuzzer drives it in the preset `fuzz`,
// replay.c in every other build. A target keeps nothing from one input to the next, and what it asserts of the result
// it finds out by itself, not with the code that it tests.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/callback/callback.h"

// libFuzzer's entry.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// The time of every run, and the rules: an app with two tokens (the first of which signs the seeds), an app without,
// and the one with the largest number.
#define FUZZ_NOW_MS INT64_C(1669872112000)
#define FUZZ_TOKEN  "xxxxyyyy"

extern const struct callback_rules fuzz_rules;

// A copy with a 0 behind, as large as that and no larger, so that a read beyond it is seen. Never NULL; to be freed.
char *fuzz_copy(const void *data, size_t length);

// A call as the receiver begins it.
void fuzz_begin(struct callback *callback, struct arena *arena);

bool is_utf8(const char *text, size_t length);

// They abort when the room broke its word.
void check_after_query(const struct callback *callback, const struct callback_rules *rules, const char *query,
                       enum callback_verdict verdict);
void check_after_body(const struct callback *callback, const char *body, size_t length, enum callback_verdict verdict);
void check_answer(enum answer_code code, const char *detail);
