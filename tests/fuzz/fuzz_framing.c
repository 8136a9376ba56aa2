// The input is the head of a request; see request_head.h. The order of the headers must not decide whether the head is
// accepted.
#include <assert.h>

#include "fuzz.h"
#include "request_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct head head;

    head_init(&head, data, size);
    assert(!head_judge(&head, false) == !head_judge(&head, true));
    head_finish(&head);
    return 0;
}
