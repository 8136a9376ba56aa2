// Creates a store with a few events for the tests of the outbound module.
#pragma once

#include "../store/store_fixture.h"
#include "imcallbackd/store/reader.h"

// Records events with the ids 1 to `count`. The event with the id N has the reception time RECEIVED_MS + N.
static inline void record_events(struct fixture *fixture, int64_t count)
{
    struct destroyed_group group = example_group();

    fixture_open(fixture);
    for (int64_t id = 1; id <= count; id++) {
        group.event_time_ms = id;
        group.received_at_ms = RECEIVED_MS + id;
        assert_int_equal(fixture_record(fixture, &group), COMMIT_RECORDED);
    }
    fixture_close(fixture);
}

static inline struct store_reader *open_reader(const struct fixture *fixture)
{
    struct store_reader *reader = NULL;
    struct error error;

    if (store_reader_open(fixture->database, &reader, &error) < 0)
        fail_msg("%s", error.text);
    return reader;
}
