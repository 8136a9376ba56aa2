"""Tests the answer to each kind of request: HTTP status, ErrorCode, and what the daemon keeps of the request."""

import json
import re
import socket
import ssl
import time

import pytest

import daemon
from daemon import APP, COMMAND, TOKEN, event, padded, query_string, request, signature

OTHER_APP = 1400000002
OPEN_APP = 1400000003
OLD_TOKEN, NEW_TOKEN = "the-old-one", "the-new-one"
BODY_LIMIT = 16 * 1024


@pytest.fixture(scope="module")
def apps():
    """A running daemon with three apps: one with a single token, one with two tokens, as during a rotation, and one
    without a token."""
    with daemon.running({"limits": {"body": "16K"}, "listen": {"path": "/callback"}},
                        {APP: [TOKEN], OTHER_APP: [OLD_TOKEN, NEW_TOKEN], OPEN_APP: []}) as one:
        yield one


# Requests that are refused because of their query. The daemon keeps nothing of these requests. The unit tests have more
# cases.

SIGN = signature()["Sign"]
REFUSED_QUERIES = {
    "no app": (dict(SdkAppid=None), 403, 120101),
    "app twice": (dict(sdkappid=APP), 403, 120102),
    "app of others": (dict(SdkAppid=1400000999), 403, 120103),
    "app that overflows into ours": (dict(SdkAppid=2**64 + APP), 403, 120103),
    "no sign": (dict(Sign=None), 403, 120111),
    "sign twice": (dict(sign=SIGN), 403, 120112),
    "short sign": (dict(Sign=SIGN[:-1]), 403, 120113),
    "wrong sign": (dict(Sign="0" * 64), 403, 120114),
    "other token's sign": (signature("yyyyxxxx"), 403, 120114),
    "no time": (dict(RequestTime=None), 403, 120121),
    "time twice": (dict(requesttime=int(time.time())), 403, 120122),
    "time of no digits": (signature(at="now"), 403, 120123),
    "time too old": (signature(at=int(time.time()) - 3600), 403, 120124),
    "time in the future": (signature(at=int(time.time()) + 3600), 403, 120124),
    "time in ms": (signature(at=int(time.time() * 1000) % 10**11), 403, 120124),
    "no command": (dict(CallbackCommand=None), 400, 120131),
    "command twice": (dict(callbackcommand=COMMAND), 400, 120132),
    "other command": (dict(CallbackCommand="Group.CallbackAfterNewMemberJoin"), 400, 120133),
    "wrong sign on another command": (dict(CallbackCommand="Other", Sign="0" * 64), 403, 120114),
}


@pytest.mark.parametrize("case", REFUSED_QUERIES)
def test_refuses_query_and_keeps_nothing(refusing, case):
    parameters, status, code = REFUSED_QUERIES[case]
    answer = refusing.post(**parameters)
    assert answer.status == status
    assert code is None or answer.code == code, answer
    assert refusing.groups() == [] and refusing.rejected() == []


@pytest.mark.parametrize("seconds", [-50, 50])
def test_accepts_request_time_inside_the_window(shared, seconds):
    assert shared.post(event(GroupId="window"), **signature(at=int(time.time()) + seconds)).status == 200


@pytest.mark.parametrize("seconds, word", [(-70, "behind"), (70, "ahead")])
def test_refuses_request_time_outside_the_window(one, seconds, word):
    """With a wrong clock the daemon refuses every callback, so the answer and the log state the difference."""
    answer = one.post(**signature(at=int(time.time()) + seconds))
    assert (answer.status, answer.code) == (403, 120124)
    difference = rf"\b(69|70|71) s {word}"
    assert re.search(difference, answer.json["ErrorInfo"])
    daemon.eventually(lambda: re.search(r"RequestTime is (69|70|71) s", one.log), "a line in the log")


def test_request_time_window_is_configurable(make_daemon):
    one = make_daemon({f"app {APP}": {"request_time_window": "2h"}}).start()
    assert one.post(**signature(at=int(time.time()) - 7000)).status == 200
    assert one.post(**signature(at=int(time.time()) - 7400)).code == 120124


# Apps and tokens

def test_accepts_only_the_tokens_of_the_app(apps):
    def post(app, token):
        return apps.post(event(GroupId=f"{app}-{token}"), path="/callback", SdkAppid=app, token=token)

    assert post(APP, TOKEN).status == 200
    assert post(APP, OLD_TOKEN).code == 120114
    assert post(OTHER_APP, OLD_TOKEN).status == 200
    assert post(OTHER_APP, NEW_TOKEN).status == 200
    assert post(OTHER_APP, TOKEN).code == 120114
    assert post(OTHER_APP, OLD_TOKEN + NEW_TOKEN).code == 120114
    assert post(OTHER_APP, None).code == 120111
    assert post(OPEN_APP, None).status == 200
    assert apps.group_ids("14") == [
        f"{APP}-{TOKEN}", f"{OTHER_APP}-{OLD_TOKEN}", f"{OTHER_APP}-{NEW_TOKEN}", f"{OPEN_APP}-None"]


def test_records_the_same_group_of_two_apps_twice(apps):
    for app, token in ((APP, TOKEN), (OTHER_APP, NEW_TOKEN)):
        assert apps.post(event(GroupId="both"), path="/callback", SdkAppid=app, token=token).status == 200
    assert [row["sdk_appid"] for row in apps.groups("both")] == [APP, OTHER_APP]


# Unusual queries that are valid

GOOD_QUERIES = {
    "names in lower case": lambda: query_string().lower().replace(COMMAND.lower(), COMMAND),
    "names of other editions": lambda: query_string(
        SdkAppid=None, SDKAppID=APP, Sign=None, RequestTime=None, sign=signature()["Sign"],
        requesttime=signature()["RequestTime"]),
    "names alone": lambda: query_string(ClientIP=None, OptPlatform=None) + "&ClientIP&OptPlatform",
    "only what is needed": lambda: query_string(ClientIP=None, OptPlatform=None, contenttype=None),
    "operator's own": lambda: "a=1&" + query_string() + "&tenant=a&tenant=b&=&&",
    "sorted": lambda: "&".join(sorted(query_string().split("&"))),
    "reversed": lambda: "&".join(reversed(query_string().split("&"))),
    "unknown platform": lambda: query_string(OptPlatform="Unkown", contenttype="JSON"),
    "escaped value": lambda: query_string().replace(f"SdkAppid={APP}", f"SdkAppid=%31{str(APP)[1:]}"),
}


@pytest.mark.parametrize("case", GOOD_QUERIES)
def test_accepts_query(shared, case):
    group_id = f"query {case}"
    assert shared.post(event(GroupId=group_id), query=GOOD_QUERIES[case]()).status == 200
    (row,) = shared.groups(group_id)
    assert row["sdk_appid"] == APP
    assert (row["client_ip"], row["opt_platform"]) == (
        ("", "") if case in ("names alone", "only what is needed") else
        ("203.0.113.7", "Unkown") if case == "unknown platform" else
        ("203.0.113.7", "restapi") if case == "names in lower case" else ("203.0.113.7", "RESTAPI"))


# Other commands

def test_acknowledges_other_commands_if_configured(make_daemon):
    one = make_daemon({"callback": {"other_commands": "acknowledge"}}).start()
    for command in ("Group.CallbackBeforeSendMsg", "Group.CallbackAfterTopicDestroyed", "C2C.CallbackAfterSendMsg"):
        answer = one.post(b'{"CallbackCommand":"%s"}' % command.encode(), CallbackCommand=command)
        assert (answer.status, answer.json) == (200, {"ActionStatus": "OK", "ErrorInfo": "", "ErrorCode": 0})
    assert one.post(CallbackCommand="Group.CallbackBeforeSendMsg", Sign="0" * 64).code == 120114
    assert one.post(CallbackCommand=None).status in (200, 400)
    assert one.groups() == [] and one.rejected() == []
    assert one.post().status == 200
    assert len(one.groups()) == 1


def test_refuses_a_body_of_another_command(refusing):
    answer = refusing.post(event(CallbackCommand="Group.CallbackAfterNewMemberJoin"))
    assert (answer.status, answer.code) == (400, 120134)
    assert refusing.groups() == [] and refusing.rejected() == []


# HTTP

@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "post", "FOO"])
def test_refuses_other_methods(shared, method):
    answer = shared.post(method=method, body=b"" if method in ("GET", "OPTIONS") else None)
    assert (answer.status, answer.code, answer.headers["allow"]) == (405, 120003, "POST")


def test_answer_to_head_has_no_body(shared):
    with shared.connect() as connection:
        connection.send(f"HEAD /?{query_string()} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = connection.read_head().lower()
        assert head.startswith(b"http/1.1 405 ") and b"\r\nallow: post" in head
        assert connection.is_closed()


@pytest.mark.parametrize("path", ["/other", "//", "/index.html", "/%2e", "/./"])
def test_refuses_other_paths(shared, path):
    answer = shared.post(path=path)
    assert (answer.status, answer.code) == (404, 120002)


@pytest.mark.parametrize("path, status", [("/callback", 200), ("/", 404), ("/callback/", 404), ("/callbacks", 404),
                                          ("/Callback", 404), ("/call%62ack", 404)])
def test_accepts_only_the_configured_path(apps, path, status):
    assert apps.post(event(GroupId="path"), path=path).status == status


@pytest.mark.parametrize("length, status", [(BODY_LIMIT - 1, 200), (BODY_LIMIT, 200), (BODY_LIMIT + 1, 413),
                                            (BODY_LIMIT * 4, 413), (BODY_LIMIT * 100, 413)])
@pytest.mark.parametrize("header", ["Expect:", "Transfer-Encoding: chunked", "Expect: 100-continue"])
def test_enforces_the_body_limit(apps, length, status, header):
    group_id = f"{header} {length}"
    answer = apps.post(padded(event(GroupId=group_id), length), path="/callback", headers=[header])
    assert answer.status == status
    assert answer.code == (0 if status == 200 else 120004)
    assert len(apps.groups(group_id)) == (status == 200)


@pytest.mark.parametrize("encoding, status", [("gzip", 415), ("br", 415), ("deflate, gzip", 415), ("identity", 200)])
def test_refuses_content_encoding(shared, encoding, status):
    answer = shared.post(event(GroupId="encoded"), headers=[f"Content-Encoding: {encoding}"])
    assert (answer.status, answer.code) == (status, 0 if status == 200 else 120005)


@pytest.mark.parametrize("content_type", ["Content-Type: text/plain", "Content-Type:", "Content-Type: x"])
def test_ignores_the_content_type(shared, content_type):
    assert shared.post(event(GroupId="typed"), headers=[content_type]).status == 200


def test_accepts_http_1_0(shared):
    answer = shared.post(event(GroupId="1.0"), curl=["--http1.0"])
    assert answer.status == 200
    assert len(shared.groups("1.0")) == 1


def test_reads_nothing_after_a_refusal(shared):
    with shared.connect() as connection:
        connection.send(request(event(), query_string(Sign="0" * 64)) + request(event(GroupId="after")))
        assert connection.read_answer().status == 403
        assert connection.is_closed()
    assert shared.groups("after") == []


def test_keeps_the_connection_open(shared):
    with shared.connect() as connection:
        for i in range(5):
            answer = connection.answer_to(request(event(GroupId=f"kept-{i}")))
            assert answer.status == 200 and answer.headers.get("connection", "").lower() != "close"
        assert connection.answer_to(request(event(GroupId="kept-5"), headers=["Connection: close"])).status == 200
        assert connection.is_closed()
    assert len(shared.group_ids("kept")) == 6


def test_does_not_answer_plain_http(shared):
    with socket.create_connection(("127.0.0.1", shared.port), timeout=20) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert not plain.recv(4096).startswith(b"HTTP/")
    assert shared.post(event(GroupId="after plain")).status == 200


def test_a_client_that_disconnects_disturbs_no_other(shared):
    """The client disconnects during its request, or before it reads the answer."""
    whole = request(event(GroupId="left"))
    for length in (0, 1, 20, len(whole) - 1):
        with shared.connect() as connection:
            connection.send(whole[:length])
    with shared.connect() as connection:
        connection.send(whole)
        daemon.eventually(lambda: shared.groups("left"), "the event of the client that did not read the answer")
    assert shared.post(event(GroupId="after left")).status == 200


# Callbacks that are kept although they are refused

def test_keeps_a_rejected_callback(one):
    body = b'{"CallbackCommand":"' + COMMAND.encode() + b'","GroupId":7}'
    before = time.time() * 1000
    answer = one.post(body)
    assert (answer.status, answer.code) == (400, 120203)
    assert "GroupId" in answer.json["ErrorInfo"]
    (row,) = one.rejected()
    assert before - 1000 <= row.pop("received_at_ms") <= time.time() * 1000
    assert "GroupId" in row.pop("reason")
    assert row == {"id": 1, "remote_address": "127.0.0.1", "sdk_appid": APP, "callback_command": COMMAND, "body": body}
    assert one.groups() == []


def test_answers_are_compact_json(shared):
    for answer in (shared.post(event(GroupId="form")), shared.post(Sign="0" * 64)):
        assert list(json.loads(answer.text)) == ["ActionStatus", "ErrorInfo", "ErrorCode"]
        assert int(answer.headers["content-length"]) == len(answer.text.encode())


def test_certificate_is_not_trusted_by_default(shared):
    """The other tests verify the certificate, so this test checks that verification can fail."""
    with pytest.raises(ssl.SSLCertVerificationError):
        shared.connect(ssl.create_default_context())
