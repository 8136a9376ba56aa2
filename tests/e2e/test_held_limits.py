"""While events wait for the commit: limits are reached, deadlines pass, the daemon reloads or stops, and crowds of
clients disconnect. Idle loops use no processor, and nothing leaks."""

import contextlib
import itertools

import pytest

import daemon
from daemon import eventually
from held import (EACH_LEAVE, LEAVES, MOMENTS, callback, check_malformed, check_recorded, connections, is_served,
                  malformed, new_names, other_command, running)
from processes import allow_open_files, cpu_seconds, holds, memory_bytes
from wire import Wire

LIMIT = 4
SECOND = {"request_timeout": "1s", "idle_timeout": "1s", "store_wait": "1s"}


@pytest.fixture
def one(delayed):
    return delayed


@contextlib.contextmanager
def held(one, wires, data):
    """The disk hangs during the block, which starts when a request of each client is held."""
    with one.delays.hung_disk():
        for wire, each in zip(wires, data):
            wire.send(each)
        one.wait_until_held(len(wires))
        yield


# Many clients

@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.full)])
@pytest.mark.parametrize("moment", ["hung", "committed"])
@pytest.mark.parametrize("leave", [Wire.reset, Wire.close], ids=lambda leave: leave.__name__)
def test_new_clients_get_no_answer_of_earlier_ones(one, leave, moment, count):
    """All clients disconnect, and new ones connect at once, whose descriptors in the daemon may have the same numbers.
    The answer to each new client names a position of its own."""
    allow_open_files(2 * count + 200)
    sent = new_names(count)
    with connections(one, count) as wires, contextlib.ExitStack() as stack:
        later = []

        def replace(wire):
            leave(wire)
            later.append(stack.enter_context(Wire(one)))
            if moment == "hung":  # otherwise, the event loop cannot answer yet
                later[-1].shake_hands().send(malformed(1000 + len(later)))

        MOMENTS[moment](one, wires, map(callback, sent), replace)
        for i, wire in enumerate(later, 1):
            if moment == "committed":
                wire.shake_hands().send(malformed(1000 + i))
        for i, wire in enumerate(later, 1):
            (answer,) = wire.read_rest()
            check_malformed(answer, 1000 + i)
    check_recorded(one, sent)
    assert is_served(one)


@pytest.mark.full
@pytest.mark.parametrize("pipelined", [1, 3])
def test_memory_does_not_grow(one, pipelined):
    if memory_bytes(one.process.pid, "VmSize") > 1 << 40:
        pytest.skip("a sanitizer keeps freed memory")
    figures = []
    for number in range(60):
        sent = [new_names(pipelined) for _ in range(50)]
        leave = LEAVES[number % len(LEAVES)]
        with connections(one, len(sent)) as wires:
            with held(one, wires, (b"".join(map(callback, each)) for each in sent)):
                for wire in wires:
                    leave(wire)
            for wire in wires:
                if leave not in (Wire.reset, Wire.close):
                    wire.read_rest()
        one.check_released()
        figures.append(memory_bytes(one.process.pid) >> 10)
    print(figures)
    assert figures[-1] < figures[29] + 1024, figures


@pytest.mark.parametrize("leave", [None, Wire.reset], ids=["stay", "reset"])
def test_evicts_no_held_request(leave):
    """More clients than the daemon accepts connect while requests are held. Then the daemon answers the clients that
    are still there."""
    with running({"listen": {"threads": 1}, "limits": {"connections": LIMIT}}) as one:
        sent = new_names(LIMIT)
        with connections(one, LIMIT) as wires:
            with held(one, wires, map(callback, sent)):
                for wire in wires:
                    leave(wire) if leave else None
                for _ in range(2 * daemon.hard_limit(LIMIT)):
                    with Wire(one).shake_hands() as other:
                        other.send(other_command())
                        assert [answer.status for answer in other.wait_for_answers(1)] == [200]
            if not leave:
                assert [wire.wait_for_answers(1)[0].status for wire in wires] == [200] * LIMIT
        check_recorded(one, sent)
        assert is_served(one)


def send_next_request(wire):
    wire.send(callback(*new_names(1)))


def send_next_head(wire):
    wire.send(callback(*new_names(1))[:100])


@pytest.mark.timing
@pytest.mark.parametrize("act", [pytest.param(lambda wire: None, id="wait"), send_next_request, send_next_head,
                                 *EACH_LEAVE])
def test_a_hung_disk_uses_no_cpu(one, act):
    with connections(one, 20) as wires:
        with held(one, wires, map(callback, new_names(20))):
            for wire in wires:
                act(wire)
            before = cpu_seconds(one.process.pid)
            assert holds(lambda: one.process.poll() is None, 0.6)
            taken = cpu_seconds(one.process.pid) - before
    print(f"{taken * 1000:.1f} ms of the processor in 600 ms")
    assert taken < 0.12  # mostly for the sleeps of the hung sync


# Deadlines

def test_a_held_request_has_no_deadline():
    """The disk hangs for longer than every deadline. The second client has sent another request, and the third one the
    start of a request."""
    sent, late = new_names(3), callback(*new_names(1))
    with running({"limits": SECOND}) as one, connections(one, 3) as wires:
        with held(one, wires, [callback(sent[0]), callback(sent[1]) + malformed(5), callback(sent[2]) + late[:60]]):
            assert holds(lambda: all(wire.received == b"" for wire in wires), 2.2)
        assert wires[0].wait_for_answers(1)[0].status == 200
        first, second = wires[1].read_rest()
        assert first.status == 200
        check_malformed(second, 5)
        wires[2].send(late[60:])
        assert [answer.status for answer in wires[2].wait_for_answers(2)] == [200, 200]
        check_recorded(one, sent)
        for wire in wires:
            wire.close()


@pytest.mark.parametrize("leave", [pytest.param(None, id="stay"), *EACH_LEAVE])
def test_refuses_once_after_store_wait(leave):
    """Another process locks the database for longer than store_wait. Half of the clients leave meanwhile. Those that
    stay get one answer to each request, and the events that were acknowledged are recorded."""
    sent = [new_names(2) for _ in range(8)]
    with running({"limits": {"store_wait": "1s"}}) as one, connections(one, len(sent)) as wires:
        with one.locked():
            for wire, each in zip(wires, sent):
                wire.send(b"".join(map(callback, each)))
            one.wait_until_held(len(sent))
            for wire in wires[::2]:
                leave(wire) if leave else None
            assert all(wire.wait_for_answers(1)[0].status == 503 for wire in wires[1::2])
        stayed = wires[1::2] if leave else wires
        answered = {wire: wire.wait_for_answers(2) for wire in stayed}
        assert all([answer.status for answer in answers] in ([503, 200], [503, 503]) for answers in answered.values())
        for wire in wires:
            wire.close()
        one.check_released()
        recorded = one.group_ids("held-")
        for wire, (first, second) in zip(wires, sent):
            assert first not in recorded
            if wire in answered:
                assert recorded.count(second) == (answered[wire][1].status == 200)
        assert is_served(one)


# Reload and stop

@pytest.mark.parametrize("leave", [pytest.param(None, id="stay"), *EACH_LEAVE])
def test_reloads_while_requests_are_held(leave):
    sent = new_names(10)
    with running() as one, connections(one, len(sent)) as wires:
        with held(one, wires, map(callback, sent)):
            one.reload({"admin": {"port": one.admin_port}, "limits": {"body": "1M"}})
            for wire in wires[::2]:
                leave(wire) if leave else None
            one.reload({"admin": {"port": one.admin_port}, "limits": {"body": "2M"}})
        for wire in wires[1::2]:
            assert wire.wait_for_answers(1)[0].status == 200
        for wire in wires:
            wire.close()
        check_recorded(one, sent)
        assert is_served(one)


@pytest.mark.parametrize("leave", [pytest.param(None, id="stay"), *EACH_LEAVE])
@pytest.mark.parametrize("moment", ["hung", "committed"])
def test_stops_after_the_answers_to_held_requests(moment, leave):
    """A third of the clients leave, and a third have sent two requests. What is recorded for a client that stays is
    answered."""
    sent = [new_names(2 if i % 3 == 1 else 1) for i in range(12)]
    with running() as one, connections(one, len(sent)) as wires:
        numbers = itertools.count()

        def act(wire):
            number = next(numbers)
            if leave and number % 3 == 0:
                leave(wire)
            if number == len(sent) - 1:
                one.process.terminate()
                one.wait_notified("STOPPING=1")

        with contextlib.suppress(ConnectionRefusedError):  # the admin listener stops, too
            MOMENTS[moment](one, wires, (b"".join(map(callback, each)) for each in sent), act)
        answered = [wire.read_rest() if i % 3 or not leave else [] for i, wire in enumerate(wires)]
        assert one.wait_exit() == 0
        recorded = one.group_ids("held-")
        assert len(recorded) == len(set(recorded))
        for i, (names, answers) in enumerate(zip(sent, answered)):
            assert names[0] in recorded
            if i % 3 or not leave:
                assert answers[0].status == 200
                accepted = [name for name, answer in zip(names, answers) if answer.status == 200]
                assert accepted == [name for name in names if name in recorded]


@pytest.mark.parametrize("leave", [None, Wire.send_close_notify_and_fin], ids=["stay", "leave"])
def test_stops_while_a_client_reads_no_answer(leave):
    """The daemon does not wait for this client longer than it may take to stop."""
    with running({"listen": {"threads": 1}}) as one:
        one.delays.set(send_buffer_bytes=2304)
        sent = new_names(300)
        with Wire(one, receive_buffer=2304).shake_hands() as wire:
            wire.plain.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                wire.plain.send(wire.record(b"".join(map(callback, sent))))
            eventually(lambda: len(one.group_ids("held-")) > 5, "answers")
            eventually(lambda: holds(lambda n=len(one.group_ids("held-")): len(one.group_ids("held-")) == n, 0.2),
                       "the daemon to be blocked")
            leave(wire) if leave else None
            one.stop()
        recorded = one.group_ids("held-")
        assert recorded == sent[:len(recorded)]
