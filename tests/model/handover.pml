// Models the hand-over of requests between the event loops and the writer thread for spin: the commit queue, the held
// request, the inbox of a loop, and the stop. A change of this hand-over must change the model, too. test_model.py runs
// spin on the model, and on variants of it that each have one of the faults BUG_..., which spin must find.

// What stands for what:
//
//   src/store/commit_queue.c     queue_take, queue_write, queue_pause, commit_queue_push, commit_queue_wake and, in
//                                main_thread, commit_queue_stop
//   src/store/store.c            store_write, which decides what is retried: full disk, store_wait, stop_retrying
//   src/command/receiver.c       on_body, and receiver_on_committed
//   src/http/request.c           http_request_receive_end, _poll, _unhold, _take_response and _finish
//   src/http/mhd.c               on_connection_closed, free_connection, mhd_adapter_complete, _run and _stop
//   src/http/loop.c              sleep_until_ready, process_inbox, loop_main in the process `loop`,
//                                http_request_complete, http_loop_wake, http_loop_wake_if_queued
//   src/http/server.c            acceptor, http_server_wake and, in main_thread, drain, stop and destroy
//   src/command/command_serve.c  main_thread: a reload, and then run and stop
//
// How the model abstracts from the code:
//
// - Each request has a connection of its own. It has arrived completely when the acceptor accepts the connection, which
//   may happen at any moment, as may the reset by the client. Request r belongs to the loop r % LOOPS.
// - A section under a mutex is one atomic step, because all accesses to what the mutex guards are such sections. If the
//   step ends in the state SLEEPING or PAUSED, its end is pthread_cond_wait.
// - Accesses of a thread to what it owns at the time are one step with their neighbours, because no other thread can see
//   their order.
// - Time is a choice: a sleep of the writer thread may end by itself (timeout, spurious wake-up) or last until a signal.
//   HELD_POLL_MS may pass at any moment, and has passed when a sleep of the loop has timed out. A commit is retried at
//   most once; after that its store_wait has passed.
// - Lists are sets, because no property here depends on their order.
// - In each call of MHD_run, libmicrohttpd takes one step for each connection that is not suspended.
//
// Spin checks the assertions, among them those of the code, and that each thread ends. Whatever touches a request or a
// connection asserts that its memory has not been freed. With LIVENESS, spin checks the formula at the end instead.
#ifndef LOOPS
#define LOOPS 2
#endif
#ifndef REQUESTS
#define REQUESTS 2
#endif
#define LAST_TURNS 4 // MHD_QUIRK_LAST_TURNS

#define ONLY(r)        (1 << (r))
#define HAS(set, r)    (((set) >> (r)) & 1)
#define ADD(set, r)    set = set | ONLY(r)
#define REMOVE(set, r) set = set & ~ONLY(r)
#define FIRST(set)     (HAS(set, 0) -> 0 : (HAS(set, 1) -> 1 : 2))
#define ALL            (ONLY(REQUESTS) - 1)
#define LOOP_OF(r)     ((r) % LOOPS)
#define MINE           (LOOPS == 1 -> ALL : (1 + 4) << me) // the requests of the loop `me`

mtype:writer_state = { BUSY, SLEEPING, PAUSED, ENDED };
mtype:commit_stage = { AT_CALLER, WAITING, IN_BATCH };
mtype:http_phase = { BODY, PENDING, COMPLETED, ANSWERED, FREED };

// struct commit_queue and struct store
mtype:writer_state state = BUSY;
byte waiting;        // commits
bool woken, queue_stopping;
bool is_signaled;    // the condition variable has ended the wait of the writer thread
bool stop_retrying;

// struct commit, struct call, struct http_exchange and struct http_connection
mtype:commit_stage stage[REQUESTS] = AT_CALLER;
mtype:http_phase phase[REQUESTS] = BODY; // FREED: http_request_finish was called
byte committing, has_response;
byte connections; // not freed yet
byte answered;    // http_request_take_response was called

// The connections in libmicrohttpd. A connection that is in none of these sets was closed, or has not left the inbox.
byte running, suspended, resuming;

// The sockets: what the client has sent or done. Both make the epoll descriptor readable unless suspended.
byte unread, was_reset;

// struct http_loop and struct http_connection_set
byte inbox_connections[LOOPS], inbox_completed[LOOPS];
bool has_queued[LOOPS], event_fd[LOOPS], ending[LOOPS], has_ended[LOOPS];

// struct http_server
bool server_stopping, acceptor_stopping, acceptor_ended;

// ---- The commit queue ----

inline change_stage(r, from, to)
{
    assert(stage[r] == from && phase[r] == PENDING);
    stage[r] = to
}

// A signal has no effect if the writer thread does not wait.
inline pthread_cond_signal()
{
    atomic {
        if
        :: state == SLEEPING || state == PAUSED -> is_signaled = true
        :: else
        fi
    }
}

inline commit_queue_push(r)
{
    atomic {
        change_stage(r, AT_CALLER, WAITING);
        assert(!queue_stopping && state != ENDED);
        ADD(waiting, r);
#ifdef BUG_NO_SIGNAL
        signal = false;
#else
        signal = state == SLEEPING && !woken;
#endif
        woken = true
    }
    if
    :: signal -> signal = false; pthread_cond_signal()
    :: else
    fi
}

inline commit_queue_wake()
{
    woken = true;
    pthread_cond_signal()
}

#define MUST_SLEEP (taken == 0 && waiting == 0 && !queue_stopping && !woken)

inline start_sleep()
{
    state = SLEEPING;
    if
    :: ends_by_itself = true
    :: ends_by_itself = false
    fi
}

inline take_waiting()
{
    woken = false;
    taken = taken | waiting;
    waiting = 0;
    if
    :: taken == 0 && queue_stopping -> state = ENDED
    :: else
    fi
}

// After a signal or a spurious wake-up, the loop checks again, and after a timeout it ends.
inline queue_take()
{
    do
    :: atomic { !MUST_SLEEP -> take_waiting(); break }
#ifdef BUG_CHECK_WITHOUT_MUTEX
    :: MUST_SLEEP -> atomic { start_sleep() }
#else
    :: atomic { MUST_SLEEP -> start_sleep() }
#endif
       atomic {
           is_signaled || ends_by_itself ->
           state = BUSY;
           if
           :: is_signaled = false
           :: !is_signaled -> take_waiting(); break
           fi
       }
    od;
    ends_by_itself = false
}

// list_cut_batch, store_write and list_take_back. A batch that exceeds a limit leaves commits in `taken`. If the disk is
// full, some commits are retried and the others fail.
inline queue_write()
{
    atomic {
        if
        :: batch = taken
        :: batch = ONLY(FIRST(taken))
        fi;
        for (r : 0 .. REQUESTS - 1) {
            if
            :: HAS(batch, r) ->
               change_stage(r, WAITING, IN_BATCH);
               if
               :: change_stage(r, IN_BATCH, AT_CALLER);
                  REMOVE(taken, r);
                  REMOVE(batch, r);
                  ADD(finished, r)
               :: !stop_retrying && !HAS(retried, r) ->
                  change_stage(r, IN_BATCH, WAITING);
                  ADD(retried, r);
#ifdef BUG_RETRIED_IS_DONE
                  ADD(finished, r)
#endif
               fi
            :: else
            fi
        }
        r = 0
    }
}

// The pause ends after COMMIT_RETRY_MS at the latest, so what ends it earlier makes no difference.
inline queue_pause()
{
    atomic {
        if
        :: !queue_stopping -> state = PAUSED
        :: else
        fi
    }
    atomic {
        state = BUSY;
        is_signaled = false
    }
}

// ---- The completion, on the writer thread ----

inline http_loop_wake(l)
{
    event_fd[l] = true
}

inline http_loop_wake_if_queued(l)
{
    if
    :: atomic { has_queued[l] -> has_queued[l] = false };
       http_loop_wake(l)
    :: !has_queued[l]
    fi
}

inline http_server_wake()
{
    http_loop_wake_if_queued(0);
#if LOOPS > 1
    http_loop_wake_if_queued(1)
#endif
}

inline http_request_complete(r)
{
#ifdef BUG_FLAG_BEFORE_INBOX
    has_queued[LOOP_OF(r)] = true;
#endif
    atomic {
        assert(phase[r] == PENDING && !HAS(has_response, r) && HAS(connections, r));
        ADD(has_response, r);
        ADD(inbox_completed[LOOP_OF(r)], r)
    }
#ifndef BUG_FLAG_BEFORE_INBOX
    has_queued[LOOP_OF(r)] = true
#endif
}

inline receiver_on_committed()
{
    do
    :: atomic {
           finished != 0 ->
           r = FIRST(finished);
           assert(stage[r] == AT_CALLER && HAS(committing, r) && phase[r] == PENDING);
           REMOVE(finished, r);
           REMOVE(committing, r)
       }
       http_request_complete(r);
#ifdef BUG_NEXT_AFTER_COMPLETE
       assert(phase[r] != FREED); // finished = finished->next
#endif
    :: finished == 0 -> break
    od;
    r = 0;
#ifndef BUG_NO_WAKE
    http_server_wake()
#endif
}

proctype writer()
{
    byte taken, batch, finished, retried, r;
    bool ends_by_itself;

    do
    :: queue_take();
       if
       :: state == ENDED -> break
       :: state != ENDED && taken != 0 ->
          queue_write();
          receiver_on_committed();
          if
          :: batch != 0 -> batch = 0; queue_pause()
          :: else
          fi
       :: else
       fi
    od;
    assert(taken == 0)
}

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
    :: phase[r] != FREED -> http_request_finish(r)
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
    :: else -> phase[r] = PENDING; ADD(submitted, r)
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

#define IS_ACTIVE(r) (HAS(running, r) && (phase[r] != FREED || HAS(was_reset, r)))

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
    unread = unread | inbox_connections[me];
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
#ifdef BUG_ENDING_AFTER_INBOX
    :: atomic { sleep_until_ready() }
       atomic { process_inbox(); mhd_adapter_run(); has_expired = false }
       is_ending = ending[me];
#else
    :: atomic { sleep_until_ready(); is_ending = ending[me] }
       atomic { process_inbox(); mhd_adapter_run(); has_expired = false }
#endif
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

// ---- The other threads, and the clients ----

// Accepts a batch of connections before it wakes the loops.
proctype acceptor()
{
    byte next;

    do
    :: next < REQUESTS && !acceptor_stopping ->
       atomic {
           ADD(connections, next);
           ADD(inbox_connections[LOOP_OF(next)], next)
       }
       has_queued[LOOP_OF(next)] = true;
       next++;
       if
       :: next < REQUESTS
       :: http_server_wake()
       fi
    :: next == REQUESTS || acceptor_stopping -> break
    od;
    http_server_wake();
    acceptor_ended = true
}

proctype client(byte r)
{
    if
    :: HAS(connections, r) && phase[r] != FREED -> ADD(was_reset, r)
    :: true
    fi
}

// Every request that was received has ended, and was answered unless its client has reset the connection.
inline assert_all_ended()
{
    assert(waiting == 0 && committing == 0);
    for (r : 0 .. REQUESTS - 1) {
        assert(phase[r] == FREED || (phase[r] == BODY && !HAS(connections, r)));
        assert(phase[r] == BODY || HAS(answered | was_reset, r))
    }
}

// The library panics if a connection is still suspended. The last turns have sent all answers.
inline mhd_adapter_stop()
{
    assert(suspended == 0 && resuming == 0);
    for (r : 0 .. REQUESTS - 1) {
        assert(phase[r] != PENDING && phase[r] != COMPLETED && phase[r] != ANSWERED);
        if
        :: HAS(running, r) -> on_connection_closed(r)
        :: else
        fi
    }
}

// The stop comes at any moment, or when nothing else can happen any more. In the second case a wake-up that was lost
// has left a request unanswered.
proctype main_thread()
{
    byte l, r;

    if
    :: commit_queue_wake() // a reload calls store_set_retention
    :: true
    fi;
    if
    :: true -> timeout; assert_all_ended()
    :: true
    fi;
    acceptor_stopping = true;
    acceptor_ended;
    for (l : 0 .. LOOPS - 1) {
        http_loop_wake(l) // http_server_drain
    }
    stop_retrying = true;
    server_stopping = true;
    for (l : 0 .. LOOPS - 1) {
        ending[l] = true; // http_loop_stop
        http_loop_wake(l);
        has_ended[l]
    }
    queue_stopping = true; // commit_queue_stop
    pthread_cond_signal();
    state == ENDED;
    atomic {
        for (l : 0 .. LOOPS - 1) { // http_loop_destroy
            assert(inbox_connections[l] == 0 && inbox_completed[l] == 0)
        }
        mhd_adapter_stop();
        assert_all_ended();
        assert(connections == 0)
    }
}

init
{
    byte i;

    atomic {
        run writer();
        for (i : 0 .. LOOPS - 1) {
            run loop(i)
        }
        run main_thread();
        run acceptor();
        for (i : 0 .. REQUESTS - 1) {
            run client(i)
        }
    }
}

#ifdef LIVENESS
ltl each_held_request_ends { [] (phase[0] == PENDING -> <> (phase[0] == FREED)) }
#endif
