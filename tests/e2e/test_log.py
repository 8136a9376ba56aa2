"""A log that nobody reads, or that is read slowly: whoever reads it hangs, and the daemon must not."""

import contextlib
import os
import re
import threading
import time

import pytest

import daemon
from daemon import event


class UnreadLog(daemon.Daemon):
    """A daemon whose log is not read from fill_log() to read_log()."""

    unread = False

    def fill_log(self):
        """Nobody reads from now on, and no byte fits in any more."""
        self.unread = self.reader.reading.acquire()
        # Opened anew, so that this end alone does not block.
        end = os.open(f"/proc/{self.process.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
        try:
            while True:
                os.write(end, b"filling\n")
        except BlockingIOError:
            os.close(end)

    def read_log(self):
        if self.unread:
            self.unread = False
            self.reader.reading.release()


@pytest.fixture(params=["text", "json"])
def unread(request):
    one = UnreadLog({"log": {"format": request.param}, "listen": {"threads": 2}})
    try:
        yield one.start()
    finally:
        one.read_log()
        one.destroy()


def refusals(one, count):
    """Refusals for causes of their own, each of which has a line in the log."""
    causes = [{"SdkAppid": None}, {"SdkAppid": 7}, {"Sign": None}, {"Sign": "x"}, {"RequestTime": None},
              {"RequestTime": "x"}, {"CallbackCommand": None}]
    assert count <= len(causes)
    for cause in causes[:count]:
        assert one.post(**cause).status in (400, 403)


def test_callbacks_are_answered(unread):
    unread.fill_log()
    refusals(unread, 5)
    assert [unread.post(event(GroupId=name)).status for name in "abc"] == [200] * 3
    assert unread.group_ids() == ["a", "b", "c"]
    unread.read_log()
    refusals(unread, 7)  # whose last two lines are new
    daemon.eventually(lambda: "did not accept them: 5" in unread.log, "how many lines are lost")
    unread.stop()


def test_stop(unread):
    """The drain tells of connections that do not end, and the end of what was received; nobody gets to read it."""
    unread.fill_log()
    with unread.connect() as slow:
        slow.send(daemon.request(event())[:-1])
        unread.process.terminate()
        assert unread.process.wait(daemon.STOP_DEADLINE) == 0
    unread.read_log()
    assert unread.wait_exit() == 0


def test_event_that_cannot_be_recorded(unread):
    """The line with its body is lost too, as the log is what it is, and the answer is as ever."""
    body = event(GroupId="large", Name="x" * 500000)
    with unread.locked():
        answers = []
        sender = threading.Thread(target=lambda: answers.append(unread.post(body)))
        unread.fill_log()
        sender.start()
        sender.join(60)
    assert [answer.status for answer in answers] == [503]
    unread.read_log()
    assert unread.post(event(GroupId="after")).status == 200
    refusals(unread, 1)
    daemon.eventually(lambda: "did not accept them" in unread.log, "how many lines are lost")
    unread.stop()


EVENTS, EVENT_BYTES = 100, 100000


@contextlib.contextmanager
def slowly_read(one, bytes_per_second):
    """Meanwhile the log is read at this pace."""
    over = threading.Event()

    def read():
        with one.reader.reading:
            while not over.wait(65536 / bytes_per_second):
                if one.reader._is_readable(0):
                    one.reader.text += os.read(one.reader.pipe.fileno(), 65536)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def refused_events(one):
    """Connections on each of which an event was sent that cannot be recorded."""
    with one.locked(), contextlib.ExitStack() as stack:
        connections = [stack.enter_context(one.connect()) for _ in range(EVENTS)]
        for number, connection in enumerate(connections):
            body = event(GroupId=f"@{number}@")
            connection.send(daemon.request(daemon.padded(body, EVENT_BYTES)))
        yield connections


def whole_events(one):
    lines = [line for line in one.lines if "not recorded" in line and len(line) > EVENT_BYTES and line.endswith("}")]
    return {int(re.search('"@([0-9]+)@"', line)[1]) for line in lines}


@pytest.fixture
def slow():
    one = daemon.Daemon({"listen": {"threads": 2}})
    try:
        yield one.start()
    finally:
        one.destroy()


def test_events_of_a_slow_log(slow):
    """Each refused event is in it, although it takes far longer than the daemon waits for other lines."""
    with slowly_read(slow, 5e6), refused_events(slow) as connections:
        assert [connection.read_answer().status for connection in connections] == [503] * EVENTS
    assert whole_events(slow) == set(range(EVENTS))
    slow.stop()


def test_stop_with_a_slow_log(slow):
    """The end comes in time, and the log says how much of it is missing."""
    with slowly_read(slow, 6e5), refused_events(slow):
        daemon.eventually(lambda: b"not recorded" in slow.reader.text, "the first event in the log")
        slow.process.terminate()
        assert slow.process.wait(daemon.STOP_DEADLINE) == 0
    assert slow.wait_exit() == 0
    lost = sum(int(number) for number in re.findall("did not accept them: ([0-9]+)", slow.log))
    assert lost > 0 and len(whole_events(slow)) + lost >= EVENTS
