"""Pipelines of requests whose events wait for the commit: each answer is sent once, in order, and to its own client, how
ever the requests and the answers are split."""

import contextlib
import subprocess
import threading

import pytest

from daemon import START_DEADLINE, eventually
from held import (EACH_LEAVE, MOMENTS, callback, check_malformed, check_recorded, connections, is_served, malformed,
                  new_names, other_command, recorded_once)
from processes import holds
from wire import Wire

SMALL_BUFFER = 2304  # bytes; the smallest receive buffer that Linux allows


@pytest.fixture
def one(delayed):
    return delayed


def small_records(wire, data):
    """Returns TLS records with a part of the data each, so that most requests are in two records or more."""
    return b"".join(wire.record(data[i:i + 300]) for i in range(0, len(data), 300))


def send_in_pieces(wire, data, size):
    for i in range(0, len(data), size):
        wire.plain.sendall(data[i:i + size])


def check_pipeline(one, wire, sent, position):
    """Asserts that the client gets an answer to each event, and then the refusal, and that the events are recorded in
    order."""
    *answers, refused = wire.read_rest()
    assert [answer.status for answer in answers] == [200] * len(sent)
    check_malformed(refused, position)
    assert [name for name in one.group_ids("held-") if name in set(sent)] == sent


@pytest.mark.parametrize("is_split", [False, True], ids=["one write", "split"])
@pytest.mark.parametrize("delay_ms, count", [(0, 2), (0, 10), (0, 100), (5, 2), (5, 10), (5, 100), (100, 2)])
def test_answers_a_pipeline_in_order(one, delay_ms, count, is_split):
    sent = new_names(count)
    data = b"".join(map(callback, sent)) + malformed(1000 + count)
    one.delays.delay_syncs(delay_ms)
    with Wire(one).shake_hands() as wire:
        if is_split:
            send_in_pieces(wire, small_records(wire, data), 333)
        else:
            wire.send(data)
        check_pipeline(one, wire, sent, 1000 + count)


@pytest.mark.parametrize("count", [2, 10, 100])
@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9])
def test_answers_a_pipeline_that_arrives_during_a_hung_commit(one, count, cut):
    """The first part of the pipeline ends within a TLS record. The daemon receives the second part while the disk
    hangs."""
    sent = new_names(count)
    with Wire(one).shake_hands() as wire:
        data = small_records(wire, b"".join(map(callback, sent)) + malformed(77))
        first = max(int(len(data) * cut), len(data) // count + 100)
        with one.delays.hung_disk():
            wire.plain.sendall(data[:first])
            one.wait_until_held(1)
            send_in_pieces(wire, data[first:], 1500)
            assert holds(lambda: one.metric("waiting_requests") == 1, 0.05)
        check_pipeline(one, wire, sent, 77)


@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "leaves"])
def test_reads_other_connections_while_one_was_read_ahead(one, leaves):
    """While the first request of a connection waits for the disk, the second one stays in the buffer into which the
    event loop reads ahead."""
    first, second, others = new_names(4), new_names(4), new_names(4)
    with connections(one, 8) as wires:
        with one.delays.hung_disk():
            for wire, *names in zip(wires, first, second):
                wire.plain.sendall(b"".join(wire.record(callback(name)) for name in names))
            one.wait_until_held(4)
            for wire, name in zip(wires[4:], others):
                wire.send(callback(name))
            one.wait_until_held(8)
            if leaves:
                for wire in wires[:4]:
                    wire.reset()
        for wire, count in zip(wires, [0 if leaves else 2] * 4 + [1] * 4):
            if count:
                assert [answer.status for answer in wire.wait_for_answers(count)] == [200] * count
        check_recorded(one, first + others + ([] if leaves else second))
    assert is_served(one)


@pytest.mark.parametrize("moment", MOMENTS)
def test_answers_a_pipeline_that_follows_the_request(one, moment):
    sent, later = new_names(4), new_names(40)
    with connections(one, len(sent)) as wires:
        parts = [later[i::4] for i in range(4)]
        MOMENTS[moment](one, wires, map(callback, sent), lambda wire: wire.send(
            b"".join(map(callback, parts[wires.index(wire)])) + malformed(50 + wires.index(wire))))
        one.delays.reset()
        for i, wire in enumerate(wires):
            check_pipeline(one, wire, [sent[i], *parts[i]], 50 + i)


def test_no_answer_overtakes_a_held_request(one):
    """The daemon could answer the other command at once, but the answer must wait for those before it."""
    sent = new_names(2)
    with Wire(one).shake_hands() as wire:
        with one.delays.hung_disk():
            wire.send(callback(sent[0]) + other_command() + callback(sent[1]) + other_command() + malformed(9))
            one.wait_until_held(1)
            wire.plain.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                wire.receive()
            assert wire.received == b""
        wire.plain.settimeout(START_DEADLINE)
        *answers, refused = wire.read_rest()
        assert [answer.status for answer in answers] == [200] * 4
        check_malformed(refused, 9)
    check_recorded(one, sent)


@pytest.mark.parametrize("moment", ["no delay", "hung", "committed"])
def test_each_client_gets_its_own_answer(one, moment):
    """Accepted and refused callbacks are committed at the same time. Each refusal names a different position."""
    count = 64
    positions = [1000 + i if i % 3 else None for i in range(count)]
    sent = new_names(count)
    requests = [malformed(position) if position else callback(name) for position, name in zip(positions, sent)]
    with connections(one, count) as wires:
        MOMENTS[moment](one, wires, requests, lambda wire: None)
        for position, wire in zip(positions, wires):
            (answer,) = wire.wait_for_answers(1)
            if position:
                check_malformed(answer, position)
            else:
                assert answer.status == 200
    check_recorded(one, sent[::3])


# Answers that the daemon cannot send at once

def start_blocked(one, count):
    """Returns a connection on which the daemon has answered some of the requests, and cannot send the next answer, and
    the names of the events."""
    sent = new_names(count)
    one.delays.set(send_buffer_bytes=SMALL_BUFFER)
    wire = Wire(one, receive_buffer=SMALL_BUFFER).shake_hands()
    sender = threading.Thread(target=wire.plain.sendall, args=(wire.record(b"".join(map(callback, sent))),), daemon=True)
    sender.start()

    def recorded():
        return len([name for name in one.group_ids("held-") if name in set(sent)])

    def is_blocked():
        before = recorded()
        return before > 0 and holds(lambda: recorded() == before, 0.2)

    eventually(is_blocked, "the daemon to be blocked")
    assert recorded() < count
    return wire, sender, sent


def test_answers_a_client_that_reads_slowly(one):
    count = 400
    wire, sender, sent = start_blocked(one, count)
    with wire:
        while len(wire.received) < 10_000:
            assert wire.receive(100)
        assert [answer.status for answer in wire.wait_for_answers(count)] == [200] * count
        sender.join()
    assert recorded_once(one, sent)


@pytest.mark.parametrize("leave", EACH_LEAVE)
def test_a_client_may_leave_while_the_daemon_sends(one, leave):
    """The daemon has recorded what it has answered, and perhaps one more event, whose answer it could not send."""
    wire, sender, sent = start_blocked(one, 400)
    if leave in (Wire.reset, Wire.close):
        wire.plain.shutdown(2)  # ends the thread that sends
        sender.join()
        leave(wire)
        answers = []
    else:
        leave(wire)
        answers = wire.read_rest()
        wire.plain.close()
        sender.join()
    one.check_released()
    found = [name for name in one.group_ids("held-") if name in set(sent)]
    assert found == sent[:len(found)]
    assert len(answers) <= len(found)
    assert is_served(one)


# Key updates

# With -msg, s_client prints these texts about what it sends.
DATA_SENT = b"    17\n"
KEY_UPDATE_SENT = b"KeyUpdate"

@pytest.mark.parametrize("command", [b"k\n", b"K\n"], ids=["the client's key", "both keys"])
def test_answers_after_a_key_update_during_the_commit(one, command):
    """s_client sends the update of its key, or also asks for an update of the daemon's key."""
    sent = new_names(3)
    client = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{one.port}", "-tls1_3", "-msg"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    deadline = threading.Timer(START_DEADLINE, client.kill)
    deadline.start()

    def send(data, sign):
        """Waits until s_client has sent the data, because it recognizes a command only at the start of its input."""
        client.stdin.write(data)
        client.stdin.flush()
        assert any(sign in line for line in client.stdout)

    try:
        assert any(b"read R BLOCK" in line for line in client.stdout)  # from here on, s_client accepts commands
        with one.delays.hung_disk():
            send(callback(sent[0]), DATA_SENT)
            one.wait_until_held(1)
            for data in (callback(sent[1]), callback(sent[2]) + malformed(33)):
                send(command, KEY_UPDATE_SENT)
                send(data, DATA_SENT)
        output = client.stdout.read()  # until the daemon closes
        assert output.count(b"HTTP/1.1 200 OK") == 3 and output.count(b"near byte 33.") == 1
        assert output.index(b"HTTP/1.1 400 ") > output.rindex(b"HTTP/1.1 200 ")
    finally:
        deadline.cancel()
        client.kill()
        client.wait()
    check_recorded(one, sent)
