"""Helpers for tests of what happens around the commit of an event: requests, connections, and the moments at which a test
acts."""

import contextlib
import itertools

import pytest

from daemon import event, eventually, query_string, request
from delays import DelayedDaemon
from processes import holds
from wire import Wire

OTHER_COMMAND = "Group.CallbackAfterSendMsg"


@contextlib.contextmanager
def running(settings=None):
    one = DelayedDaemon(settings)
    try:
        one.start()
        yield one
        if one.process:
            one.check_released()
            one.stop()
    finally:
        one.destroy()


numbers = itertools.count()


def new_names(count):
    """Returns group ids that no other test uses. Threads may call this."""
    return [f"held-{next(numbers)}" for _ in range(count)]


def callback(name):
    return request(event(GroupId=name))


def other_command():
    """Returns a request that the daemon acknowledges at once."""
    return request(b"{}", query_string(CallbackCommand=OTHER_COMMAND))


def malformed(position):
    """Returns a callback that the daemon keeps as rejected. The answer names the position of the syntax error."""
    return request(b"{" + b" " * (position - 1) + b"x")


def check_malformed(answer, position):
    assert (answer.status, answer.code) == (400, 120201), answer
    assert answer.json["ErrorInfo"].endswith(f"near byte {position}."), (answer, position)


def recorded_once(one, sent):
    """Returns whether each of these events is in the store. No event may be there twice."""
    found = [name for name in one.group_ids("held-") if name in set(sent)]
    assert len(found) == len(set(found)), found
    return len(found) == len(sent)


def check_recorded(one, sent):
    eventually(lambda: recorded_once(one, sent), "all events to be recorded")


def is_served(one):
    """Returns whether the daemon records a new event and answers it."""
    (name,) = new_names(1)
    with Wire(one).shake_hands() as wire:
        wire.send(callback(name))
        return [answer.status for answer in wire.wait_for_answers(1)] == [200] and len(one.groups(name)) == 1


@contextlib.contextmanager
def connections(one, count, **options):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Wire(one, **options).shake_hands()) for _ in range(count)]


# A moment is a function that sends the requests, calls `act` at that moment, and ends the moment.

def at_commit(delay_ms):
    def moment(one, wires, requests, act):
        one.delays.delay_syncs(delay_ms)
        finished, _ = one.callbacks()
        for count, (wire, data) in enumerate(zip(wires, requests), 1):
            started = one.delays.get("syncs_started")
            wire.send(data)
            one.delays.wait_for_sync(started)
            # The sync may have been that of a checkpoint, and a reset discards what the daemon has not read.
            eventually(lambda least=finished + count: sum(one.callbacks()) >= least, "the daemon to have the request")
            act(wire)
    return moment


def at_hung_commit(one, wires, requests, act):
    """The disk hangs until the daemon has had the time to notice what happened to its connections."""
    with one.delays.hung_disk():
        for wire, data in zip(wires, requests):
            wire.send(data)
        one.wait_until_held(len(wires))
        for wire in wires:
            act(wire)
        assert holds(lambda: one.metric("waiting_requests") >= len(wires), 0.1)


def after_commit(one, wires, requests, act):
    """The event loops have not handled the completion yet when the action takes place."""
    started = one.delays.get("syncs_started")
    with one.delays.hung_disk():
        for wire, data in zip(wires, requests):
            wire.send(data)
        one.delays.wait_for_sync(started)
        one.wait_until_held(len(wires))
        with one.delays.held_loops():
            finished = one.delays.get("syncs_finished")
            one.delays.set(sync_is_held=0)
            eventually(lambda: one.delays.get("syncs_finished") > finished, "the sync")
            eventually(lambda: one.delays.get("polls_held") > 0, "a held event loop")
            for wire in wires:
                act(wire)


MOMENTS = {"no delay": at_commit(0), "5 ms": at_commit(5), "100 ms": at_commit(100), "hung": at_hung_commit,
           "committed": after_commit}
LEAVES = [Wire.reset, Wire.close, Wire.send_fin, Wire.send_close_notify, Wire.send_close_notify_and_fin]
# The same for parametrize().
EACH_LEAVE = [pytest.param(leave, id=leave.__name__, marks=full)
              for leave, full in zip(LEAVES, ([], [], pytest.mark.full, pytest.mark.full, []))]
