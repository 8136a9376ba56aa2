"""Runs `imcallbackd deliver`, computes the request that it must send for each recorded event, and compares all requests
that an endpoint received with the store."""

import contextlib
import glob
import hashlib
import os
import re
import sqlite3

import daemon
from daemon import COMMAND, TOKEN
from endpoint import SECRET
from service import Service

SETTLING_S = 1  # the time that an endpoint may need to notice that the client has closed a connection


def deliver_to(one, endpoint, settings=None, apps=None, **keys):
    """Writes a configuration with [deliver]. settings: the keys of other sections; keys: the keys of [deliver]. A key
    with the value None is omitted."""
    section = {"url": endpoint.url(), "state_file": one.directory / "state", "admin_port": 0}
    if "certificate" in endpoint.options:
        section["ca_file"] = endpoint.ca_file
    section = {key: value for key, value in (section | keys).items() if value is not None}
    one.write_config({"forward": {"receiver": "a"}} | (settings or {}) | {"deliver": section}, apps)


def write_secret(one, *secrets, name="secret"):
    """Writes a file for [deliver] secret_file, one secret per line. Returns its path."""
    path = one.directory / name
    path.write_text("".join(secret + "\n" for secret in secrets))
    path.chmod(0o600)
    return path


class Deliverer(Service):
    """The process `imcallbackd deliver`, whose log must contain neither a secret nor a part of a request."""

    command = "deliver"

    def check_log(self):
        super().check_log()
        assert TOKEN not in self.log and SECRET not in self.log and SECRET.removeprefix("whsec_") not in self.log
        assert not re.search(r"(?i)sign=|RequestTime=|CallbackCommand=|MemberList|webhook-signature|v1,|[0-9a-f]{64}",
                             self.log), self.log

    def wait_ready(self):
        self.wait_logged("delivering after id")


class Clock:
    """A clock of libfaketime, which a test can put forward while a program runs."""

    LIBRARIES = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")

    def __init__(self, directory):
        self.file = directory / "clock"
        self.ahead_s = 0
        self.put_forward(0)

    def put_forward(self, seconds):
        self.ahead_s += seconds
        new = self.file.with_suffix(".new")
        new.write_text(f"+{self.ahead_s}s\n")
        new.rename(self.file)

    def environment(self):
        """Returns the environment for a program that uses this clock."""
        sanitizer = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        return {"LD_PRELOAD": self.LIBRARIES[0], "FAKETIME_TIMESTAMP_FILE": str(self.file), "FAKETIME_NO_CACHE": "1",
                "ASAN_OPTIONS": sanitizer}


# What is expected

def event_uid(row, receiver="a"):
    """Returns the identity of an event. receiver: the value of [forward] receiver."""
    if row["event_time_ms"] is not None:
        text = f"{COMMAND}\n{row['sdk_appid']}\n{row['event_time_ms']}\n{row['group_id']}"
    else:
        text = (f"{COMMAND}\n{row['sdk_appid']}\n\n{receiver}\n{row['id']}\n{row['received_at_ms']}\n"
                f"{row['group_id']}")
    return hashlib.sha256(text.encode()).hexdigest()


def expected_fields(row, members):
    """Returns the fields that the body must have. Empty fields are left out, because the store has an empty text for a
    field that was absent."""
    fields = {"CallbackCommand": COMMAND, "EventTime": row["event_time_ms"], "GroupId": row["group_id"],
              "Type": row["type"], "Owner_Account": row["owner_account"], "Operator_Account": row["operator_account"],
              "Name": row["name"]}
    if row["member_count"] is not None:
        fields["MemberList"] = [{"Member_Account": member} for member in members]
    return {name: value for name, value in fields.items() if value not in (None, "")}


def check_content(request, row, members, receiver="a", extra=None):
    """Asserts that the request carries this event. extra: parameters of the configured URL."""
    assert request.id == event_uid(row, receiver), (request, row)
    query = {name: value for name, value in request.query.items() if name not in ("Sign", "RequestTime")}
    wanted = {"SdkAppid": str(row["sdk_appid"]), "CallbackCommand": COMMAND, "contenttype": "json",
              "ClientIP": row["client_ip"], "OptPlatform": row["opt_platform"]} | (extra or {})
    assert {name: value for name, value in query.items() if value} == {
        name: value for name, value in wanted.items() if value}, (request, wanted)
    if row["body"]:
        assert request.body == row["body"], (request, row)
        return
    fields = request.json
    if "EventTime" in fields:
        fields["EventTime"] = int(fields["EventTime"])
    assert {name: value for name, value in fields.items() if value != ""} == expected_fields(row, members), request


class Store:
    """The recorded events: the rows and the members by id, and the ids by identity."""

    def __init__(self, one, receiver="a"):
        with contextlib.closing(sqlite3.connect(f"file:{one.database}?mode=ro", uri=True, timeout=20)) as connection:
            connection.row_factory = sqlite3.Row
            self.rows = {row["id"]: dict(row) for row in connection.execute(
                "SELECT * FROM destroyed_group ORDER BY id")}
            self.members = {number: [] for number in self.rows}
            for number, member in connection.execute("SELECT destroyed_group_id, member_account FROM "
                                                     "destroyed_group_member ORDER BY destroyed_group_id, position"):
                self.members[number].append(member)
        self.receiver = receiver
        self.id_of = {event_uid(row, receiver): number for number, row in self.rows.items()}
        assert len(self.id_of) == len(self.rows)


class Ledger:
    """Compares the requests that an endpoint received with the store of a daemon."""

    def __init__(self, one, endpoint, **form):
        """form: the arguments of Request.check_form()."""
        self.store = Store(one)
        self.requests = endpoint.requests()
        self.form = form

    def check(self, interrupted=0, not_accepted=()):
        """Checks all requests, and that every event was accepted. Returns how many times an accepted event was accepted
        again. interrupted: the largest allowed number of such repeats, which is the total number of requests that were
        in flight at the kills; not_accepted: the ids of the events that must not have been accepted."""
        self.check_requests()
        self.check_order(set(not_accepted))
        accepted = [self.store.id_of[request.id] for request in self.requests if request.accepted]
        missing = self.store.rows.keys() - set(not_accepted) - set(accepted)
        assert not missing, f"{len(missing)} events were never accepted, such as {sorted(missing)[:5]}"
        assert not set(accepted) & set(not_accepted)
        repeats = len(accepted) - len(set(accepted))
        assert repeats <= interrupted, f"{repeats} repeats, {interrupted} were in flight"
        return repeats

    def check_requests(self):
        """Asserts that every request is well-formed and carries a recorded event."""
        for request in self.requests:
            request.check_form(**self.form)
            assert request.id in self.store.id_of, request
            number = self.store.id_of[request.id]
            check_content(request, self.store.rows[number], self.store.members[number])

    def check_order(self, not_accepted):
        """Asserts the order within each group: an event is sent only after all earlier events of the group were
        accepted, except those in not_accepted; never while another event of the group is in flight; and never after a
        later one."""
        by_group = {}
        for number, row in self.store.rows.items():
            by_group.setdefault((row["sdk_appid"], row["group_id"]), []).append(number)
        accepted_at, latest, in_flight = {}, {}, {}
        for request in self.requests:
            number = self.store.id_of[request.id]
            row = self.store.rows[number]
            group = (row["sdk_appid"], row["group_id"])
            for earlier in by_group[group][:by_group[group].index(number)]:
                assert earlier in not_accepted or accepted_at.get(earlier, request.place) < request.place, (
                    f"{request} was sent before the event with id {earlier} was accepted")
            assert latest.get(group, number) <= number, f"{request} was sent again after event {latest[group]}"
            latest[group] = number
            if (before := in_flight.get(group)) is not None:
                self._check_ended(before, request)
            in_flight[group] = request
            if request.accepted:
                accepted_at.setdefault(number, request.end_place)

    @staticmethod
    def _check_ended(before, request):
        """Asserts that `before` had ended when `request` arrived. If the client closed the connection or the endpoint
        was killed, the journal may have the end up to SETTLING_S too late: the endpoint notices the close later than
        the client, and a new process records the end of the requests of a killed one."""
        settled = before.how in ("closed", "killed") and before.ended - request.time < SETTLING_S
        assert before.end_place is not None and (before.end_place < request.place or settled), (
            f"{request} was sent while {before} was in flight")


def most_in_flight(requests):
    """Returns the largest number of requests that were in flight at the same time."""
    events = sorted([(request.place, 1) for request in requests] + [(request.end_place, -1) for request in requests])
    now = most = 0
    for _, change in events:
        now += change
        most = max(most, now)
    return most


def wait_delivered(one, endpoint, deadline=60):
    """Waits until every recorded event is accepted."""
    def are_accepted():
        known = {request.id for request in endpoint.requests() if request.accepted}
        return Store(one).id_of.keys() <= known
    daemon.eventually(are_accepted, "every event is accepted", deadline)


def record_by_app(one, app, *group_ids, token=None):
    """Sends a callback of another app for each group. The daemon must answer each with 200."""
    for group_id in group_ids:
        answer = one.post(daemon.event(GroupId=group_id), SdkAppid=app, token=token)
        assert answer.status == 200, answer
