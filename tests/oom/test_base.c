// Checks that metrics_print() reports a failure of any of its allocations.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/unit.h"
#include "heap_fault.h"
#include "imcallbackd/base/metrics.h"

static const struct metric counter = {METRIC_COUNTER("plain_total", "A text.")};
static const struct metric labelled = {METRIC_COUNTERS("labelled_total", "A text.", "result", "one", "two")};
static const struct metric histogram = {METRIC_HISTOGRAM("seconds", "A text.", 6, 100, 2500, 1000000)};
static const struct metric *const metrics[] = {&counter, &labelled, &histogram, NULL};

struct page {
    size_t reserved; // capacity of the buffer before printing
    struct buffer text;
    int result;
    char *complete; // the text without a fault
};

static void reserve(void *context)
{
    struct page *page = context;

    page->text = (struct buffer){0};
    assert_int_equal(buffer_reserve(&page->text, page->reserved), 0);
}

static void print(void *context)
{
    struct page *page = context;

    page->result = metrics_print(metrics, &page->text);
}

static void judge(void *context, bool met)
{
    struct page *page = context;

    if (page->result < 0)
        assert_true(met && page->result == -ENOMEM);
    else if (page->complete)
        assert_string_equal(page->text.data, page->complete);
    else
        page->complete = strdup(page->text.data);
    buffer_finish(&page->text);
}

// The capacity of the buffer doubles, so the initial capacity decides which append allocates memory.
TEST(printing_metrics_fails_cleanly)
{
    const struct fault_scenario scenario = {"metrics", reserve, print, judge, false};
    struct page page = {.complete = NULL};
    size_t length;

    reserve(&page);
    print(&page);
    length = page.text.length;
    judge(&page, false);
    for (page.reserved = 0; page.reserved < length; page.reserved++)
        fault_run(&scenario, &page);
    free(page.complete);
}

TEST_MAIN(NULL, NULL)
