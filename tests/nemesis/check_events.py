"""Rules that compare the calls of the clients and their answers with the rows of the stores."""

import collections

from index import (OVERLOADED, SIGN_WRONG, STALE, STORE_UNAVAILABLE, Violation, content_of, differences, identity_of,
                   uid_of)

ANSWER_S = 2  # the time within which the service expects an answer
LAST_CALLS_S = 2.5  # calls that start this long before the next faults may meet them
REPEAT_WINDOW_MS = 5 * 60 * 1000  # as in src/store/recorder.h


def check_answers(index):
    """A call is answered as its kind allows, or with 503. It may be answered with 403 if the clock was stepped or the
    token that signs it was removed while it was under way."""
    excuses = {STALE: index.stale_times, SIGN_WRONG: index.token_removals}
    for call in index.calls:
        if call.outcome != "answer" or [call.status, call.code] in call.invoke["allowed"]:
            continue
        if call.status == 503 and call.code in (OVERLOADED, STORE_UNAVAILABLE):
            continue
        if not (call.code in excuses and excuses[call.code].overlap(call.at, call.end_at)):
            yield Violation("answer-unexpected", f"{call}; allowed are {call.invoke['allowed']}")


def check_honest(index):
    """An honest call in a phase without faults gets its answer within the time that the service waits."""
    quiet, final = ([call for call in index.calls_in(*phase) if call.honest]
                    for phase in (("quiet", LAST_CALLS_S), ("final",)))
    if not quiet or not final:
        yield Violation("history", "one of the phases quiet and final has no honest call")
    for call in quiet + final:
        if call.outcome != "answer" or call.status == 503:
            yield Violation("honest-not-answered", f"{call} has no answer although no fault was under way")
        elif max(call.latency_s, call.end_at - call.at) > ANSWER_S:
            yield Violation("honest-slow", f"{call} was answered after {call.latency_s:.3f} s without a fault")


def check_acknowledged(index):
    """An acknowledged event is in a store. Retention may have deleted it only after it was taken."""
    reported = set()
    for call in index.calls:
        if not call.acknowledged or not call.row or _is_recorded(index, call):
            continue
        key = call.identity if call.identity[2] is not None else content_of(call.row)
        if key in reported or (index.retention and _was_taken(index, call)):
            continue
        reported.add(key)
        yield Violation("acknowledged-lost", f"{call} with the identity {call.identity} is in no store")


def _is_recorded(index, call):
    if call.identity[2] is None:
        return content_of(call.row) in index.recorded_content
    return call.identity in index.recorded_identities


def _was_taken(index, call):
    """Returns whether the destination and an endpoint have an event that no snapshot shows."""
    if call.identity[2] is None:
        return any(content_of(row) == content_of(call.row) for rows in index.destination.values() for _, row in rows)
    uid = uid_of(call.identity)
    return any(index.is_taken(receiver, uid, None) for receiver in index.receivers)


def check_rows(index):
    """Each row of a store is what a client sent with a call that was not refused, complete and with its address."""
    seen = set()
    for snapshot in index.snapshots:
        for line in snapshot.rows.values():
            key = snapshot.receiver, line["id"], line["row"]
            if key in seen:
                continue
            seen.add(key)
            if problem := _problem_of_row(index, line["row"]):
                yield Violation(problem[0], f"id {line['id']} uid {line['uid']} in {snapshot} {problem[1]}")


def _problem_of_row(index, row):
    calls = index.attempts.get(identity_of(row))
    if not calls:
        return "recorded-forged", f"has the identity {identity_of(row)}, which no client sent"
    equal = [call for call in calls if call.row == row]
    if any(not call.refused for call in equal):
        return None
    if equal:
        return "recorded-refused", f"is recorded although {equal[0]} was refused"
    if any(content_of(call.row) == content_of(row) for call in calls):
        return "recorded-address", f"differs from {calls[0]} in {differences(row, calls[0].row)}"
    return "recorded-torn", f"differs from {calls[0]} in {differences(row, calls[0].row)}"


def check_once(index):
    """A store has an event once."""
    for snapshot in index.snapshots:
        with_time, without_time = {}, collections.defaultdict(list)
        for line in snapshot.twice:
            yield Violation("recorded-twice", f"id {line['id']} occurs twice in {snapshot}")
        for line in snapshot.rows.values():
            identity = identity_of(line["row"])
            if identity[2] is None:
                without_time[content_of(line["row"])].append(line)
            elif (first := with_time.setdefault(identity, line)) is not line:
                yield Violation("recorded-twice", f"ids {first['id']} and {line['id']} (uid {line['uid']}) have the "
                                                  f"identity {identity} in {snapshot}")
        yield from _check_without_time(index, snapshot, without_time)


def _check_without_time(index, snapshot, rows_by_content):
    """Two rows with the same content are one event unless their bodies differ or the repeat window lies between."""
    for content, lines in rows_by_content.items():
        bodies = {call.digest for call in index.attempts[identity_of(lines[0]["row"])]
                  if content_of(call.row) == content}
        times = sorted(line["received_at_ms"] for line in lines)
        close = sum(later - earlier <= REPEAT_WINDOW_MS for earlier, later in zip(times, times[1:]))
        if len(lines) > max(1, len(bodies)) and close >= max(1, len(bodies)):
            yield Violation("recorded-twice", f"ids {[line['id'] for line in lines]} are the same event without a "
                                              f"time in {snapshot}")


def check_copies(index):
    """The stores together have an event at most as often as it was sent, because one call reaches one receiver."""
    copies = collections.Counter(content_of(line["row"]) for receiver in index.receivers
                                 for line in index.stored[receiver].values())
    sent = collections.Counter(content_of(call.row) for calls in index.attempts.values() for call in calls)
    for content, count in copies.items():
        if 0 < sent[content] < count:
            yield Violation("recorded-twice", f"the stores have {count} rows of the event {content[:3]}, which was "
                                              f"sent {sent[content]} times")


def check_unavailable(index):
    """A body that the store could not record is in the log, or the event is recorded after all. A call for whose head
    the memory was short ends before its body is read."""
    memory = index.faults_named("memory")
    logged = {line["digest"] for line in index.lines["crit_line"]}
    for call in index.calls:
        reached_store = call.row is not None or call.kind.startswith("body_")
        if call.status != 503 or call.code != STORE_UNAVAILABLE or not reached_store:
            continue
        kept = call.digest in logged or call.digest in index.rejected_digests
        if call.row is not None:
            kept = kept or content_of(call.row) in index.recorded_content
        if not kept and not memory.overlap(call.at, call.end_at):
            yield Violation("unavailable-lost", f"{call} is neither recorded nor in the log, digest {call.digest}")


def check_rejected(index):
    """A body that is not an event, or that contradicts a recorded event, is in rejected_callback. When the clock is
    stepped, retention may delete a row before any snapshot has it."""
    stepped = index.clock_steps()
    for call in index.calls:
        if call.digest in index.rejected_digests or index.retention and stepped.overlap(call.at, call.end_at):
            continue
        if call.kind.startswith("body_") and call.status == 400:
            yield Violation("rejected-lost", f"{call} is not in rejected_callback, digest {call.digest}")
        if not call.acknowledged or not call.row or content_of(call.row) in index.recorded_content:
            continue
        if _is_recorded(index, call) and len({content_of(each.row) for each in index.attempts[call.identity]}) > 1:
            yield Violation("conflict-lost", f"{call} is neither recorded nor in rejected_callback, "
                                             f"identity {call.identity}, digest {call.digest}")


def check_kept_bodies(index):
    """Each row of rejected_callback has a whole body that a client sent."""
    sent = {call.digest for call in index.calls if call.row or call.kind.startswith("body_")}
    kept = {(line["receiver"], line["digest"]): line for snapshot in index.snapshots
            for line in snapshot.rejected.values()}
    for line in kept.values():
        if line["digest"] not in sent:
            yield Violation("rejected-forged", f"id {line['id']} of rejected_callback of receiver {line['receiver']} "
                                               f"has the body {line['digest']}, which no client sent as an event")


RULES = [check_answers, check_honest, check_acknowledged, check_rows, check_once, check_copies, check_unavailable,
         check_rejected, check_kept_bodies]
