"""The daemon is killed at random moments, again and again on one store: no acknowledged event is lost, and no event is
incomplete or duplicated. KILLS sets the number of kills; `ctest -C campaign -L campaign` uses 10,000. SEED=n repeats
the random choices of a run."""

import contextlib
import os
import random
import ssl
import threading
import time

from daemon import event, load_report, request
from ledger import Ledger

KILLS = int(os.environ.get("KILLS", "100"))
SEED = int(os.environ.get("SEED", time.time_ns() % 1_000_000_000))
ENDS = (OSError, ssl.SSLError)  # how a connection to a killed daemon fails


class UnusualClient(threading.Thread):
    """Sends what the load generator does not send: events without a time, bodies that are rejected, and, as a careful
    client does, a repeat of the event that got no answer because of the previous kill. Also sends ordinary events."""

    def __init__(self, one, number, unanswered):
        super().__init__()
        self.one, self.number, self.unanswered = one, number, unanswered
        self.acknowledged = {}
        self.surprise = None

    def bodies(self):
        yield from self.unanswered
        for i in range(1_000_000):
            name = f"odd-{self.number}-{i}"
            if i % 3 == 0:
                yield name, event(GroupId=name, EventTime=None)
            elif i % 3 == 1:
                yield name, event(GroupId=name, EventTime=1000 + i)
            else:
                yield None, event(GroupId=name, Name=7)

    def run(self):
        sent = None
        with contextlib.suppress(*ENDS), self.one.connect() as connection:
            for name, body in self.bodies():
                sent = (name, body)
                connection.send(request(body))
                if not connection.wait_for_answer():
                    break
                answer = connection.read_answer()
                if answer.status != (200 if name else 400):
                    self.surprise = (body, answer)
                    break
                if name:
                    self.acknowledged[name] = 1
                else:
                    connection.tls.close()
                    connection = self.one.connect()
        self.unanswered = [sent] if sent and sent[0] and sent[0] not in self.acknowledged else []


def test_kills_lose_no_acknowledged_event(make_daemon):
    print(f"SEED={SEED}")
    chance = random.Random(SEED)
    one = make_daemon()
    ledger, unanswered = Ledger(one), []
    for number in range(KILLS):
        one.start()
        if number:
            ledger.check(acknowledged)  # after the recovery by the next daemon
            if number % 25 == 0:
                ledger.check_file()
        members = chance.choice([0, 1, 3, 10, 200])
        seed = SEED % 1_000_000 * 100_000 + number
        file = one.directory / "acknowledged"
        unusual = UnusualClient(one, number, unanswered)
        with one.start_load(connections=chance.choice([1, 8, 32]), total=1_000_000, timeout=20, members=members,
                            seed=seed, acknowledged=file) as load:
            unusual.start()
            time.sleep(chance.uniform(0.02, 0.5))  # the moment of the kill
            one.kill()
            report = load_report(load, 60)
        unusual.join()
        assert not unusual.surprise
        acknowledged = {name: members for name in file.read_text().split()} if file.exists() else {}
        assert len(acknowledged) == report.get("ok", 0)
        acknowledged |= unusual.acknowledged
        unanswered = unusual.unanswered
    one.start()
    ledger.check(acknowledged)
    ledger.check_file()
    print(f"{KILLS} kills, {ledger.checked} acknowledged events, none lost")
    assert ledger.checked > KILLS
