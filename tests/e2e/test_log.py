"""Tests a log that is read slowly or not at all: the reader may hang, but the daemon must not."""

import contextlib
import os
import re
import threading

import pytest

import daemon
from daemon import event


class UnreadLog(daemon.Daemon):
    """A daemon whose log is not read between fill_log() and read_log()."""

    unread = False

    def fill_log(self):
        """Stops reading the log and fills its pipe."""
        self.unread = self.reader.reading.acquire()
        # os.open() creates a new open file description, so that the daemon's own end of the pipe stays blocking.
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
    """Sends this many requests that are refused for different causes. The first refusal for a cause writes a line to
    the log; further lines for the same cause are rate-limited."""
    causes = [{"SdkAppid": None}, {"SdkAppid": 7}, {"Sign": None}, {"Sign": "x"}, {"RequestTime": None},
              {"RequestTime": "x"}, {"CallbackCommand": None}]
    assert count <= len(causes)
    for cause in causes[:count]:
        assert one.post(**cause).status in (400, 403)


def test_answers_callbacks_and_counts_the_lost_lines(unread):
    unread.fill_log()
    refusals(unread, 5)
    assert [unread.post(event(GroupId=name)).status for name in "abc"] == [200] * 3
    assert unread.group_ids() == ["a", "b", "c"]
    unread.read_log()
    refusals(unread, 7)  # the last two causes are new, so their lines are not rate-limited
    daemon.eventually(lambda: "did not accept them: 5" in unread.log, "the number of lost lines")
    unread.stop()


def test_stops_in_time(unread):
    """While the daemon stops, it logs the number of open connections and the totals, but the log accepts no line."""
    unread.fill_log()
    with unread.connect() as slow:
        slow.send(daemon.request(event())[:-1])
        unread.process.terminate()
        assert unread.process.wait(daemon.STOP_DEADLINE) == 0
    unread.read_log()
    assert unread.wait_exit() == 0


def test_refuses_an_event_that_can_neither_be_recorded_nor_logged(unread):
    """The line with the event is lost, but the client still gets the usual 503."""
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
    daemon.eventually(lambda: "did not accept them" in unread.log, "the number of lost lines")
    unread.stop()


EVENTS, EVENT_BYTES = 100, 100000


@contextlib.contextmanager
def slowly_read(one, bytes_per_second):
    """Reads the log at this rate while the block runs."""
    done = threading.Event()

    def read():
        with one.reader.reading:
            while not done.wait(65536 / bytes_per_second):
                if one.reader._is_readable(0):
                    one.reader.text += os.read(one.reader.pipe.fileno(), 65536)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def refused_events(one):
    """Yields connections, each with a pending event that cannot be recorded."""
    with one.locked(), contextlib.ExitStack() as stack:
        connections = [stack.enter_context(one.connect()) for _ in range(EVENTS)]
        for number, connection in enumerate(connections):
            body = event(GroupId=f"@{number}@")
            connection.send(daemon.request(daemon.padded(body, EVENT_BYTES)))
        yield connections


def whole_events(one):
    """Returns the numbers of the events whose whole body is in the log."""
    lines = [line for line in one.lines if "not recorded" in line and len(line) > EVENT_BYTES and line.endswith("}")]
    return {int(re.search('"@([0-9]+)@"', line)[1]) for line in lines}


@pytest.fixture
def slow():
    one = daemon.Daemon({"listen": {"threads": 2}})
    try:
        yield one.start()
    finally:
        one.destroy()


def test_logs_every_refused_event_to_a_slow_log(slow):
    """Every refused event is logged, although the reader of the log takes 2 s for all of them. A line of another level
    would wait only 1 s."""
    with slowly_read(slow, 5e6), refused_events(slow) as connections:
        assert [connection.read_answer().status for connection in connections] == [503] * EVENTS
    assert whole_events(slow) == set(range(EVENTS))
    slow.stop()


def test_stops_in_time_and_counts_the_lost_lines_of_a_slow_log(slow):
    with slowly_read(slow, 6e5), refused_events(slow):
        daemon.eventually(lambda: b"not recorded" in slow.reader.text, "the first event in the log")
        slow.process.terminate()
        assert slow.process.wait(daemon.STOP_DEADLINE) == 0
    assert slow.wait_exit() == 0
    lost = sum(int(number) for number in re.findall("did not accept them: ([0-9]+)", slow.log))
    assert lost > 0 and len(whole_events(slow)) + lost >= EVENTS
