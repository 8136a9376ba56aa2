// Models the event loop: src/http/request.c, the adapter src/http/mhd.c with libmicrohttpd, and src/http/loop.c. Only
// the loop's thread accesses a connection and its request, except that the writer thread may access a pending request.

// ---- The request, on the loop's thread ----

inline http_request_take_response(r)
{
    assert(HAS(has_response, r) && !HAS(answered, r));
    ADD(answered, r);
    phase[r] = ANSWERED
}

inline http_request_finish(r)
{
    assert(phase[r] != PENDING && phase[r] != FREED && stage[r] == AT_CALLER && !HAS(committing, r));
    phase[r] = FREED
}

inline free_connection(r)
{
    assert(HAS(connections, r));
    if
    :: phase[r] != BODY && phase[r] != FREED -> http_request_finish(r)
    :: else
    fi;
    REMOVE(connections, r)
}

// A pending request keeps its connection until mhd_adapter_complete.
inline on_connection_closed(r)
{
    REMOVE(running, r);
    if
#ifdef BUG_FREED_AT_RESET
    :: phase[r] == PENDING -> phase[r] = FREED; REMOVE(connections, r)
#else
    :: phase[r] == PENDING
#endif
    :: else -> free_connection(r)
    fi
}

// The call of on_body follows in submit_commits. While the server stops, it refuses the request.
inline http_request_receive_end(r)
{
    REMOVE(unread, r);
    if
#ifndef BUG_PENDING_AFTER_STOP
    :: server_stopping -> ADD(has_response, r); http_request_take_response(r)
#endif
    :: else -> phase[r] = PENDING; ADD(submitted, r); ADD(held, r)
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
    :: phase[r] == COMPLETED -> http_request_take_response(r)
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
    :: else -> free_connection(r)
    fi
}

// One step for a connection. Every step but a verdict HOLD or SUSPEND is progress.
inline run_connection(r)
{
    if
    :: phase[r] != PENDING || HAS(was_reset, r) -> has_progress = true
    :: else
    fi;
    if
    :: HAS(was_reset, r) -> on_connection_closed(r)
    :: phase[r] == BODY -> http_request_receive_end(r)
    :: phase[r] == PENDING || phase[r] == COMPLETED -> http_request_poll(r)
    :: phase[r] == ANSWERED -> http_request_finish(r)
    :: phase[r] == FREED && !HAS(was_reset, r)
    fi
}

#define IS_ACTIVE(r) (HAS(running, r) && (HAS(unread | was_reset, r) || (phase[r] != BODY && phase[r] != FREED)))

inline mhd_adapter_run()
{
    running = running | (resuming & MINE);
    resuming = resuming & ~MINE;
    for (r : 0 .. REQUESTS - 1) {
        if
        :: LOOP_OF(r) == me && IS_ACTIVE(r) -> run_connection(r)
        :: else
        fi
    }
    r = 0
}

// on_body calls store_submit, and then http_request_receive_end counts the request.
inline submit_commits()
{
    do
    :: submitted != 0 ->
       atomic {
           r = FIRST(submitted);
           REMOVE(submitted, r);
           ADD(committing, r)
       }
       commit_queue_push(r);
       atomic {
           pending++;
           polled++;
           r = 0
       }
    :: submitted == 0 -> break
    od
}

// ---- The loop ----

// MHD_get_timeout returns 0 if a connection is to be resumed, polled or answered.
#define IS_UNANSWERED(r) (LOOP_OF(r) == me && HAS(running | resuming, r) && phase[r] != BODY && phase[r] != FREED)
#if REQUESTS == 1
#define HAS_WORK IS_UNANSWERED(0)
#elif REQUESTS == 2
#define HAS_WORK (IS_UNANSWERED(0) || IS_UNANSWERED(1))
#else
#define HAS_WORK (IS_UNANSWERED(0) || IS_UNANSWERED(1) || IS_UNANSWERED(2))
#endif

// poll and process_deadlines. The loop sleeps until a descriptor is readable, but not at all after progress, and for
// HELD_POLL_MS at most while a request is polled.
inline sleep_until_ready()
{
    if
    :: event_fd[me] -> event_fd[me] = false
    :: (running & (unread | was_reset) & MINE) != 0
#ifndef BUG_BLOCKS_WITH_WORK
    :: HAS_WORK && has_progress
    :: HAS_WORK && !has_progress && polled > 0 -> has_expired = true
#endif
    fi
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

proctype loop(byte me)
{
    byte pending, polled, submitted, turns, r;
    bool has_progress, has_expired, is_ending, signal;

    do
    :: atomic { sleep_until_ready(); is_ending = ending[me] }
       atomic { process_inbox(); mhd_adapter_run(); has_expired = false }
       submit_commits();
       if
#ifdef BUG_ENDS_WITH_PENDING
       :: is_ending -> break
#else
       :: is_ending && pending == 0 -> break
#endif
       :: else -> is_ending = false
       fi
    od;
    do
    :: turns < LAST_TURNS -> turns++; atomic { mhd_adapter_run() } submit_commits()
    :: else -> break
    od;
    assert(pending == 0);
    has_ended[me] = true
}
