// Decides which waiting event is sent next, when a failed event is sent again, and when an event is set aside. The
// functions do no input or output. All times are arguments, in milliseconds of one clock. The delays have a random part
// from random(3).

// The rules:
//   - Of the events that are due, the one with the smallest id is sent first. While an older event of the same group
//     waits, an event is not sent.
//   - A failed event is sent again after 1 s, and after each further failure the delay is twice as long. Each delay
//     varies at random by up to 50 percent, and is limited to 1 s to 15 min. If the endpoint's Retry-After, with the
//     same limits, is longer, it replaces the delay. Retry-After in a failure other than a refusal also pauses all
//     other events.
//   - There are `in_flight` places for requests. Each failure takes one place away until an event is accepted, which
//     restores all places. If no place is left, the endpoint is at fault: one event at a time is sent as a probe, with
//     pauses of 1 s to 1 min, varied at random. The event with the fewest failed attempts then comes first, so that a
//     run of refused events does not hide one that the endpoint accepts. Once an event is accepted again, each event
//     whose last failure was not a refusal is due within 5 s.
//   - A refusal sets an event aside if its first refusal was at least an hour ago and another event was accepted since
//     then. Unless give_up_after is 0, any failed attempt sets an event aside if its first failure was at least
//     give_up_after ago and another event was accepted since then. After a restart, only events that were accepted
//     since the restart count.
//   - With in_flight = 1, an event is also not sent while an older event waits. The exception is an older event that
//     could be set aside as soon as another event is accepted.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "acceptance.h"
#include "imcallbackd/store/delivery_state.h"

#define SCHEDULE_MAX_EVENTS  DELIVERY_STATE_MAX_WAITING
#define RETRY_MIN_MS         INT64_C(1000)
#define RETRY_MAX_MS         INT64_C(900000)
#define PROBE_PAUSE_MAX_MS   INT64_C(60000)
#define RECOVERY_MS          INT64_C(5000)
#define SET_ASIDE_REFUSED_MS INT64_C(3600000)
#define SCHEDULE_NEVER       INT64_MAX

struct schedule;

enum schedule_result { SCHEDULE_DONE, SCHEDULE_RETRY, SCHEDULE_SET_ASIDE };

// Creates an empty schedule with `in_flight` places. A give_up_after_ms of 0 stands for never. Returns NULL if memory
// is exhausted. No other function of the schedule allocates memory.
struct schedule *schedule_create(size_t in_flight, int64_t give_up_after_ms);
void schedule_destroy(struct schedule *schedule); // NULL is allowed

// Returns the number of events that can be added.
size_t schedule_room(const struct schedule *schedule);

// Returns true if the caller should add more events: there is room, and fewer events are ready to be sent than there
// are places. While the endpoint is at fault, only an event without a failed attempt counts as ready, and one such
// event is enough.
bool schedule_wants_more(const struct schedule *schedule, int64_t now_ms);

// Adds an event, whose id must be greater than that of every event added before. The times of the event are on the
// clock of now_ms. There must be room.
void schedule_add(struct schedule *schedule, const struct waiting_event *event);

// Returns the next event to send, which is in flight from now on, or NULL if none can be sent now. The pointer is valid
// until schedule_finish or schedule_drop is called for the event.
const struct waiting_event *schedule_start(struct schedule *schedule, int64_t now_ms);

// Returns the time at which the caller should call schedule_start again, or SCHEDULE_NEVER if only a change of the
// schedule can make an event ready.
int64_t schedule_due_ms(const struct schedule *schedule, int64_t now_ms);

// Reports the end of an attempt. A retry_after_ms of -1 stands for an answer without Retry-After. Sets *ret_event to
// the event with its new times and counts. The schedule forgets the event unless the result is SCHEDULE_RETRY.
enum schedule_result schedule_finish(struct schedule *schedule, int64_t id, enum outcome outcome, int status,
                                     int64_t retry_after_ms, int64_t now_ms, struct waiting_event *ret_event);

// Takes back an event that was started but could not be sent. The event waits as before.
void schedule_postpone(struct schedule *schedule, int64_t id);

// Forgets an event that was started, because the store does not have it any more.
void schedule_drop(struct schedule *schedule, int64_t id);

// Returns whether the endpoint is at fault: as many attempts as there are places have failed since the last acceptance.
bool schedule_is_probing(const struct schedule *schedule);

// Returns the waiting event with the smallest id, or NULL if no event waits. An event in flight counts as waiting.
const struct waiting_event *schedule_oldest(const struct schedule *schedule);

size_t schedule_waiting(const struct schedule *schedule);
size_t schedule_in_flight(const struct schedule *schedule);
