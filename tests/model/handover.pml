// Models the hand-over of requests between the event loops and the writer thread for spin: the commit queue, the held
// request, the inbox of a loop, and the stop. A change of this hand-over must change the model, too. test_model.py runs
// spin on the model, and on variants that each have one fault (the macros BUG_...), which spin must find.

// What stands for what:
//
//   writer.pml    src/store/commit_queue.c: queue_take, queue_write, queue_pause, commit_queue_push, commit_queue_wake
//                 src/store/store.c: store_write, which retries commits (full disk, store_wait, stop_retrying)
//                 src/command/receiver.c: receiver_on_committed
//                 src/http/loop.c: http_request_complete, http_loop_wake, http_loop_wake_if_queued
//   loop.pml      src/http/request.c: http_request_receive_end, _poll, _unhold, _take_response and _finish
//                 src/command/receiver.c: on_body, in submit_next
//                 src/http/mhd.c: on_connection_closed, free_connection, mhd_adapter_complete and _run
//                 src/http/loop.c: sleep_until_ready, process_inbox and, in the process `loop`, loop_main
//   handover.pml  src/http/server.c: the acceptor; in main_thread, http_server_drain, _stop and _destroy
//                 src/command/command_serve.c: in main_thread, a reload, the drain and the stop
//                 src/store/commit_queue.c: in main_thread, commit_queue_stop
//
// How the model abstracts from the code:
//
// - Each request has a connection of its own, and belongs to the loop r % LOOPS. Its last byte arrives at any moment
//   after the connection was accepted, and with WITH_RESET the client may reset the connection at any moment before the
//   answer. Only the loop sees what a client does, so it happens in the step in which the loop looks.
// - With one loop, requests that have not arrived are equal, so they arrive in the order of their numbers.
// - A section under a mutex is one atomic step, because all accesses to what the mutex guards are such sections. If the
//   step ends in the state SLEEPING or PAUSED, its end is pthread_cond_wait.
// - A thread's accesses to data that only this thread owns at the time are one step together with what precedes or
//   follows, because no other thread can see their order. This concerns the connections and requests of a loop, the
//   commits that the writer thread has taken, and a finished request until it is in the inbox.
// - store_write reads stop_retrying in the step that takes the commits. It may finish a commit in any case, and what it
//   may retry later it may retry then, because the flag is never cleared.
// - main_thread sets stop_retrying and `stopping` in one step, because no thread reads both.
// - Time is a choice: a sleep of the writer thread may end by itself (timeout, spurious wake-up) or need a signal.
//   HELD_POLL_MS may pass at any moment, and has passed when a sleep of the loop has timed out.
// - With WITH_RETRY, a commit is retried at most once. After that, its store_wait has passed.
// - With WITH_RELOAD, one reload wakes all threads at any moment.
// - Lists are sets, because no property here depends on their order.
// - In each call of MHD_run, libmicrohttpd takes one step for each connection that is not suspended.
// - Memory is sequentially consistent, as the mutexes and the atomic variables of the code make it. Deadlines, drained
//   or evicted connections, and further requests on a connection are not modelled.
//
// Spin checks the assertions, among them those of the code, and that each thread ends. Whatever touches a request or a
// connection asserts that its memory has not been freed. With LIVENESS, spin checks the formula at the end instead.
// tests/README.md lists the configurations and their numbers of states.
#ifndef LOOPS
#define LOOPS 2
#endif
#ifndef REQUESTS
#define REQUESTS 2
#endif
#define LAST_TURNS     4 // MHD_QUIRK_LAST_TURNS

#define ONLY(r)        (1 << (r))
#define HAS(set, r)    (((set) >> (r)) & 1)
#define ADD(set, r)    set = set | ONLY(r)
#define REMOVE(set, r) set = set & ~ONLY(r)
#define FIRST(set)     (HAS(set, 0) -> 0 : (HAS(set, 1) -> 1 : 2))
#define LAST(set)      (HAS(set, 2) -> 2 : (HAS(set, 1) -> 1 : 0))
#define ALL            (ONLY(REQUESTS) - 1)
#define LOOP_OF(r)     ((r) % LOOPS)
#if LOOPS == 1
#define MINE           ALL // the requests of the loop `me`
#define IS_NEXT(r)     ((r) == 0 || phase[(r) - 1] != BODY)
#else
#define MINE           ((1 + 4) << me)
#define IS_NEXT(r)     true
#endif

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
byte held;        // on_body was called and returned NULL, and the request has not ended
byte will_reset;  // the client will reset the connection

// The connections in libmicrohttpd. A connection that is in none of these sets was closed, or has not left the inbox.
byte running, suspended, resuming;

// struct http_loop and struct http_connection_set
byte inbox_connections[LOOPS], inbox_completed[LOOPS];
bool has_queued[LOOPS], event_fd[LOOPS], ending[LOOPS], has_ended[LOOPS];

// struct http_server
bool server_stopping, acceptor_stopping, acceptor_ended;

#include "writer.pml"
#include "loop.pml"

// ---- The other threads, and the clients ----

// Accepts a batch of connections before it wakes the loops.
proctype acceptor()
{
    byte next;

    do
    :: atomic {
           next < REQUESTS && !acceptor_stopping ->
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

// Every request that was received has ended.
inline assert_all_ended()
{
    assert(waiting == 0 && committing == 0 && has_response == 0 && held == 0);
    for (r : 0 .. REQUESTS - 1) {
        assert(phase[r] == FREED || (phase[r] == BODY && !HAS(connections, r)))
    }
}

// The library panics if a connection is still suspended. The last turns have sent the answers of all held requests. A
// request that arrives in the last turn may be refused without an answer, as if it had arrived after the stop.
inline mhd_adapter_stop()
{
    assert(suspended == 0 && resuming == 0);
    for (r : 0 .. REQUESTS - 1) {
        assert(!HAS(held, r));
        if
        :: HAS(running, r) -> on_connection_closed(r, false)
        :: else
        fi
    }
}

// With STOPS_AT_ANY_MOMENT, the stop comes at any moment. Otherwise it comes when nothing else can happen any more:
// `timeout` is true when no other step is possible. If a wake-up was lost, a request has not ended by then. An earlier
// stop would hide this fault, because it wakes all threads.
proctype main_thread()
{
    byte l, r;

#ifdef WITH_RELOAD
    for (l : 0 .. LOOPS - 1) {
        http_loop_wake(l) // http_server_reconfigure
    }
    commit_queue_wake(); // store_set_retention
#endif
#ifndef STOPS_AT_ANY_MOMENT
    timeout -> assert_all_ended();
#endif
    acceptor_stopping = true;
    acceptor_ended;
    for (l : 0 .. LOOPS - 1) {
        http_loop_wake(l) // http_server_drain
    }
    atomic { stop_retrying = true; server_stopping = true }
    for (l : 0 .. LOOPS - 1) {
        ending[l] = true; // http_loop_stop
        http_loop_wake(l);
        has_ended[l]
    }
    queue_stopping = true; // commit_queue_stop
    atomic { pthread_cond_signal() }
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
        run acceptor()
    }
}

#ifdef LIVENESS
ltl each_held_request_ends { [] (phase[0] == PENDING -> <> (phase[0] == FREED)) }
#endif
