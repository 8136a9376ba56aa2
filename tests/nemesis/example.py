"""Builds a small history without a violation, as a run of the nemesis would record it. A test changes the history and
then lets the checker find the change."""

import hashlib
import json

from index import row_of, uid_of

APP = 1400000001
TIME_MS = 1700000000000
SERVICES = [f"{service}-{receiver}" for service in ("receiver", "forward", "deliver") for receiver in "ab"]
RESULTS = ("recorded", "repeated", "conflict", "set_aside", "acknowledged", "url_check", "refused", "failed")


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def content(number, with_time=True, group=None, **changes):
    """Returns the row that a call must record."""
    members = [f"member-{number}-{place}" for place in range(3)]
    return {"sdk_appid": APP, "group_id": group or f"@TGS#{number}", "event_time_ms": TIME_MS + number if with_time
            else None, "type": "Public", "owner_account": f"owner-{number}", "operator_account": "admin",
            "name": f"group {number}", "member_count": len(members), "members": digest("\n".join(members)),
            "opt_platform": "RESTAPI", "client_ip": f"10.0.0.{number % 250}", "remote_address": "127.0.0.2"} | changes


class Example:
    """Writes the lines of a history, with stores that record events at once."""

    def __init__(self, retention=False):
        self.now, self.lines, self.op, self.place, self.snapshots = 0.0, [], 0, 0, 0
        self.retention = retention
        self.rows = {"a": {}, "b": {}}  # {receiver: {id: the fields of a line store_row}}
        self.ids = {"a": 0, "b": 0}
        self.rejected = {"a": {}, "b": {}}
        self.counts = {receiver: dict.fromkeys(RESULTS, 0) for receiver in "ab"}
        self.members = {"a": 0, "b": 0}
        self.destination = {}  # {uid: (receiver, row)}
        self.add("start", seed=1, seconds=60, retention=retention, receivers=["a", "b"], destination="pgbouncer")

    def add(self, type, seconds=0.1, **fields):
        self.now += seconds
        self.lines.append({"at": round(self.now, 6), "type": type} | fields)

    def phase(self, name):
        self.add("phase", name=name)

    # Calls

    def invoke(self, kind, expect=None, body="", attempt=1, honest=True, allowed=((200, 0),)):
        if attempt == 1:
            self.op += 1
        identity = [expect[name] for name in ("sdk_appid", "group_id", "event_time_ms")] if expect else None
        self.add("invoke", op=self.op, attempt=attempt, client="c1", kind=kind, honest=honest, expect=expect,
                 identity=identity, allowed=[list(each) for each in allowed],
                 digest=digest(body or json.dumps([self.op, expect])))
        return self.lines[-1]["digest"]

    def answer(self, status=200, code=0, attempt=1, seconds=0.01):
        self.add("answer", seconds, op=self.op, attempt=attempt, status=status, code=code, latency_s=seconds)

    def unknown(self, attempt=1):
        self.add("unknown", 0.01, op=self.op, attempt=attempt, error="reset", latency_s=0.01)

    def record(self, receiver, row):
        self.ids[receiver] += 1
        id, received_ms = self.ids[receiver], TIME_MS + int(self.now * 1000)
        uid = (digest(f"{receiver} {id}") if row["event_time_ms"] is None else
               uid_of((row["sdk_appid"], row["group_id"], row["event_time_ms"])))
        self.rows[receiver][id] = {"receiver": receiver, "id": id, "row": dict(row), "uid": uid,
                                   "received_at_ms": received_ms}
        self.counts[receiver]["recorded"] += 1
        self.members[receiver] += row["member_count"] or 0
        self.destination.setdefault(uid, (receiver, dict(row)))

    def event(self, receiver, row, kind="event"):
        """Sends an event that is recorded and acknowledged."""
        self.invoke(kind, row)
        self.record(receiver, row)
        self.answer()

    def reject(self, receiver, reason, sent):
        id = len(self.rejected[receiver]) + 1
        self.rejected[receiver][id] = {"receiver": receiver, "id": id, "reason": reason, "digest": sent}

    # What the driver reads

    def snapshot(self, receiver, moment, **fields):
        self.snapshots += 1
        self.add("snapshot", snapshot=self.snapshots, receiver=receiver, moment=moment, **fields)
        for row in self.rows[receiver].values():
            self.add("store_row", 0, snapshot=self.snapshots, **row)
        for row in self.rejected[receiver].values():
            self.add("rejected_row", 0, snapshot=self.snapshots, **row)

    def deliver(self, receiver, id):
        row = self.rows[receiver][id]
        self.place += 2
        self.now += 0.1
        self.add("delivery", 0, endpoint=f"endpoint-{receiver}", place=self.place - 1, end_place=self.place,
                 uid=row["uid"], app=row["row"]["sdk_appid"], group=row["row"]["group_id"], arrived_s=self.now - 0.1,
                 ended_s=self.now - 0.05, how="answered", accepted=True, fields_ok=True)

    def counters(self, moment):
        for receiver, counts in self.counts.items():
            metrics = {f'imcallbackd_callbacks_total{{result="{name}"}}': value for name, value in counts.items()}
            metrics |= {"imcallbackd_members_recorded_total": self.members[receiver],
                        'imcallbackd_forward_shipped_total{kind="event"}': counts["recorded"],
                        "imcallbackd_deliver_accepted_total": counts["recorded"],
                        'imcallbackd_rejected_total{cause="sign_wrong"}': counts["refused"]}
            causes = [{"cause": "sign_wrong", "error_code": 120114, "count": counts["refused"]}]
            status = {"callbacks_since_start": counts | {"last_recorded_at": None},
                      "rejected_since_start": causes if counts["refused"] else []}
            self.add("counters", receiver=receiver, moment=moment, metrics=metrics,
                     status=json.loads(json.dumps(status)), newest_id=self.ids[receiver])

    def process(self, name, event, status=None, asked=None, pid=1):
        self.add("process", name=name, event=event, pid=pid, status=status, asked=asked)

    def sample(self, moment):
        for process in SERVICES:
            self.add("sample", process=process, moment=moment, rss_bytes=20 << 20, descriptors=30, threads=5)


def quiet_phase(run):
    run.phase("quiet")
    for name in ("receiver-a", "receiver-b", "deliver-a", "deliver-b", "endpoint-a"):
        run.process(name, "start")
    run.event("a", content(1))
    run.now += 3
    run.event("b", content(2))
    run.invoke("repeat", content(1))
    run.counts["a"]["repeated"] += 1
    run.answer()
    run.event("a", content(3, with_time=False), "no_time")
    run.sample("quiet")
    run.snapshot("a", "clock")
    run.snapshot("b", "clock")


def faults_phase(run, also):
    """Events 6 and 7 are of the same group, event 5 has an unknown outcome and was not recorded."""
    run.add("phase", 3, name="faults")
    run.add("fault", 6, number=1, name="kill", target="receiver-a", phase="begin", note="")
    run.process("receiver-a", "exit", -9, "KILL")
    run.invoke("event", content(4))
    run.record("a", content(4))
    run.unknown()
    run.invoke("event", content(5), honest=False)
    run.unknown()
    run.process("receiver-a", "start")
    run.add("fault", number=1, name="kill", target="receiver-a", phase="end", note="")
    run.event("a", content(6, group="same"))
    run.event("a", content(7, group="same"))
    run.event("b", content(8))
    lost = run.invoke("event", content(9))
    run.add("crit_line", 0, receiver="a", digest=lost)
    run.answer(503, 120301)
    conflict = run.invoke("conflict", content(1, name="another name"))
    run.reject("a", "conflict", conflict)
    run.answer()
    broken = run.invoke("body_not_json", allowed=[(400, 120201)], honest=False)
    run.reject("b", "not JSON", broken)
    run.answer(400, 120201)
    run.invoke("reject_sign", allowed=[(403, 120114)], honest=False)
    run.answer(403, 120114)
    also(run)
    run.snapshot("a", "restore")
    run.snapshot("b", "backup", invoke_at=run.now)
    run.add("fault", number=2, name="clock step", target="clock", phase="begin", note="")
    run.add("clock", ahead_s=86500)
    run.invoke("event", content(12))
    run.answer(403, 120124)
    run.add("fault", number=2, name="clock step", target="clock", phase="end", note="")


def final_phase(run):
    run.phase("recovery")
    run.event("a", content(20))
    for receiver in "ab":
        run.process(f"receiver-{receiver}", "exit", 0, "TERM")
        run.process(f"receiver-{receiver}", "start")
        run.counts[receiver], run.members[receiver] = dict.fromkeys(RESULTS, 0), 0
    run.add("phase", 10, name="final")
    run.counters("final_begin")
    run.event("a", content(10))
    run.event("b", content(11))
    run.invoke("reject_sign", allowed=[(403, 120114)])
    run.counts["b"]["refused"] += 1
    run.answer(403, 120114)
    run.invoke("url_check")
    run.counts["a"]["url_check"] += 1
    run.answer()
    run.counters("final_end")
    run.sample("final")
    run.phase("end")
    for name in ("receiver-a", "receiver-b", "deliver-a", "deliver-b"):
        run.process(name, "exit", 0, "TERM")
    run.process("endpoint-a", "exit", -15, "TERM")


def good_history(retention=False, deleted=(), also=lambda run: None):
    """deleted: the ids of receiver a that retention deleted before the end; also: called with the Example while the
    faults are under way."""
    run = Example(retention)
    quiet_phase(run)
    faults_phase(run, also)
    final_phase(run)
    for receiver in "ab":
        for id in list(run.rows[receiver]):
            run.deliver(receiver, id)
    for id in deleted:
        del run.rows["a"][id]
    run.now += 100
    run.snapshot("a", "final")
    run.snapshot("b", "final")
    for uid, (receiver, row) in run.destination.items():
        run.add("destination_row", 0, uid=uid, receiver=receiver, row=row)
    for source in (*(f"{process}.log" for process in SERVICES), "12 pages"):
        run.add("text", source=source, secrets=[])
    assert all(None not in row_of(row["row"])[3:] for rows in run.rows.values() for row in rows.values())
    return json.loads(json.dumps(run.lines))
