"""Reads what a run leaves behind into the history: stores, destination, journals of the endpoints, logs, pages, metrics
and the resources of the processes."""

import contextlib
import itertools
import json
import os
import re
import sqlite3
import threading
import time

import delivery
import monitoring
from endpoint import SECRET
from operation import digest
from postgres import PASSWORD
from process import IS_SANITIZED
from processes import memory_bytes

COLUMNS = ("sdk_appid", "group_id", "event_time_ms", "type", "owner_account", "operator_account", "name",
           "member_count", "opt_platform", "client_ip", "remote_address")
REFUSED = re.compile(rb"not recorded: a callback of app \d+ .*?, ClientIP .*?, OptPlatform .*?: (.*)")
REPORTS = re.compile("AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:|Assertion .* failed")
ESCAPED = re.compile(rb"\\(\\|x(..))")
OBSERVATION_S = 3
PAGES = {"receiver": ("/", "/status.json", "/metrics"), "forward": ("/metrics",), "deliver": ("/metrics",)}

numbers = itertools.count()


def members_digest(members):
    return digest("\n".join(members).encode())


@contextlib.contextmanager
def reading(path):
    """Opens a database for reading, in one transaction."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")
        yield connection


def snapshot(history, receiver, path, moment, **fields):
    """Reads the store of a receiver, or a copy of it. Returns {event_uid: (row, members)}."""
    number, events = next(numbers), {}
    with reading(path) as connection:
        history.record("snapshot", snapshot=number, receiver=receiver, moment=moment, **fields)
        members = {}
        for group, member in connection.execute(
                "SELECT destroyed_group_id, member_account FROM destroyed_group_member ORDER BY 1, position"):
            members.setdefault(group, []).append(member)
        for row in map(dict, connection.execute("SELECT * FROM destroyed_group ORDER BY id")):
            own = members.get(row["id"], [])
            uid = delivery.event_uid(row, receiver)
            events[uid] = (row, own)
            history.record("store_row", snapshot=number, receiver=receiver, id=row["id"], uid=uid,
                           received_at_ms=row["received_at_ms"],
                           row={name: row[name] for name in COLUMNS} | {"members": members_digest(own)})
        for row in connection.execute("SELECT id, reason, body FROM rejected_callback ORDER BY id"):
            history.record("rejected_row", snapshot=number, receiver=receiver, id=row["id"], reason=row["reason"],
                           digest=digest(row["body"]))
    return events


def destination(history, rows):
    """Reads the destination. rows(query) returns the rows of a query as dictionaries."""
    listed = ", ".join(f"g.{name}" for name in COLUMNS)
    for row in rows(f"""
            SELECT encode(event_uid, 'hex') AS event_uid, g.receiver, {listed}, m.members
            FROM destroyed_group g LEFT JOIN (
                SELECT event_uid, encode(sha256(convert_to(string_agg(member_account, E'\\n' ORDER BY position),
                'UTF8')), 'hex') AS members FROM destroyed_group_member GROUP BY event_uid) m USING (event_uid)"""):
        uid, receiver = row.pop("event_uid"), row.pop("receiver")
        history.record("destination_row", uid=uid, receiver=receiver,
                       row=row | {"members": row["members"] or members_digest([])})


def deliveries(history, receiver, events, tokens, offsets):
    """Reads the journal of an endpoint, and the events that were set aside. events: what snapshot() returned for the
    store, over the whole run; offsets: by how many seconds the clock of deliver may have been ahead."""
    start = time.time() - history.seconds()
    form = receiver.name, tokens, offsets
    for request in receiver.application.endpoint.requests():
        group = events[request.id][0]["group_id"] if request.id in events else request.group
        history.record("delivery", endpoint=receiver.application.name, place=request.place, end_place=request.end_place,
                       uid=request.id, app=int(request.query["SdkAppid"]), group=group,
                       arrived_s=request.time - start,
                       ended_s=request.ended and request.ended - start, how=request.how,
                       accepted=request.accepted, fields_ok=is_well_formed(request, events, *form))
    with reading(receiver.state_file) as connection:
        for (number,) in connection.execute("SELECT id FROM set_aside"):
            history.record("set_aside", receiver=receiver.name, id=number)


def is_well_formed(request, events, receiver, tokens, offsets):
    """Returns whether the request has the form that imcallbackd-deliver(8) describes, and the content of its event."""
    ahead_s = int(request.headers["webhook-timestamp"]) - request.time
    try:
        request.check_form(tokens=tokens, secrets=[SECRET], ahead_s=min(offsets, key=lambda each: abs(each - ahead_s)))
        delivery.check_content(request, *events[request.id], receiver)
    except (AssertionError, KeyError):
        return False
    return True


def secrets_in(text, tokens):
    """Returns the names of the secrets in a log or a page."""
    found = [f"token {token}" for token in tokens if token in text]
    found += ["the password of the destination"] if PASSWORD in text else []
    found += ["the secret of the webhook"] if SECRET.removeprefix("whsec_") in text else []
    return found + (["a signature"] if re.search("(?i)sign=[0-9a-f]", text) else [])


def unescape(found):
    return bytes.fromhex(found[2].decode()) if found[2] else b"\\"


def logs(history, installation):
    """Searches the log of each process of imcallbackd and of HAProxy for secrets, for reports of sanitizers and failed
    assertions, and for refused events."""
    for name in installation.services():
        path = installation.directory / f"{name}.log"
        data = path.read_bytes()
        text = data.decode(errors="replace")
        history.record("text", source=path.name, secrets=secrets_in(text, installation.credentials.all_tokens),
                       reports=REPORTS.findall(text))
        for body in REFUSED.findall(data):
            history.record("crit_line", receiver=name[-1], digest=digest(ESCAPED.sub(unescape, body)))


class Observer(threading.Thread):
    """Looks at all pages and metrics again and again, and records each secret in them."""

    def __init__(self, history, installation):
        super().__init__(daemon=True)
        self.history, self.installation = history, installation
        self.over = threading.Event()
        self.pages = 0
        self.start()

    def run(self):
        while not self.over.wait(OBSERVATION_S):
            for receiver in self.installation.receivers.values():
                for part, paths in PAGES.items():
                    for path in paths:
                        self._look(receiver, part, path)

    def _look(self, receiver, part, path):
        text = receiver.ask(part, path)[1]
        self.pages += bool(text)
        if found := secrets_in(text, self.installation.credentials.all_tokens):
            self.history.record("text", source=f"{part}-{receiver.name} {path}", secrets=found)

    def stop(self):
        self.over.set()
        self.join()
        self.history.record("text", source=f"{self.pages} pages", secrets=[])


def counters(history, receiver, moment):
    """Records the counters of a receiver, its forwarder and its sender, which have nothing left to do."""
    port = receiver.admin_ports["receiver"]
    with reading(receiver.database) as connection:
        (newest,) = connection.execute("SELECT coalesce(max(id), 0) FROM destroyed_group").fetchone()
    metrics = {name: value for part in PAGES for name, value in monitoring.metrics(receiver.admin_ports[part]).items()
               if part == "receiver" or name.startswith(f"imcallbackd_{part}_")}
    history.record("counters", receiver=receiver.name, moment=moment, metrics=metrics,
                   status=json.loads(monitoring.ask(port, "/status.json")[2]), newest_id=newest)


def samples(history, installation, moment):
    """Records what each process of imcallbackd uses. A sanitizer's memory is not recorded, because it keeps freed
    memory."""
    for name, service in installation.services().items():
        if name == "haproxy":
            continue
        with contextlib.suppress(OSError, AttributeError):
            pid = service.process.pid
            history.record("sample", process=name, moment=moment, rss_bytes=0 if IS_SANITIZED else memory_bytes(pid),
                           descriptors=len(os.listdir(f"/proc/{pid}/fd")),
                           threads=len(os.listdir(f"/proc/{pid}/task")))
