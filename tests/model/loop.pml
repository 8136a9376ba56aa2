// Models the event loop: src/http/request.c, the adapter src/http/mhd.c with libmicrohttpd, and src/http/loop.c. Only
// the loop's thread accesses a connection and its request, except that the writer thread may access a pending request.

// ---- The request, on the loop's thread ----

inline http_request_take_response(r)
{
    assert(HAS(has_response, r));
    REMOVE(has_response, r);
    phase[r] = ANSWERED
}

// Each request is answered before its end, unless its client has reset the connection.
inline http_request_finish(r, is_reset)
{
    assert(phase[r] != PENDING && phase[r] != FREED && stage[r] == AT_CALLER && !HAS(committing, r));
    assert(phase[r] == ANSWERED || is_reset);
    phase[r] = FREED;
    REMOVE(has_response, r);
    REMOVE(held, r);
    REMOVE(will_reset, r)
}

inline free_connection(r, is_reset)
{
    assert(HAS(connections, r));
    if
    :: phase[r] == BODY -> phase[r] = FREED
    :: phase[r] == FREED
    :: else -> http_request_finish(r, is_reset)
    fi;
    REMOVE(connections, r)
}

// A pending request keeps its connection until mhd_adapter_complete.
inline on_connection_closed(r, is_reset)
{
    REMOVE(running, r);
    if
#ifdef BUG_FREED_AT_RESET
    :: phase[r] == PENDING -> phase[r] = FREED; REMOVE(connections, r)
#else
    :: phase[r] == PENDING
#endif
    :: else -> free_connection(r, is_reset)
    fi
}

// The call of on_body follows in submit_next. While the server stops, it refuses the request. The client decides now
// whether it resets the connection later.
inline http_request_receive_end(r)
{
    if
#ifndef BUG_PENDING_AFTER_STOP
    :: server_stopping -> ADD(has_response, r); http_request_take_response(r)
#endif
    :: else ->
       phase[r] = PENDING;
       ADD(submitted, r);
       ADD(held, r);
#ifdef WITH_RESET
       if
       :: ADD(will_reset, r)
       :: true
       fi
#endif
    fi
}

inline http_request_poll(r)
{
    if
    :: phase[r] == PENDING && !has_expired // HTTP_VERDICT_HOLD
    :: phase[r] == PENDING ->              // HTTP_VERDICT_SUSPEND
       REMOVE(running, r);
       ADD(suspended, r);
       polled--
    :: phase[r] == COMPLETED -> http_request_take_response(r); has_progress = true
    fi
}

inline http_request_unhold(r)
{
    assert(phase[r] == PENDING && pending > 0);
    phase[r] = COMPLETED;
    pending--;
    if
    :: !HAS(suspended, r) -> polled--
    :: else
    fi
}

inline mhd_adapter_complete(r)
{
    http_request_unhold(r);
    if
    :: HAS(suspended, r) -> // MHD_resume_connection
#ifndef BUG_NO_RESUME
       REMOVE(suspended, r);
       ADD(resuming, r)
#endif
    :: HAS(running, r)
    :: else -> free_connection(r, true)
    fi
}

// One step for a connection. Every step but a verdict HOLD or SUSPEND is progress. A client may also send a part of its
// request, which changes nothing.
inline run_connection(r)
{
    assert(HAS(connections, r));
    if
    :: phase[r] == BODY
    :: phase[r] == BODY && IS_NEXT(r) -> http_request_receive_end(r); has_progress = true
#ifdef WITH_RESET
    :: phase[r] == BODY && IS_NEXT(r) -> on_connection_closed(r, true); has_progress = true
    :: HAS(will_reset, r) -> on_connection_closed(r, true); has_progress = true
#endif
    :: phase[r] == PENDING || phase[r] == COMPLETED -> http_request_poll(r)
    :: phase[r] == ANSWERED -> http_request_finish(r, false); has_progress = true
    fi
}

inline mhd_adapter_run()
{
    running = running | (resuming & MINE);
    resuming = resuming & ~MINE;
    for (r : 0 .. REQUESTS - 1) {
        if
        :: LOOP_OF(r) == me && HAS(running, r) && phase[r] != FREED -> run_connection(r)
        :: else
        fi
    }
    r = 0
}

// ---- The loop ----

// The epoll descriptor is readable if a client has sent something or has reset the connection. Each client that has not
// done so will do it.
#define IS_READABLE(r)   (LOOP_OF(r) == me && HAS(running, r) && (phase[r] == BODY || HAS(will_reset, r)))
// MHD_get_timeout returns 0 if a connection is to be resumed, polled or answered.
#define IS_UNANSWERED(r) (LOOP_OF(r) == me && HAS(running | resuming, r) && phase[r] != BODY && phase[r] != FREED)
#if REQUESTS == 1
#define ANY(is) is(0)
#elif REQUESTS == 2
#define ANY(is) (is(0) || is(1))
#else
#define ANY(is) (is(0) || is(1) || is(2))
#endif

// poll and process_deadlines. The loop sleeps until a descriptor is readable, but not at all after progress, and for
// HELD_POLL_MS at most while a request is polled.
inline sleep_until_ready()
{
    if
#ifdef BUG_EVENT_AFTER_INBOX
    :: event_fd[me]
#else
    :: event_fd[me] -> event_fd[me] = false
#endif
    :: ANY(IS_READABLE)
#ifndef BUG_BLOCKS_WITH_WORK
    :: has_progress && ANY(IS_UNANSWERED)
    :: !has_progress && polled > 0 && ANY(IS_UNANSWERED) -> has_expired = true
#endif
    fi;
    has_progress = false
}

inline process_inbox()
{
    has_progress = inbox_connections[me] != 0 || inbox_completed[me] != 0;
    running = running | inbox_connections[me];
    inbox_connections[me] = 0;
    for (r : 0 .. REQUESTS - 1) {
        if
        :: HAS(inbox_completed[me], r) -> mhd_adapter_complete(r)
        :: else
        fi
    }
    inbox_completed[me] = 0;
    r = 0
}

// In the code, http_request_receive_end counts the request after on_body.
inline submit_next()
{
    r = FIRST(submitted);
    REMOVE(submitted, r);
    ADD(committing, r);
    commit_queue_push(r);
    pending++;
    polled++;
    r = 0
}

// Starts the next iteration of the loop, or the last turns.
inline end_iteration()
{
#ifdef BUG_ENDING_AFTER_INBOX
    is_ending = ending[me];
#endif
    if
#ifdef BUG_ENDS_WITH_PENDING
    :: is_ending -> goto last_turns
#else
    :: is_ending && pending == 0 -> goto last_turns
#endif
    :: else -> is_ending = false; goto iterate
    fi
}

// After the iterations, no other thread reaches the requests of the loop, so the last turns are one step.
proctype loop(byte me)
{
    byte pending, polled, submitted, turns, r;
    bool has_progress, has_expired, is_ending, signal;

iterate:
    do
    :: atomic { sleep_until_ready(); is_ending = ending[me] }
       atomic { process_inbox() }
       atomic {
#ifdef BUG_EVENT_AFTER_INBOX
           event_fd[me] = false;
#endif
           mhd_adapter_run();
           has_expired = false;
           if
#ifndef BUG_ENDING_AFTER_INBOX
           :: submitted == 0 -> end_iteration()
#endif
           :: else -> goto submit
           fi
       }
    od;
submit:
    do
    :: atomic { !signal && submitted != 0 -> submit_next() }
    :: atomic { signal -> signal = false; pthread_cond_signal() }
    :: atomic { !signal && submitted == 0 -> end_iteration() }
    od;
last_turns:
    atomic {
        do
        :: turns < LAST_TURNS -> turns++; mhd_adapter_run()
        :: else -> break
        od;
        turns = 0;
        assert(pending == 0 && submitted == 0);
        has_ended[me] = true
    }
}
