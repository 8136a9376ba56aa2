// Metrics that find no memory are told as such, and not printed in part.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "imcallbackd/base/metrics.h"

#include <cmocka.h>

static const struct metric counter = {METRIC_COUNTER("plain_total", "A text.")};
static const struct metric labelled = {METRIC_COUNTERS("labelled_total", "A text.", "result", "one", "two")};
static const struct metric histogram = {METRIC_HISTOGRAM("seconds", "A text.", 6, 100, 2500, 1000000)};
static const struct metric *const metrics[] = {&counter, &labelled, &histogram, NULL};

struct page {
    size_t room; // that the buffer has at first
    struct buffer text;
    int result;
    char *whole; // without a fault
};

static void reserve(void *context)
{
    struct page *page = context;

    page->text = (struct buffer){0};
    assert_int_equal(buffer_reserve(&page->text, page->room), 0);
}

static void print(void *context)
{
    struct page *page = context;

    page->result = metrics_print(metrics, &page->text);
}

static void judge(void *context, bool met, bool lasting)
{
    struct page *page = context;

    (void)lasting;
    if (page->result < 0)
        assert_true(met && page->result == -ENOMEM);
    else if (page->whole)
        assert_string_equal(page->text.data, page->whole);
    else
        page->whole = strdup(page->text.data);
    buffer_finish(&page->text);
}

// A buffer doubles, so with every room at the beginning it is another piece that finds none.
static void printing_metrics(void **state)
{
    const struct fault_scenario scenario = {"metrics", reserve, print, judge, false};
    struct page page = {.whole = NULL};
    size_t length;

    (void)state;
    reserve(&page);
    print(&page);
    length = page.text.length;
    judge(&page, false, false);
    for (page.room = 0; page.room < length; page.room++)
        fault_run(&scenario, &page);
    free(page.whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(printing_metrics)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
