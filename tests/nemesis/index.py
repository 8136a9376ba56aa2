"""Reads a history once and gives the rules of the checker its calls, faults, snapshots and deliveries by name. All
times are seconds since the start of the run, the arrival and the end of a delivery included."""

import bisect
import collections
import hashlib

COMMAND = "Group.CallbackAfterGroupDestroyed"
CONTENT_FIELDS = ("sdk_appid", "group_id", "event_time_ms", "type", "owner_account", "operator_account", "name",
                  "member_count", "members")
ADDRESS_FIELDS = ("opt_platform", "client_ip", "remote_address")
ROW_FIELDS = CONTENT_FIELDS + ADDRESS_FIELDS
# Codes of src/callback/answer.c
STORE_UNAVAILABLE, STALE, SIGN_WRONG, OVERLOADED = 120301, 120124, 120114, 120007
FOREVER_S = float("inf")
SETTLING_S = 5  # how long a fault may have an effect after its end
CLOCK_CACHE_S = 3  # more than the time for which libfaketime keeps the old time

Violation = collections.namedtuple("Violation", "rule text")
Fault = collections.namedtuple("Fault", "number name target begin end")


def row_of(fields):
    """Returns the recorded columns as a tuple, which is comparable with those of another row."""
    return tuple(fields.get(name) for name in ROW_FIELDS)


def content_of(row):
    return row[:len(CONTENT_FIELDS)]


def differences(row, other):
    return [name for name, left, right in zip(ROW_FIELDS, row, other) if left != right]


def identity_of(row):
    """Returns the app, the group and the time, which is None for an event without a time."""
    return row[0], row[1], row[2]


def uid_of(identity):
    """Returns the event_uid of an event with a time."""
    app, group, time_ms = identity
    return hashlib.sha256(f"{COMMAND}\n{app}\n{time_ms}\n{group}".encode()).hexdigest()


class Intervals:
    """A set of times, made of closed intervals."""

    def __init__(self, intervals):
        self.starts, self.ends = [], []
        for begin, end in sorted(intervals):
            if self.ends and begin <= self.ends[-1]:
                self.ends[-1] = max(self.ends[-1], end)
            else:
                self.starts.append(begin)
                self.ends.append(end)

    def overlap(self, begin, end):
        place = bisect.bisect_right(self.starts, end) - 1
        return place >= 0 and self.ends[place] >= begin


class Call:
    """One attempt of a client, with its outcome: "answer", "closed" or "unknown". A call without an outcome in the
    history is "unknown"."""

    def __init__(self, line):
        self.invoke, self.at = line, line["at"]
        self.op, self.attempt, self.kind, self.honest = line["op"], line["attempt"], line["kind"], line["honest"]
        self.digest = line.get("digest")
        self.row = row_of(line["expect"]) if line.get("expect") else None
        self.identity = tuple(line["identity"]) if line.get("identity") else None
        self.outcome, self.end_at, self.status, self.code, self.latency_s = "unknown", FOREVER_S, None, None, None

    def end(self, line):
        self.outcome, self.end_at = line["type"], line["at"]
        self.status, self.code, self.latency_s = line.get("status"), line.get("code"), line.get("latency_s")

    @property
    def acknowledged(self):
        return self.status == 200 and self.code == 0

    @property
    def refused(self):
        return self.outcome == "closed" or (self.status is not None and 400 <= self.status < 500)

    def __str__(self):
        answer = f"{self.status}/{self.code}" if self.outcome == "answer" else self.outcome
        return f"op {self.op} attempt {self.attempt} ({self.kind}, at {self.at:.3f} s, {answer})"


class Snapshot:
    """The rows of a store at a moment between `since` and `at`."""

    def __init__(self, line):
        self.number, self.receiver, self.moment, self.at = (
            line["snapshot"], line["receiver"], line["moment"], line["at"])
        self.since = line.get("invoke_at", line["at"])
        self.rows = {}  # {id: line}
        self.rejected = {}  # {id: line}
        self.twice = []  # the lines whose id occurs twice

    def add(self, line):
        rows = self.rows if line["type"] == "store_row" else self.rejected
        if line["id"] in rows:
            self.twice.append(line)
        line["row"] = row_of(line["row"]) if "row" in line else None
        rows[line["id"]] = line

    def __str__(self):
        return f"snapshot {self.number} of receiver {self.receiver} ({self.moment}, at {self.at:.3f} s)"


class Index:
    """The parts of a history. `mistakes` holds what makes the history itself unusable."""

    def __init__(self, lines):
        self.start, self.mistakes, self.failures = {}, [], []  # failures: of the nemesis itself
        self.phases, self.calls, self.faults = [], [], []  # phases: [(name, at), ...]
        self.snapshots, self.by_number = [], {}
        self.lines = collections.defaultdict(list)  # by type
        self._calls, self._faults = {}, {}
        for line in lines:
            getattr(self, f"_add_{line['type']}", self._add_other)(line)
        self._finish(lines[-1]["at"] if lines else 0)

    # Reading

    def _add_start(self, line):
        self.start = line

    def _add_phase(self, line):
        self.phases.append((line["name"], line["at"]))

    def _add_invoke(self, line):
        call = Call(line)
        if (call.op, call.attempt) in self._calls:
            self.mistakes.append(f"{call} has two invocations")
        self._calls[call.op, call.attempt] = call
        self.calls.append(call)

    def _add_outcome(self, line):
        call = self._calls.get((line["op"], line["attempt"]))
        if call and call.end_at == FOREVER_S:
            call.end(line)
        else:
            self.mistakes.append(f"op {line['op']} attempt {line['attempt']} ends without an invocation before it")

    _add_answer = _add_unknown = _add_closed = _add_outcome

    def _add_fault(self, line):
        if line["phase"] == "begin":
            fault = Fault(line["number"], line["name"], line.get("target"), line["at"], FOREVER_S)
            self._faults[line["number"]] = fault
        elif line["number"] in self._faults:
            self._faults[line["number"]] = self._faults[line["number"]]._replace(end=line["at"])
        if line["phase"] == "failed":
            self.failures.append(f"the fault {line['number']} {line['name']} on {line.get('target')}: {line['note']}")

    def _add_snapshot(self, line):
        self.by_number[line["snapshot"]] = snapshot = Snapshot(line)
        self.snapshots.append(snapshot)

    def _add_row(self, line):
        if line["snapshot"] in self.by_number:
            self.by_number[line["snapshot"]].add(dict(line))
        else:
            self.mistakes.append(f"id {line['id']} of receiver {line['receiver']} is in no snapshot")

    _add_store_row = _add_rejected_row = _add_row

    def _add_other(self, line):
        self.lines[line["type"]].append(line)

    # What follows from the lines

    def _finish(self, last_at):
        self.retention = bool(self.start.get("retention"))
        self.receivers = self.start.get("receivers", [])
        self.faults = sorted(self._faults.values(), key=lambda fault: fault.begin)
        self.seconds = last_at
        self.attempts = collections.defaultdict(list)  # {identity: calls that may record an event}
        for call in self.calls:
            if call.identity and call.row:
                self.attempts[call.identity].append(call)
        self.stored = collections.defaultdict(dict)  # {receiver: {id: the line of the latest snapshot}}
        for snapshot in self.snapshots:
            self.stored[snapshot.receiver].update(snapshot.rows)
        recorded = {row["row"] for snapshot in self.snapshots for row in snapshot.rows.values()}
        self.recorded_content = {content_of(row) for row in recorded}
        self.recorded_identities = {identity_of(row) for row in recorded}
        self.rejected_digests = {line["digest"] for snapshot in self.snapshots for line in snapshot.rejected.values()}
        self._index_outputs()
        self._find_mistakes()

    def _index_outputs(self):
        self.destination = collections.defaultdict(list)  # {uid: [(receiver, row), ...]}
        for line in self.lines["destination_row"]:
            self.destination[line["uid"]].append((line["receiver"], row_of(line["row"])))
        self.deliveries = collections.defaultdict(list)  # {receiver: lines in the order of their arrival}
        for line in sorted(self.lines["delivery"], key=lambda line: line["place"]):
            self.deliveries[line["endpoint"].removeprefix("endpoint-")].append(line)
        self.accepted_at = {}  # {(receiver, uid): when the event was accepted for the first time}
        for receiver, lines in self.deliveries.items():
            for line in lines:
                if line["accepted"]:
                    key = receiver, line["uid"]
                    self.accepted_at[key] = min(self.accepted_at.get(key, FOREVER_S), line["ended_s"])
        self.stale_times = Intervals((line["at"], line["at"] + CLOCK_CACHE_S) for line in self.lines["clock"])
        self.token_removals = Intervals((line["at"], line["at"]) for line in self.lines["tokens_removed"])
        self.set_aside = {(line["receiver"], line["id"]) for line in self.lines["set_aside"]}

    def _find_mistakes(self):
        missing = {"quiet", "final", "end"} - {name for name, _ in self.phases}
        if not self.start or missing:
            self.mistakes.append(f"the run is not complete: start {bool(self.start)}, missing phases {sorted(missing)}")
        for fault in self.faults:
            if fault.end == FOREVER_S:
                self.mistakes.append(f"the fault {fault.number} {fault.name} on {fault.target} has no end")
        for receiver in self.receivers:
            if not self.final(receiver):
                self.mistakes.append(f"receiver {receiver} has no snapshot of the moment final")
        if not any(call.acknowledged for call in self.calls):
            self.mistakes.append("no call was acknowledged")

    # Questions

    def times_of(self, names, margin_s=0):
        """Returns the times of the phases with these names, each without its last `margin_s` seconds."""
        ends = [at for _, at in self.phases[1:]] + [FOREVER_S]
        return Intervals((at, end - margin_s) for (name, at), end in zip(self.phases, ends)
                         if name in names and at <= end - margin_s)

    def calls_in(self, name, margin_s=0):
        """Returns the calls that started in a phase, and not within the last `margin_s` seconds of it."""
        inside = self.times_of([name], margin_s)
        return [call for call in self.calls if inside.overlap(call.at, call.at)]

    def final(self, receiver):
        """Returns the last snapshot of the moment "final" of a receiver, or None."""
        found = [each for each in self.snapshots if (each.receiver, each.moment) == (receiver, "final")]
        return found[-1] if found else None

    def of_receiver(self, receiver):
        return sorted((each for each in self.snapshots if each.receiver == receiver), key=lambda each: each.at)

    def faults_named(self, *words):
        """Returns the times of the faults whose names have one of these words in them, with what follows them."""
        return Intervals((fault.begin, fault.end + SETTLING_S) for fault in self.faults
                         if any(word in fault.name for word in words))

    def clock_steps(self):
        """Returns the times in which a fault may have stepped the clock. An application that refuses events does so
        until the clock is stepped and deliver has set the events aside."""
        return self.faults_named("clock", "refuses")

    def is_taken(self, receiver, uid, id, before=FOREVER_S):
        """Returns whether retention may have deleted the event before this time."""
        accepted = self.accepted_at.get((receiver, uid), FOREVER_S)
        return uid in self.destination and ((receiver, id) in self.set_aside or accepted < before)
