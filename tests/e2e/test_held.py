"""Clients disconnect, or send more than one request, while their events wait for the commit, between the commit and the
answer, and while the daemon sends the answer. No event may be lost, and no answer may be repeated or swapped."""

import contextlib
import ssl

import pytest

from held import (EACH_LEAVE, MOMENTS, callback, check_malformed, check_recorded, connections, is_served, malformed,
                  new_names)
from processes import eventually
from wire import Wire


@pytest.fixture
def one(delayed):
    return delayed


@pytest.mark.parametrize("leave", EACH_LEAVE)
@pytest.mark.parametrize("moment", MOMENTS)
def test_records_the_event_of_a_client_that_leaves(one, moment, leave):
    """After the client has ended its own direction only, the daemon may answer or close the connection."""
    sent = new_names(3 if moment == "100 ms" else 12)
    with connections(one, len(sent)) as wires:
        MOMENTS[moment](one, wires, map(callback, sent), leave)
        for wire in wires:
            if leave not in (Wire.reset, Wire.close):
                assert [answer.status for answer in wire.read_rest()] in ([200], [])
    check_recorded(one, sent)
    assert is_served(one)


@pytest.mark.parametrize("leave", EACH_LEAVE)
@pytest.mark.parametrize("moment", ["5 ms", "hung", "committed"])
def test_records_a_prefix_of_the_pipeline_of_a_client_that_leaves(one, moment, leave):
    """The client has sent ten requests at once. The first is in progress, and the other ones are in buffers."""
    sent = [new_names(10) for _ in range(4)]
    with connections(one, len(sent)) as wires:
        MOMENTS[moment](one, wires, (b"".join(map(callback, each)) for each in sent), leave)
        answered = [wire.read_rest() if leave not in (Wire.reset, Wire.close) else [] for wire in wires]
    one.check_released()
    for each, answers in zip(sent, answered):
        found = [name for name in one.group_ids("held-") if name in each]
        assert found == each[:len(found)]
        assert [answer.status for answer in answers] == [200] * len(answers)
        assert max(1, len(answers)) <= len(found)
    assert is_served(one)


@pytest.mark.parametrize("moment", MOMENTS)
def test_answers_what_follows_the_request(one, moment):
    """The next request arrives while the first one is held. The daemon answers both, in order."""
    sent = new_names(3)
    with connections(one, len(sent)) as wires:
        MOMENTS[moment](one, wires, map(callback, sent), lambda wire: wire.send(malformed(100 + wires.index(wire))))
        for i, wire in enumerate(wires):
            first, second = wire.read_rest()
            assert first.status == 200
            check_malformed(second, 100 + i)
    check_recorded(one, sent)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("garbage", [b"\x00\xff" * 50, b"GET\r\n\r\n\r\n", b"x" * 20_000, b"\r\n" * 3],
                         ids=["control bytes", "no request line", "long line", "empty lines"])
def test_answers_a_request_before_garbage(one, moment, garbage):
    sent = new_names(2)
    with connections(one, len(sent)) as wires:
        MOMENTS[moment](one, wires, map(callback, sent), lambda wire: wire.send(garbage))
        for wire in wires:
            while b'"}' not in wire.received and b'0}' not in wire.received and wire.receive():
                pass
            wire.send_fin()
            while wire.receive():
                pass
            # libmicrohttpd refuses some garbage itself, in HTML.
            assert wire.received.startswith(b"HTTP/1.1 200 ") and wire.received.count(b"HTTP/1.1 200 ") == 1
    check_recorded(one, sent)


@pytest.mark.parametrize("part", [b"\x17\x03\x03", b"\x17\x03\x03\x00\x20" + b"x" * 31], ids=["header", "payload"])
def test_closes_a_connection_that_ends_within_a_record(one, part):
    """The part of the record and the end of the connection arrive together."""
    with connections(one, 2) as wires:
        with one.delays.held_loops():
            for wire in wires:
                wire.plain.sendall(part)
                wire.send_fin()
        for wire in wires:
            with contextlib.suppress(ssl.SSLError):  # the daemon may send an alert
                wire.read_rest()
    assert is_served(one)


@pytest.mark.parametrize("moment", MOMENTS)
def test_closes_a_connection_after_a_fin(one, moment):
    """libmicrohttpd closes the connection, because the second request does not fit into the memory of the connection.
    The client has sent a FIN before. An older connection stays open: libmicrohttpd checks the oldest connection in
    each iteration, and would remove it."""
    def act(wire):
        wire.send(b"x" * 20_000)
        wire.send_fin()

    sent = new_names(3)
    with connections(one, 1), connections(one, len(sent)) as wires:
        MOMENTS[moment](one, wires, map(callback, sent), act)
        eventually(lambda: one.metric("connections") == 1, "the connections to be closed")
    check_recorded(one, sent)


@pytest.mark.parametrize("moment", MOMENTS)
def test_closes_a_connection_after_two_requests_in_one_record(one, moment):
    """Like the test above, but the second request arrives in the same TLS record as the first one."""
    sent = new_names(3)
    with connections(one, 1), connections(one, len(sent)) as wires:
        requests = [callback(name) + b"x" * 15_000 for name in sent]
        MOMENTS[moment](one, wires, requests, Wire.send_fin)
        eventually(lambda: one.metric("connections") == 1, "the connections to be closed")
    check_recorded(one, sent)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("garbage", [b"\x17\x03\x03\x00\x20" + b"x" * 32, b"GET / HTTP/1.1\r\n\r\n", b"\x17\x03\x03"],
                         ids=["invalid record", "plain text", "partial record"])
def test_records_an_event_before_a_broken_record(one, moment, garbage):
    """The bytes after the request are not valid TLS. The daemon may answer the request or close the connection."""
    sent = new_names(2)
    with connections(one, len(sent)) as wires:
        MOMENTS[moment](one, wires, map(callback, sent), lambda wire: wire.plain.sendall(garbage))
        for wire in wires:
            wire.send_fin()
            with contextlib.suppress(ssl.SSLError):  # the daemon sends an alert
                wire.read_rest()
            assert [answer.status for answer in wire.answers()] in ([200], [])
    check_recorded(one, sent)
    assert is_served(one)
