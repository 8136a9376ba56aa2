// The input is the body of an endpoint's answer. Whether it reports a failure must not depend on what follows the text
// in memory, and a body without the word FAIL or an escape never reports one.
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
