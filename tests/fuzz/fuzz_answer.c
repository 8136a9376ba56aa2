// The input is the body of an endpoint's answer. A body that contains neither the word FAIL nor a backslash, which
// could start an escape in that word, must not report a failure. A sanitizer finds each read after the end of the body.
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "imcallbackd/callback/read_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *body = fuzz_copy(data, size);
    bool fails;

    if (answer_reports_failure(body, size, &fails) < 0)
        abort();
    if (fails && !memmem(body, size, "FAIL", 4) && !memchr(body, '\\', size))
        abort();
    free(body);
    return 0;
}
