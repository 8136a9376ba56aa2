"""A random mix of pipelines, slow and vanishing clients, reloads and a stop against a store with random delays. The seed
is printed; SEED repeats a run, as far as the scheduling of threads allows, and SECONDS sets its length."""

import contextlib
import os
import random
import ssl
import threading
import time

import pytest

from held import (LEAVES, callback, check_malformed, is_served, malformed, new_names, other_command,
                  running)
from wire import Wire

CLIENTS = 64
SECONDS = float(os.environ.get("SECONDS", "2.5"))
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Talk:
    """One connection: what the client sent and which answers it received."""

    def __init__(self, dice):
        self.dice = dice
        self.expected = []  # the id of an event, the position in a malformed body, or the status of another answer
        self.answers = []
        self.must_be_complete = False

    def draw(self):
        """Returns the next requests of the pipeline."""
        data = b""
        for _ in range(self.dice.choice((1, 1, 1, 2, 10, 30))):
            if self.dice.random() < 0.1:
                self.expected.append(200)
                data += other_command()
            else:
                self.expected += new_names(1)
                data += callback(self.expected[-1])
        return data

    def draw_end(self):
        """Returns a last request, after which the daemon closes the connection."""
        if self.dice.random() < 0.3:
            self.expected.append(405)
            return GET
        position = self.dice.randrange(1, 2000)
        self.expected.append((position,))
        return malformed(position)

    def send(self, wire, data):
        if self.dice.random() < 0.5:
            wire.send(data)
            return
        size = self.dice.choice((100, 700, 5000))
        records = b"".join(wire.record(data[i:i + size]) for i in range(0, len(data), size))
        while records:
            size = self.dice.randrange(1, 4000)
            wire.plain.sendall(records[:size])
            records = records[size:]

    def run(self, one):
        with Wire(one, receive_buffer=self.dice.choice((0, 0, 2304))).shake_hands() as wire:
            try:
                self.converse(wire)
            finally:
                self.answers = wire.answers()

    def converse(self, wire):
        for _ in range(self.dice.choice((1, 1, 3))):
            self.send(wire, self.draw())
            if self.dice.random() < 0.4:
                wire.wait_for_answers(self.dice.randrange(len(self.expected) + 1))
        action = self.dice.choice((*LEAVES, None, None, None))
        if action is None:
            self.send(wire, self.draw_end())
            self.must_be_complete = True
        else:
            action(wire)
        if action not in (Wire.reset, Wire.close):
            size = self.dice.choice((200, 65536))
            while wire.receive(size):
                pass

    def check(self, recorded, is_stopping):
        """Asserts that each answer belongs to its request, that acknowledged events are recorded, and that the recorded
        ones of this connection are the first ones. recorded: a dictionary from ids to their positions."""
        assert len(self.answers) <= len(self.expected)
        if self.must_be_complete and not is_stopping:
            assert len(self.answers) == len(self.expected)
        for expected, answer in zip(self.expected, self.answers):
            if is_stopping and answer.status == 503:
                assert answer is self.answers[-1]
            elif isinstance(expected, tuple):
                check_malformed(answer, *expected)
            else:
                assert answer.status == (expected if isinstance(expected, int) else 200)
            if isinstance(expected, str) and answer.status == 200:
                assert expected in recorded
        positions = [recorded.get(name) for name in self.expected if isinstance(name, str)]
        known = [position for position in positions if position is not None]
        assert positions[:len(known)] == known == sorted(known)


class Client(threading.Thread):
    """Opens one connection after the other until the end."""

    def __init__(self, one, seed, over):
        super().__init__()
        self.one, self.dice, self.over = one, random.Random(seed), over
        self.talks, self.failure = [], None

    def run(self):
        while not self.over.is_set() and not self.failure:
            talk = Talk(self.dice)
            try:
                # An abrupt end of the connection shows in the number of the answers.
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    talk.run(self.one)
            except Exception as failure:  # reported by the test
                self.failure = failure
            self.talks.append(talk)


def disturb(one, dice, end):
    """Changes the delays and reloads at random until this time."""
    while (left := end - time.monotonic()) > 0:
        one.delays.delay_syncs(*dice.choice(((0, 0), (0, 20), (5, 5), (100, 100))))
        kind = dice.choice(("disk", "loops", "reload", "pause", None))
        pause = min(left, dice.uniform(0.02, 0.3))
        if kind == "reload":
            one.reload()
        with {"disk": one.delays.hung_disk, "loops": one.delays.held_loops,
              "pause": one.paused}.get(kind, contextlib.nullcontext)():
            time.sleep(pause)
    one.delays.reset()


@pytest.mark.parametrize("ending", ["stop", *(pytest.param(ending, marks=pytest.mark.full)
                                              for ending in ("settle", "stop during a hang"))])
@pytest.mark.parametrize("threads", [1, pytest.param(3, marks=pytest.mark.full)])
def test_random_mix(threads, ending):
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print("seed", seed)
    dice, over = random.Random(seed), threading.Event()
    with running({"listen": {"threads": threads}, "limits": {"store_wait": "60s"}}) as one:
        clients = [Client(one, dice.randrange(1 << 32), over) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            disturb(one, dice, time.monotonic() + SECONDS)
            if ending == "stop during a hang":
                with one.delays.hung_disk():
                    one.process.terminate()
                    one.wait_notified("STOPPING=1")
            elif ending == "stop":
                one.process.terminate()
        finally:
            over.set()
            if ending != "settle":
                assert one.wait_exit() == 0, one.log
            for client in clients:
                client.join()
        assert [client.failure for client in clients if client.failure] == []
        ids = one.group_ids("held-")
        recorded = {name: position for position, name in enumerate(ids)}
        assert len(recorded) == len(ids)
        talks = [talk for client in clients for talk in client.talks]
        print(f"{len(talks)} connections, {sum(len(talk.expected) for talk in talks)} requests, "
              f"{sum(len(talk.answers) for talk in talks)} answers, {len(ids)} events")
        for talk in talks:
            talk.check(recorded, ending != "settle")
        if ending == "settle":
            assert is_served(one)
