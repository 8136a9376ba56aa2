// Checks that the page and the JSON report a failure of any of their allocations.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/status/status_fixture.h"
#include "../unit/unit.h"
#include "heap_fault.h"

#define STEP 97 // prime, so that the buffer grows at many different places

struct printing {
    int (*print)(const struct status *status, struct buffer *text);
    struct status status;
    size_t reserved; // capacity of the buffer before printing
    struct buffer text;
    int result;
    char *complete; // the text without a fault
};

static void reserve(void *context)
{
    struct printing *printing = context;

    printing->text = (struct buffer){0};
    assert_int_equal(buffer_reserve(&printing->text, printing->reserved), 0);
}

static void print(void *context)
{
    struct printing *printing = context;

    printing->result = printing->print(&printing->status, &printing->text);
}

static void judge(void *context, bool met)
{
    struct printing *printing = context;

    if (printing->result < 0)
        assert_true(met && printing->result == -ENOMEM);
    else if (printing->complete)
        assert_string_equal(printing->text.data, printing->complete);
    else
        printing->complete = strdup(printing->text.data);
    buffer_finish(&printing->text);
}

static void run(int (*function)(const struct status *status, struct buffer *text))
{
    static struct printing printing;
    const struct fault_scenario scenario = {"status", reserve, print, judge, false};
    size_t length;

    printing = (struct printing){.print = function, .status = fixture_status()};
    fixture_refuse(&printing.status, ANSWER_COMMAND_NOT_HANDLED, 3);
    (void)snprintf(printing.status.refusals.entries[0].detail, sizeof printing.status.refusals.entries[0].detail, "%s",
                   "The query has '<b>'.");
    printing.status.outbound[0] = (struct status_outbound){.name = "forward"};
    reserve(&printing);
    print(&printing);
    length = printing.text.length;
    judge(&printing, false);
    for (printing.reserved = 0; printing.reserved < length; printing.reserved += STEP)
        fault_run(&scenario, &printing);
    free(printing.complete);
}

TEST(printing_the_page_fails_cleanly)
{
    run(page_print);
}

TEST(printing_the_json_fails_cleanly)
{
    run(status_json_print);
}

TEST_MAIN(NULL, NULL)
