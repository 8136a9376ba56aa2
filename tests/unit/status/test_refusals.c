// Tests the ring of refusals.
#include <stdio.h>
#include <string.h>

#include "../unit.h"
#include "imcallbackd/status/refusals.h"

static struct refusals refusals;
static struct refusals_view view;

static int setup(void **state)
{
    (void)state;
    refusals_init(&refusals);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    refusals_finish(&refusals);
    return 0;
}

TEST_WITH(is_empty_at_first, setup, teardown)
{
    refusals_copy(&refusals, &view);
    assert_int_equal(view.count, 0);
    assert_int_equal(view.accepted_ms, 0);
}

TEST_WITH(shows_the_latest_first, setup, teardown)
{
    refusals_add(&refusals, 1, ANSWER_SIGN_WRONG, "192.0.2.1", "");
    refusals_add(&refusals, 2, ANSWER_PATH_UNKNOWN, "192.0.2.1", "a detail");
    refusals_copy(&refusals, &view);
    assert_int_equal(view.count, 2);
    assert_int_equal(view.entries[0].code, ANSWER_PATH_UNKNOWN);
    assert_string_equal(view.entries[0].detail, "a detail");
    assert_int_equal(view.entries[1].code, ANSWER_SIGN_WRONG);
    assert_int_equal(view.entries[1].last_ms, 1);
}

TEST_WITH(the_same_cause_from_the_same_address_counts_up, setup, teardown)
{
    refusals_add(&refusals, 1, ANSWER_SIGN_WRONG, "192.0.2.1", "first");
    refusals_add(&refusals, 2, ANSWER_SIGN_WRONG, "192.0.2.2", "");
    refusals_add(&refusals, 3, ANSWER_SIGN_WRONG, "192.0.2.1", "second");
    refusals_copy(&refusals, &view);
    assert_int_equal(view.count, 2);
    assert_string_equal(view.entries[0].address, "192.0.2.1");
    assert_int_equal(view.entries[0].count, 2);
    assert_int_equal(view.entries[0].first_ms, 1);
    assert_int_equal(view.entries[0].last_ms, 3);
    assert_string_equal(view.entries[0].detail, "second");
    assert_int_equal(view.entries[1].count, 1);
}

TEST_WITH(keeps_the_last_twenty, setup, teardown)
{
    char address[32];

    for (int i = 0; i < 50; i++) {
        (void)snprintf(address, sizeof address, "192.0.2.%d", i);
        refusals_add(&refusals, i, ANSWER_SIGN_WRONG, address, "");
    }
    refusals_copy(&refusals, &view);
    assert_int_equal(view.count, REFUSALS_MAX);
    assert_string_equal(view.entries[0].address, "192.0.2.49");
    assert_string_equal(view.entries[REFUSALS_MAX - 1].address, "192.0.2.30");
}

TEST_WITH(cuts_what_is_too_long, setup, teardown)
{
    char detail[1000], address[1000];

    memset(detail, 'x', sizeof detail - 1);
    detail[sizeof detail - 1] = '\0';
    memcpy(address, detail, sizeof address);
    refusals_add(&refusals, 1, ANSWER_SIGN_WRONG, address, detail);
    refusals_add(&refusals, 2, ANSWER_SIGN_WRONG, address, detail);
    refusals_copy(&refusals, &view);
    assert_int_equal(view.count, 1);
    assert_int_equal(view.entries[0].count, 2);
    assert_int_equal(strlen(view.entries[0].detail), REFUSALS_DETAIL_BYTES - 1);
    assert_int_equal(strlen(view.entries[0].address), ADDRESS_TEXT_BYTES - 1);
}

TEST_WITH(an_accepted_call_ends_a_row_of_refusals, setup, teardown)
{
    refusals_add(&refusals, 1, ANSWER_SIGN_WRONG, "192.0.2.1", "");
    refusals_add(&refusals, 2, ANSWER_SIGN_WRONG, "192.0.2.1", "");
    refusals_copy(&refusals, &view);
    assert_int_equal(view.in_a_row[ANSWER_SIGN_WRONG], 2);
    refusals_note_accepted(&refusals, 3);
    refusals_copy(&refusals, &view);
    assert_int_equal(view.in_a_row[ANSWER_SIGN_WRONG], 0);
    assert_int_equal(view.accepted_ms, 3);
    refusals_add(&refusals, 4, ANSWER_SIGN_WRONG, "192.0.2.1", "");
    refusals_copy(&refusals, &view);
    assert_int_equal(view.in_a_row[ANSWER_SIGN_WRONG], 1);
    assert_int_equal(view.entries[0].count, 3);
}

TEST_MAIN(NULL, NULL)
