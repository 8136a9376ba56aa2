"""Tests that `deliver` sends every recorded event to the endpoint of an application, as the service would have sent it,
until the endpoint accepts the event."""

import itertools
import json
import time

import pytest

import daemon
from daemon import APP, TOKEN, event
from delivery import (Ledger, Store, deliver_to, event_uid, most_in_flight, record_by_app, wait_delivered,
                      write_secret)
from endpoint import FAIL, OK, SECRET, late, status

HARD = "\" \\ / \u0001 \n \t \x7f \u0085 \u2028 é 张三 😀 {}','"
SAMPLE = (daemon.SAMPLES / "as-documented.txt").read_bytes()  # with comments
OTHER_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def member_list(*names):
    return [{"Member_Account": name} for name in names]


def various():
    """Returns bodies without some of the fields, and bodies with unusual values."""
    return [event(), event(GroupId="community", Type="Community", MemberList=None),
            event(GroupId="empty", MemberList=[]), event(GroupId="untimed", EventTime=None),
            event(GroupId="bare", Owner_Account=None, Name=None, Type=None, MemberList=None),
            event(GroupId="operated", Operator_Account="administrator"),
            event(GroupId="cut", Name="cut: @").replace(b"@", b"\xe5\xbc"),
            event(GroupId="%2F..//'\";&?#", Name=HARD, MemberList=member_list(HARD, "b", "a"))]


# The request

@pytest.mark.parametrize("keep_body", ["no", "yes"])
def test_sends_each_event_as_the_service_does(fresh, endpoint, deliver, keep_body):
    """Ledger.check() compares query, headers and body of every request with the store."""
    deliver_to(fresh, endpoint, {"store": {"keep_body": keep_body}})
    fresh.start()
    bodies = various() + [SAMPLE]
    for body in bodies:
        assert fresh.post(body).status == 200
    fresh.record("elsewhere")
    assert fresh.post(event(GroupId="web"), OptPlatform="a&b=c d%", ClientIP="2001:db8::1").status == 200
    assert fresh.post(event(GroupId="no platform"), OptPlatform=None, ClientIP=None).status == 200
    deliver(fresh)
    wait_delivered(fresh, endpoint)
    assert Ledger(fresh, endpoint).check() == 0
    assert {request.path for request in endpoint.requests()} == {"/callback"}
    kept = [request.body in bodies for request in endpoint.requests()]
    assert kept.count(True) >= len(bodies) if keep_body == "yes" else kept.count(True) >= 1


def test_another_receiver_records_the_same_event(make_daemon, deliver):
    """The endpoint is a second imcallbackd. It expects the callbacks of the service, so it accepts the requests of
    deliver only if they have the same form."""
    one, other = make_daemon(), make_daemon()
    other.start()
    one.write_config({"forward": {"receiver": "a"}, "deliver": {
        "url": f"https://127.0.0.1:{other.port}/", "ca_file": other.directory / "certificate.pem",
        "state_file": one.directory / "state", "admin_port": 0}})
    one.start()
    for body in various():
        assert one.post(body).status == 200
    deliver(one)
    daemon.eventually(lambda: len(other.groups()) == len(various()), "every event")
    left_out = ("id", "received_at_ms", "remote_address", "body")
    rows = [sorted(tuple(value for name, value in row.items() if name not in left_out) for row in each.groups())
            for each in (one, other)]
    assert str(rows[0]) == str(rows[1])
    for group in one.group_ids():
        assert one.members(group) == other.members(group)
    assert other.rejected() == []


def test_adds_its_parameters_to_those_of_the_url(fresh, endpoint, deliver):
    deliver_to(fresh, endpoint, url=endpoint.url("/a%20path/x.php?tenant=a%26b"))
    fresh.start()
    fresh.record("g")
    deliver(fresh)
    (request,) = endpoint.wait_requests(1)
    assert request.path == "/a%20path/x.php" and request.query["tenant"] == "a&b"
    assert request.query["SdkAppid"] == str(APP)
    request.check_form()


def test_signs_with_each_secret(fresh, endpoint, deliver):
    deliver_to(fresh, endpoint, secret_file=write_secret(fresh, SECRET))
    fresh.start()
    fresh.record("one secret")
    deliver(fresh).wait_ready()
    endpoint.wait_accepted("one secret")
    Ledger(fresh, endpoint, secrets=[SECRET]).check()
    (before,) = endpoint.requests()

    deliver_to(fresh, endpoint, secret_file=write_secret(fresh, SECRET, OTHER_SECRET), state_file=fresh.directory / "s2")
    deliver(fresh)
    (_, after) = endpoint.wait_requests(2)
    after.check_form(secrets=[SECRET, OTHER_SECRET])
    assert before.id == after.id


def test_signs_for_the_app_of_the_event(make_daemon, endpoint, deliver):
    """The request for an app without a token has neither Sign nor RequestTime. If the app has two tokens, one of them
    signs."""
    one = make_daemon()
    apps = {APP: [TOKEN], 1400000002: [], 1400000003: ["old-token-of-3", "new-token-of-3"]}
    deliver_to(one, endpoint, apps=apps)
    one.start()
    one.record("g1")
    record_by_app(one, 1400000002, "g2")
    record_by_app(one, 1400000003, "g3", token="old-token-of-3")
    deliver(one)
    endpoint.wait_accepted("g1", "g2", "g3")
    for request in endpoint.requests():
        app = int(request.query["SdkAppid"])
        assert request.group == f"g{app % 10}"
        request.check_form(tokens=apps[app])


def test_identifies_an_event_as_forward_does(fresh, endpoint, deliver):
    """webhook-id is the event_uid of `forward`, which depends on the receiver's name if the event has no time."""
    deliver_to(fresh, endpoint, {"forward": {"receiver": "b-7"}})
    fresh.start()
    fresh.record("timed")
    fresh.record("untimed", EventTime=None)
    deliver(fresh)
    endpoint.wait_accepted("timed", "untimed")
    store = Store(fresh)
    assert {request.id for request in endpoint.requests()} == {
        event_uid(row, "b-7") for row in store.rows.values()}
    assert Store(fresh, "other").id_of.keys() != store.id_of.keys()


def test_delivers_large_events(fresh, endpoint, deliver):
    deliver_to(fresh, endpoint)
    fresh.start()
    members = member_list(*(f"member-{number}-{'x' * 80}" for number in range(10_000)))
    fresh.record("large", MemberList=members)
    fresh.record("small")
    deliver(fresh)
    endpoint.wait_accepted("large", "small")
    Ledger(fresh, endpoint).check()
    (request,) = endpoint.requests("large")
    assert request.json["MemberList"] == members


def test_keeps_connections_open(fresh, endpoint, deliver):
    deliver_to(fresh, endpoint, in_flight=4)
    fresh.start()
    assert fresh.load(connections=20, total=400)[0] == 0
    deliver(fresh)
    wait_delivered(fresh, endpoint)
    requests = endpoint.requests()
    assert len(requests) == 400
    assert 1 < len({request.connection for request in requests}) <= 4


# Acceptance

ACCEPTED = [
    OK, status(200), status(200, "thank you"), status(200, "{"), status(200, "[]"), status(200, '"FAIL"'),
    status(200, '{"ActionStatus":"OK","ErrorInfo":"odd","ErrorCode":17}'), status(200, '{"status":"FAIL"}'),
    status(200, '{"x":{"ActionStatus":"FAIL"}}'), status(201), status(202, "queued"), status(204), status(299),
    late(0.3), OK | {"close": True},
]
RETRIED = [FAIL, FAIL | {"status": 201}, FAIL | {"headers": {"Content-Type": "text/html"}},
           status(200, ' {"ErrorCode":1, "ActionStatus" : "FAIL"}\n'), FAIL | {"close": True}] + [
    status(number) for number in (300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 410, 413, 415,
                                  422, 425, 429, 500, 501, 502, 503, 504, 599)]


def test_accepts_2xx_unless_the_body_says_fail(fresh, endpoint, deliver):
    """Events that fail alternate with events that are accepted, so deliver does not consider the endpoint itself to be
    at fault."""
    scripts = [[answer, OK] for pair in itertools.zip_longest(ACCEPTED, RETRIED, fillvalue=OK) for answer in pair]
    groups = {f"g{number}": script for number, script in enumerate(scripts)}
    endpoint.answer(groups=groups)
    deliver_to(fresh, endpoint)
    fresh.start()
    fresh.record(*groups)
    deliver(fresh)
    endpoint.wait_accepted(*groups, deadline=120)
    tries = {group: len(endpoint.requests(group)) for group in groups}
    wrong = [(script[0], tries[group]) for group, script in groups.items()
             if tries[group] != (1 if script[0] in ACCEPTED else 2)]
    assert not wrong
    assert Ledger(fresh, endpoint).check() == 0


def test_repeats_the_same_request_with_a_new_time(fresh, endpoint, deliver):
    endpoint.answer(status(500), status(500), OK)
    deliver_to(fresh, endpoint, secret_file=write_secret(fresh, SECRET))
    fresh.start()
    fresh.record("g")
    deliver(fresh)
    endpoint.wait_accepted("g")
    requests = endpoint.requests()
    assert len(requests) == 3 and len({request.id for request in requests}) == 1
    assert len({request.body for request in requests}) == 1
    assert len({request.headers["webhook-timestamp"] for request in requests}) == 3
    assert len({request.query["Sign"] for request in requests}) == 3
    Ledger(fresh, endpoint, secrets=[SECRET]).check()


@pytest.mark.timing
def test_waits_longer_after_each_failure(fresh, endpoint, deliver):
    endpoint.answer(groups={"bad": [status(500)] * 4 + [OK]})
    deliver_to(fresh, endpoint)
    fresh.start()
    fresh.record("bad")
    deliver(fresh)
    requests = endpoint.wait_requests(5, deadline=120)
    pauses = [after.time - before.ended for before, after in zip(requests, requests[1:])]
    for number, pause in enumerate(pauses):
        assert 0.4 * 2 ** number <= pause <= 2 ** number * 1.6 + 1, pauses


@pytest.mark.timing
@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_waits_as_long_as_the_endpoint_asks(fresh, endpoint, deliver, code, form):
    asked = "4" if form == "seconds" else time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 10))
    endpoint.answer(status(code, Retry_After=asked), OK)
    deliver_to(fresh, endpoint)
    fresh.start()
    fresh.record("g")
    deliver(fresh)
    first, second = endpoint.wait_requests(2)
    if form == "seconds":
        assert 4 <= second.time - first.ended <= 12
    else:
        assert time.mktime(time.strptime(asked, "%a, %d %b %Y %H:%M:%S GMT")) - time.timezone <= second.time + 1


def test_does_not_follow_redirects(fresh, make_endpoint, endpoint, deliver):
    other = make_endpoint()
    endpoint.answer(status(302, Location=other.url()), status(307, Location=endpoint.url("/other")), OK)
    deliver_to(fresh, endpoint)
    fresh.start()
    fresh.record("g")
    deliverer = deliver(fresh)
    endpoint.wait_accepted("g")
    assert "redirects are not followed" in deliverer.log, deliverer.log
    assert other.requests() == []
    assert [request.path for request in endpoint.requests()] == ["/callback"] * 3


# Order

def test_sends_strictly_in_order_with_one_in_flight(fresh, endpoint, deliver):
    groups = [f"g{number}" for number in range(30)]
    endpoint.answer(groups={"g3": [status(500), OK], "g7": [FAIL, OK], "g9": [late(0.1)]})
    deliver_to(fresh, endpoint, in_flight=1)
    fresh.start()
    fresh.record(*groups)
    deliver(fresh)
    wait_delivered(fresh, endpoint)
    assert endpoint.accepted() == groups
    assert most_in_flight(endpoint.requests()) == 1


def test_keeps_the_order_within_a_group_only(fresh, endpoint, deliver):
    """Ledger.check_order() asserts the order within each group. An event that fails delays only the events of its own
    group."""
    endpoint.answer(late(0.02), groups={"load-1-0": [status(500), status(400), OK]})
    deliver_to(fresh, endpoint, in_flight=8)
    fresh.start()
    assert fresh.load(connections=8, total=120, groups=12, seed=1)[0] == 0
    deliver(fresh)
    wait_delivered(fresh, endpoint)
    Ledger(fresh, endpoint).check()
    requests = endpoint.requests()
    assert 2 <= most_in_flight(requests) <= 8
    assert endpoint.accepted()[-1] == "load-1-0"
    assert len(requests) == 122


def test_the_same_group_of_two_apps_is_two_groups(make_daemon, endpoint, deliver):
    one = make_daemon()
    deliver_to(one, endpoint, apps={APP: [TOKEN], 1400000002: []})
    endpoint.answer(status(500), status(500), OK)
    one.start()
    one.record("g")
    record_by_app(one, 1400000002, "g")
    deliver(one)
    requests = endpoint.wait_requests(2)
    assert len({request.query["SdkAppid"] for request in requests[:2]}) == 2
    wait_delivered(one, endpoint)


def test_delivers_what_arrives_while_it_runs(fresh, endpoint, deliver):
    """Each event is accepted within 10 s, and no event is sent twice."""
    deliver_to(fresh, endpoint)
    fresh.start()
    deliver(fresh)
    for number in range(20):
        fresh.record(f"g{number}")
        endpoint.wait_accepted(f"g{number}", deadline=10)
    assert Ledger(fresh, endpoint).check() == 0
    assert len(endpoint.requests()) == 20


def test_delivers_an_existing_store_while_the_daemon_is_stopped(fresh, endpoint, deliver):
    fresh.start()
    assert fresh.load(connections=20, total=500)[0] == 0
    fresh.stop()
    deliver_to(fresh, endpoint)
    deliver(fresh)
    wait_delivered(fresh, endpoint)
    assert Ledger(fresh, endpoint).check() == 0


def test_start_at_now_leaves_out_what_was_recorded_before(fresh, endpoint, deliver):
    """The option --start-at is refused once the state file exists."""
    deliver_to(fresh, endpoint)
    fresh.start()
    fresh.record("old0", "old1")
    deliverer = deliver(fresh, arguments=["--start-at", "now"])
    deliverer.wait_ready()
    fresh.record("new0")
    endpoint.wait_accepted("new0")
    deliverer.stop()
    fresh.record("new1")
    done = daemon.run(daemon.BINARY, "deliver", "-c", fresh.config, "--start-at", "now")
    assert done.returncode == 1 and str(fresh.directory / "state") in done.stderr, done
    deliver(fresh)
    endpoint.wait_accepted("new1")
    assert endpoint.accepted() == ["new0", "new1"]
    assert json.dumps([request.group for request in endpoint.requests()]).count("old") == 0
