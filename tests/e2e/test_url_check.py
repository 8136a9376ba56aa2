"""Tests the check of the callback URL by the console: a signed request without SdkAppid or CallbackCommand gets OK and
is not recorded, but a body that may be an event never gets OK in this way."""

import re
import time

import pytest

import daemon
from daemon import APP, COMMAND, TOKEN, event, query_string, request, signature

OTHER_APP, OTHER_TOKEN = 1400000002, "another-token"
OPEN_APP = 1400000003
OK = {"ActionStatus": "OK", "ErrorInfo": "", "ErrorCode": 0}
# The documentation does not say what the console sends. Each of these queries lacks SdkAppid, CallbackCommand or both.
ALONE = dict(SdkAppid=None, CallbackCommand=None, contenttype=None, ClientIP=None, OptPlatform=None)
QUERIES = {
    "signature alone": ALONE,
    "no app": dict(SdkAppid=None),
    "no app, other command": dict(SdkAppid=None, CallbackCommand="Group.CallbackAfterNewMemberJoin"),
    "no command": dict(CallbackCommand=None),
    "other app's token": ALONE | dict(token=OTHER_TOKEN),
    "operator's own": ALONE | dict(tenant="a"),
}
BODIES = {
    "empty": b"",
    "white space": b"\r\n",
    "object": b"{}",
    "other command": b'{"CallbackCommand":"Group.CallbackAfterNewMemberJoin","Info":"GroupId"}',
    "list": b"[]",
}
EVENTS = {
    "event": event(),
    "command alone": b'{"CallbackCommand":"%s"}' % COMMAND.encode(),
    "group alone": b'{"GroupId":"g"}',
    "topic": event(CallbackCommand="Group.CallbackAfterTopicDestroyed"),
    "escaped": event().replace(b'"GroupId"', rb'"\u0047roupId"').replace(b'"CallbackCommand"', b'"callbackCommand"'),
    "in a list": b"[" + event() + b"]",
    "in an object": b'{"a":[{"b":' + event() + b"}]}",
    "after a comment": b"// a\n" + event(),
    "not UTF-8": event(Name="X").replace(b"X", b"\xff"),
    "cut": event()[:-1],
    "cut early": event()[:20],
    "twice": event() * 2,
    "with a NUL byte": event() + b"\0",
    "form": b"GroupId=g",
    "not JSON": b"hello",
}


@pytest.fixture(scope="module")
def checked():
    """A running daemon with two apps that have tokens and one app that has none. The daemon must record nothing."""
    apps = {APP: [TOKEN], OTHER_APP: ["an-old-token", OTHER_TOKEN], OPEN_APP: []}
    with daemon.running({"limits": {"body": "16K"}}, apps) as one:
        yield one
        assert one.groups() == [] and one.rejected() == []


@pytest.mark.parametrize("query", QUERIES)
def test_answers_ok(checked, query):
    for body in BODIES.values():
        answer = checked.post(body, **QUERIES[query])
        assert (answer.status, answer.json) == (200, OK), body
    assert checked.post(EVENTS["event"], **QUERIES[query]).json != OK


@pytest.mark.parametrize("body", EVENTS)
@pytest.mark.parametrize("query", ["signature alone", "no command"])
def test_refuses_what_may_be_an_event(checked, query, body):
    answer = checked.post(EVENTS[body], **QUERIES[query])
    assert (answer.status, answer.code) == ((400, 120131) if query == "no command" else (403, 120101))
    assert "not a check of the URL" in answer.json["ErrorInfo"]


@pytest.mark.parametrize("parameters, code", [
    (ALONE | dict(token=None), 120101),
    (ALONE | dict(token="yyyyxxxx"), 120114),
    (ALONE | dict(token=""), 120101),
    (ALONE | signature(at=int(time.time()) - 3600), 120124),
    (ALONE | dict(RequestTime=None), 120121),
    (ALONE | dict(SdkAppid=1400000999), 120103),
    (ALONE | dict(SdkAppid=""), 120103),
    (ALONE | dict(SdkAppid=OTHER_APP), 120114),
    (dict(SdkAppid=None, callbackcommand=COMMAND), 120132),
    (dict(CallbackCommand=""), 120133),
])
def test_refuses_what_is_not_genuine(checked, parameters, code):
    for body in (b"", b"{}", event()):
        assert checked.post(body, **parameters).code == code


def test_an_app_without_token_has_no_url_check(checked):
    for body in (b"", event()):
        assert checked.post(body, SdkAppid=OPEN_APP, CallbackCommand=None).code == 120131
        assert checked.post(body, SdkAppid=OPEN_APP, CallbackCommand=None, token=None).code == 120131


def test_without_any_token_nothing_is_a_url_check(make_daemon):
    one = make_daemon(apps={OPEN_APP: []}).start()
    for token in (TOKEN, None):
        assert one.post(b"", **ALONE | dict(token=token)).code == 120101
        assert one.post(b"", token=token, SdkAppid=OPEN_APP, CallbackCommand=None).code == 120131
    assert "check of the URL" not in one.log


def test_acknowledges_no_event_without_a_command(make_daemon):
    one = make_daemon({"callback": {"other_commands": "acknowledge"}}, {APP: [TOKEN], OPEN_APP: []}).start()
    assert one.post(b"{}", CallbackCommand=None).json == OK
    assert one.post(event(), CallbackCommand=None).code == 120131
    assert one.post(event(), SdkAppid=None, CallbackCommand="Other").code == 120101
    assert one.post(event(), CallbackCommand="Other").json == OK
    assert one.post(event(), SdkAppid=OPEN_APP, CallbackCommand=None).json == OK
    assert one.groups() == [] and one.rejected() == []


# HTTP

def test_keeps_the_connection_open(checked):
    with checked.connect() as connection:
        for _ in range(3):
            answer = connection.answer_to(request(b"", query_string(**ALONE)))
            assert answer.status == 200 and answer.headers.get("connection", "").lower() != "close"


def test_an_event_after_a_url_check_is_recorded(one):
    with one.connect() as connection:
        connection.send(request(b"{}", query_string(**ALONE)) + request(event()))
        assert connection.read_answer().status == connection.read_answer().status == 200
    assert one.group_ids() == ["@TGS#1"]


@pytest.mark.parametrize("header", ["Expect: 100-continue", "Transfer-Encoding: chunked", "Content-Type: text/plain"])
def test_reads_the_body_under_the_ordinary_limits(checked, header):
    fits = b'{"a":"' + b"x" * (16 * 1024 - 8) + b'"}'
    assert checked.post(fits, headers=[header], **ALONE).json == OK
    assert checked.post(fits + b" ", headers=[header], **ALONE).code == 120004


# The log

def check_lines(one):
    return [line for line in one.lines if "check of the URL" in line and "refused" not in line]


def test_logs_the_parameters_without_values(one):
    query = query_string(**ALONE | {"tenant": "secret"}) + "&odd<name>'\"%0a=secret&" + "n" * 60 + "&a/b"
    assert one.post(b"{} ", query=query).json == OK
    (line,) = daemon.eventually(lambda: check_lines(one), "the line")
    assert re.search(rf"<6>answered OK to a check of the URL from 127\.0\.0\.1: it is signed with the token of app {APP}, "
                     r"the parameters are Sign, RequestTime, tenant, odd\?name\?\?\?\?0a, n{32}\.\.\., a\?b, "
                     r"and the body has 3 bytes$", line), line
    assert "secret" not in one.log


def test_limits_the_log_lines_of_a_flood(one):
    with one.connect() as connection:
        for i in range(100):
            query = query_string(**ALONE) + "".join(f"&parameter-{i}-{name}" for name in range(90))
            assert connection.answer_to(request(b"", query)).status == 200
    lines = daemon.eventually(lambda: check_lines(one), "the line")
    assert len(lines) < 10 and all(len(line) < 500 for line in lines)


def test_logs_why_an_event_is_refused(one):
    assert one.post(event(), **ALONE).status == 403
    daemon.eventually(lambda: "refused sdk_appid_missing from 127.0.0.1: The body has an event" in one.log, "the line")
    assert check_lines(one) == []
