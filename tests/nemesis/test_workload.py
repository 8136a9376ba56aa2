"""Tests the workload against one receiver without faults: every operation gets an answer that its kind allows, and the
store has exactly the rows that the operations expect."""

import collections
import contextlib
import hashlib
import itertools
import threading
import time

import pytest

import clients
import daemon
import workload

APPS = {1400000001: ["first-token"], 1400000002: ["second-token", "another-token"]}
OPERATIONS = 700  # of each run
RATE = 70
# No kind is rare.
TABLE = [(kind, min(weight, 30), honest, function) for kind, weight, honest, function in workload.TABLE]


class Memory:
    """A history that keeps the lines in memory."""

    def __init__(self):
        self.lines = []
        self.lock = threading.Lock()

    def record(self, type, **fields):
        with self.lock:
            self.lines.append({"type": type} | fields)

    def of_type(self, type):
        return [line for line in self.lines if line["type"] == type]


class Credentials:
    def token(self, app):
        return APPS[app][-1]

    def now(self):
        return time.time()


def stored_rows(one):
    """Returns the rows of the store in the form of the history."""
    found = []
    for row in one.groups():
        members = [line["member_account"] for line in one.sql(
            f"SELECT member_account FROM destroyed_group_member WHERE destroyed_group_id = {row['id']} "
            "ORDER BY position")]
        row["members"] = hashlib.sha256("\n".join(members).encode()).hexdigest()
        found.append({name: value for name, value in row.items() if name not in ("id", "received_at_ms", "body")})
    return found


def identity(row):
    return row["sdk_appid"], row["group_id"], row["event_time_ms"]


@contextlib.contextmanager
def sending(history, load, one, **options):
    """Lets clients send during the block."""
    senders = clients.Clients(history, load, ("127.0.0.1", one.port), one.directory / "certificate.pem", Credentials(),
                              rate=RATE, **options)
    senders.start()
    try:
        yield senders
    finally:
        senders.stop()


def wait_for_calls(history, count):
    daemon.eventually(lambda: len(history.of_type("invoke")) >= count, f"{count} calls", 60, pause=0.1)


@pytest.fixture(scope="module", params=["reject", "acknowledge"])
def run(request):
    """The history of a run, and the receiver."""
    history = Memory()
    settings = {"callback": {"other_commands": request.param}, "limits": {"request_timeout": "4s"}}
    with daemon.running(settings, APPS) as one:
        load = workload.Workload(f"seed-{request.param}", APPS, other_commands=request.param, table=TABLE)
        with sending(history, load, one):
            wait_for_calls(history, OPERATIONS)
        yield history, one


def outcomes(history):
    """Returns the pairs of the line "invoke" and the line that ends the attempt."""
    ends = {(line["op"], line["attempt"]): line for line in history.lines
            if line["type"] in ("answer", "unknown", "closed")}
    started = history.of_type("invoke")
    assert len(ends) == len(started) == len({(line["op"], line["attempt"]) for line in started})
    return [(line, ends[line["op"], line["attempt"]]) for line in started]


def identities_acknowledged(history):
    return {tuple(start["identity"]) for start, end in outcomes(history)
            if start["expect"] and end.get("status") == 200}


def test_every_answer_is_allowed(run):
    history, one = run
    assert history.of_type("note") == []
    wrong = []
    for start, end in outcomes(history):
        right = {"answer": lambda: (end["status"], end["code"]) in start["allowed"] and (
                     "note" not in end or end["code"] is None),
                 "closed": lambda: not start["honest"],
                 "unknown": lambda: start["kind"] in ("slow_leaves", "slow_resets")}[end["type"]]()
        if not right:
            wrong.append((start, end))
    assert not wrong, (len(wrong), wrong[:5], one.log[-2000:])
    print(collections.Counter((start["kind"], end["type"]) for start, end in outcomes(history)))
    assert {start["kind"] for start, _ in outcomes(history)} == {row[0] for row in TABLE}


def test_every_row_is_expected(run):
    history, one = run
    expected = collections.defaultdict(list)
    for line in history.of_type("invoke"):
        if line["expect"]:
            expected[tuple(line["identity"])].append(line["expect"])
    rows = stored_rows(one)
    assert len({identity(row) for row in rows}) == len(rows) > 100
    wrong = [(row, expected[identity(row)]) for row in rows if row not in expected[identity(row)]]
    assert not wrong, (len(wrong), wrong[:3])


def test_every_acknowledged_event_is_recorded(run):
    history, one = run
    assert identities_acknowledged(history) <= {identity(row) for row in stored_rows(one)}


def test_every_body_that_is_not_understood_is_kept(run):
    history, one = run
    kept = {hashlib.sha256(row["body"]).hexdigest() for row in one.rejected() if row["reason"][:8] != "conflict"}
    assert kept == {start["digest"] for start, end in outcomes(history)
                    if start["kind"].startswith("body_") and end["type"] == "answer"}


def test_sends_again_without_an_answer():
    """The receiver is killed and starts again. Clients send again what has no answer, and nothing is recorded twice."""
    history, load = Memory(), workload.Workload("killed", APPS)
    settings = {"listen": {"port": daemon.free_port()}, "limits": {"request_timeout": "4s"}}
    with daemon.running(settings, APPS) as one:
        with sending(history, load, one):
            wait_for_calls(history, 100)
            one.kill()
            wait_for_calls(history, 130)
            one.start()
            daemon.eventually(lambda: [line for line in history.of_type("invoke") if line["attempt"] > 1],
                              "second attempts")
            wait_for_calls(history, 250)
        assert all(start["identity"][2] for start, _ in outcomes(history) if start["attempt"] > 1)
        assert any(end["type"] == "unknown" for _, end in outcomes(history))
        identities = [identity(row) for row in stored_rows(one)]
        assert len(identities) == len(set(identities))
        assert identities_acknowledged(history) <= set(identities)


def test_same_seed_draws_the_same():
    def draw(seed):
        load = workload.Workload(seed, APPS)
        return [(operation.invocation("127.1.1.1"), operation.head_and_content("token", 1_700_000_000))
                for operation in (load.next() for _ in range(3000))]

    assert draw(1) == draw(1) != draw(2)


def test_threads_draw_the_same_as_one():
    load, drawn = workload.Workload(7, APPS), collections.deque()
    threads = [threading.Thread(target=lambda: drawn.extend(load.next() for _ in range(300))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    again = workload.Workload(7, APPS)
    assert sorted((each.op, each.kind, each.body) for each in drawn) == [
        (each.op, each.kind, each.body) for each in (again.next() for _ in range(1200))]


def test_every_kind_is_drawn():
    load = workload.Workload(3, APPS)
    drawn = collections.Counter(load.next().kind for _ in range(8000))
    assert drawn.keys() == {row[0] for row in workload.TABLE}


def test_honest_draws_are_honest():
    load = workload.Workload(5, APPS)
    drawn = [load.next(only_honest=True) for _ in range(1000)]
    assert all(each.honest and each.manner == "call" for each in drawn)
    assert len(set(itertools.chain.from_iterable(each.allowed for each in drawn))) == 2
