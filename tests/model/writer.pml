// Models src/store/commit_queue.c with the writer thread, and what this thread calls: store_write in src/store/store.c,
// receiver_on_committed in src/command/receiver.c, and http_request_complete in src/http/loop.c.

// ---- The commit queue ----

inline change_stage(r, from, to)
{
    assert(stage[r] == from && phase[r] == PENDING);
    stage[r] = to
}

// A signal has no effect if the writer thread does not wait.
inline pthread_cond_signal()
{
    if
    :: state == SLEEPING || state == PAUSED -> is_signaled = true
    :: else
    fi
}

// The caller sends the signal in a step of its own, because it no longer holds the mutex then.
inline commit_queue_push(r)
{
    change_stage(r, AT_CALLER, WAITING);
    assert(!queue_stopping && state != ENDED);
    ADD(waiting, r);
#ifndef BUG_NO_SIGNAL
    signal = state == SLEEPING && !woken;
#endif
    woken = true
}

inline commit_queue_wake()
{
    woken = true;
    atomic { pthread_cond_signal() }
}

#ifdef BUG_SLEEPS_WHEN_WOKEN
#define MUST_SLEEP (taken == 0 && waiting == 0 && !queue_stopping)
#else
#define MUST_SLEEP (taken == 0 && waiting == 0 && !queue_stopping && !woken)
#endif

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
#ifdef BUG_RETRIED_IS_LOST
    taken = (waiting != 0 -> waiting : taken);
#else
    taken = taken | waiting;
#endif
    waiting = 0;
    if
    :: taken == 0 && queue_stopping -> state = ENDED
    :: else
    fi
}

// list_cut_batch, store_write and list_take_back. A batch that exceeds a limit leaves commits in `taken`. If the disk
// is full, some commits are retried and the others fail.
inline queue_write()
{
    if
    :: batch = taken
    :: FIRST(taken) != LAST(taken) -> batch = ONLY(FIRST(taken))
    fi;
    for (r : 0 .. REQUESTS - 1) {
        if
        :: HAS(batch, r) ->
           change_stage(r, WAITING, IN_BATCH);
           if
           :: change_stage(r, IN_BATCH, AT_CALLER);
              REMOVE(taken, r);
              REMOVE(retried, r);
              ADD(finished, r)
#ifdef WITH_RETRY
           :: !stop_retrying && !HAS(retried, r) ->
              change_stage(r, IN_BATCH, WAITING);
              ADD(retried, r);
              must_pause = true;
#ifdef BUG_RETRIED_IS_DONE
              ADD(finished, r)
#endif
#endif
           fi
        :: else
        fi
    }
    batch = 0;
    r = 0
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
#if LOOPS > 1 && !defined(BUG_WAKES_FIRST_LOOP)
    http_loop_wake_if_queued(1)
#endif
}

// The commit of the request and the request itself belong to the writer thread until the request is in the inbox.
inline http_request_complete(r)
{
#ifdef BUG_FLAG_BEFORE_INBOX
    has_queued[LOOP_OF(r)] = true;
#endif
    atomic {
        assert(stage[r] == AT_CALLER && HAS(committing, r));
        REMOVE(committing, r);
        assert(phase[r] == PENDING && !HAS(has_response, r) && HAS(connections, r));
        ADD(has_response, r);
        ADD(inbox_completed[LOOP_OF(r)], r)
    }
#ifdef BUG_NEXT_AFTER_COMPLETE
    assert(phase[r] != FREED); // finished = finished->next
#endif
}

// `r` is the first of the finished commits.
inline receiver_on_committed()
{
    do
    :: http_request_complete(r);
       atomic {
#ifndef BUG_FLAG_BEFORE_INBOX
           has_queued[LOOP_OF(r)] = true;
#endif
           REMOVE(finished, r);
           if
           :: finished == 0 -> r = 0; break
           :: else -> r = FIRST(finished)
           fi
       }
    od;
#ifndef BUG_NO_WAKE
    http_server_wake()
#endif
}

// take_waiting and, if a commit was taken, queue_write.
inline take_and_write()
{
    take_waiting();
    if
    :: state == ENDED -> goto ended
    :: state != ENDED && taken == 0 -> goto take
    :: taken != 0 -> queue_write()
    fi;
    if
    :: finished == 0 -> goto take
    :: finished != 0 -> r = FIRST(finished)
    fi
}

#define CAN_WAKE_UP (is_signaled || ends_by_itself)

// After a signal or a spurious wake-up, queue_take checks again whether it must sleep, and after a timeout it does not.
// The pause ends after COMMIT_RETRY_MS at the latest, so what ends it earlier makes no difference.
proctype writer()
{
    byte taken, batch, finished, retried, r;
    bool ends_by_itself, must_pause;

take:
    do
    :: atomic {
           must_pause ->
           must_pause = false;
           if
           :: queue_stopping -> goto take
           :: else -> state = PAUSED
           fi
       }
       atomic { state = BUSY; is_signaled = false }
    :: atomic { !must_pause && !MUST_SLEEP -> take_and_write(); goto complete }
#ifdef BUG_CHECK_WITHOUT_MUTEX
    :: !must_pause && MUST_SLEEP -> atomic { start_sleep() }
#else
    :: atomic { !must_pause && MUST_SLEEP -> start_sleep() }
#endif
       do
       :: atomic { CAN_WAKE_UP && MUST_SLEEP -> is_signaled = false; start_sleep() }
       :: atomic {
              CAN_WAKE_UP && !(is_signaled && MUST_SLEEP) ->
              state = BUSY;
              is_signaled = false;
              ends_by_itself = false;
              take_and_write();
              goto complete
          }
       od
    od;
complete:
    receiver_on_committed();
    goto take;
ended:
    assert(taken == 0)
}
