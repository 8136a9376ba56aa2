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

// list_cut_batch, store_write and list_take_back. A batch that exceeds a limit leaves commits in `taken`. If the disk
// is full, some commits are retried and the others fail.
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
