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
//                 src/command/receiver.c: on_body, in submit_commits
//                 src/http/mhd.c: on_connection_closed, free_connection, mhd_adapter_complete and _run
//                 src/http/loop.c: sleep_until_ready, process_inbox and, in the process `loop`, loop_main
//   handover.pml  src/http/server.c: the acceptor; in main_thread, http_server_drain, _stop and _destroy
//                 src/command/command_serve.c: in main_thread, a reload and then run and stop
//                 src/store/commit_queue.c: in main_thread, commit_queue_stop
//
// How the model abstracts from the code:
//
// - Each request has a connection of its own, and belongs to the loop r % LOOPS. Its last byte arrives at any moment
//   after the connection was accepted, and the client may then reset the connection at any moment.
// - A section under a mutex is one atomic step, because all accesses to what the mutex guards are such sections. If the
//   step ends in the state SLEEPING or PAUSED, its end is pthread_cond_wait.
// - A thread's accesses to data that only this thread owns at the time are one step together with what follows, because
//   no other thread can see their order.
// - Time is a choice: a sleep of the writer thread may end by itself (timeout, spurious wake-up) or need a signal.
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
#define LAST_TURNS     4 // MHD_QUIRK_LAST_TURNS

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
byte held;        // on_body was called and returned NULL
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

#include "writer.pml"
#include "loop.pml"

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
end:
    HAS(connections, r) -> ADD(unread, r);
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

// The library panics if a connection is still suspended. The last turns have sent the answers of all held requests. A
// request that arrives in the last turn may be refused without an answer, as if it had arrived after the stop.
inline mhd_adapter_stop()
{
    assert(suspended == 0 && resuming == 0);
    for (r : 0 .. REQUESTS - 1) {
        assert(!HAS(held, r) || phase[r] == FREED);
        if
        :: HAS(running, r) -> on_connection_closed(r)
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

    commit_queue_wake(); // a reload calls store_set_retention
#ifndef STOPS_AT_ANY_MOMENT
    timeout -> assert_all_ended();
#endif
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
