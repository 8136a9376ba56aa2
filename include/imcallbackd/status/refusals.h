// The most recent refusals, for the status page. Any thread may call these functions.
//
// A refusal costs its thread one mutex, a comparison with each of 20 entries and a copy of at most 250 bytes, but no
// allocation and no system call besides the mutex; a reader holds the mutex for the time of one copy of all entries. An
// accepted callback costs two atomic stores.
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/address.h"
#include "imcallbackd/callback/answer.h"

#define REFUSALS_MAX          20
#define REFUSALS_DETAIL_BYTES 192

// All refusals of one cause from one address.
struct refusal {
    enum answer_code code;
    char address[ADDRESS_TEXT_BYTES];   // "" if the address is unknown
    char detail[REFUSALS_DETAIL_BYTES]; // of the last refusal; "" if there is none
    int64_t first_ms, last_ms;          // Unix time
    uint64_t count;
    uint64_t order; // larger for later refusals; 0: the entry is free
};

struct refusals {
    atomic_int_fast64_t accepted_ms; // Unix time of the last accepted call; 0: none was accepted
    atomic_bool accepted_since;      // a call was accepted after the last refusal
    pthread_mutex_t lock;            // guards the fields below
    uint64_t order;
    uint64_t in_a_row[ANSWER_CODE_COUNT]; // refusals since the last accepted call
    struct refusal entries[REFUSALS_MAX];
};

// What a page shows of the refusals.
struct refusals_view {
    int64_t accepted_ms;
    uint64_t in_a_row[ANSWER_CODE_COUNT];
    size_t count;
    struct refusal entries[REFUSALS_MAX]; // latest first
};

void refusals_init(struct refusals *refusals);
void refusals_finish(struct refusals *refusals);

// Notes a refusal. A text that is too long is cut. The detail must be fit for publication: no body, no secret.
void refusals_add(struct refusals *refusals, int64_t now_ms, enum answer_code code, const char *address,
                  const char *detail);

// Notes that a call was accepted, so that the refusals before it no longer count as refusals in a row.
void refusals_note_accepted(struct refusals *refusals, int64_t now_ms);

void refusals_copy(struct refusals *refusals, struct refusals_view *ret_view);
