"""Tests nginx, HAProxy and Caddy with the files of conf/proxy: which requests reach imcallbackd, which ones reach the
application, and what a proxy changes in them."""

import random
import re
import urllib.parse

import pytest

import daemon
import reverse_proxies
from reverse_proxies import CLIENT, OTHER_QUERY

EVENT = "CallbackCommand=Group.CallbackAfterGroupDestroyed"
OTHER = "CallbackCommand=Group.CallbackBeforeSendMsg"


@pytest.fixture(scope="module", params=reverse_proxies.HTTP_PROXIES)
def setup(request):
    with reverse_proxies.running(reverse_proxies.HTTP_PROXIES[request.param]) as setup:
        yield setup


# The patterns

def patterns(name):
    """Returns the patterns by which the shipped file of this proxy recognizes events."""
    return re.findall(r"""["'`]~?((?:\(\?i\))?\^[^"'`]+)["'`]""",
                      (reverse_proxies.SHIPPED / reverse_proxies.HTTP_PROXIES[name].file).read_text())


def is_event(query):
    """Returns whether one of the parameters is the command of an event, as imcallbackd reads the query."""
    pairs = [pair.partition("=") for pair in query.split("&")]
    return any(urllib.parse.unquote_to_bytes(name).lower() == b"callbackcommand" and
               urllib.parse.unquote_to_bytes(value) == daemon.COMMAND.encode() for name, _, value in pairs)


def random_query(chance):
    """Returns a query with one to four parameters that are similar to a command, each in a random encoding."""
    def encoded(text, share):
        return "".join(chance.choice([f"%{ord(c):02x}", f"%{ord(c):02X}"]) if chance.random() < share else c
                       for c in text)

    def pair():
        name = chance.choice(["CallbackCommand", "callbackcommand", "CallbackCommand", "Callback", "x", "x?", ""])
        value = chance.choice([daemon.COMMAND, daemon.COMMAND, "Group.CallbackBeforeSendMsg", daemon.COMMAND + "x",
                               "a&" + EVENT, "?" + EVENT, ""])
        share = chance.choice([0, 0, 0, 0.05, 1])
        return encoded(name, share) + chance.choice(["=", "=", "=", "", "=="]) + encoded(value, share)

    return "&".join(pair() for _ in range(chance.randint(1, 4)))


def test_all_files_have_the_same_patterns():
    found = [patterns(name) for name in reverse_proxies.HTTP_PROXIES]
    assert len(found[0]) == 2 and found == [found[0]] * 3, found


def test_patterns_find_each_event():
    plain, encoded = map(re.compile, patterns("nginx"))
    chance = random.Random(1)
    events = 0
    for _ in range(20_000):
        query = random_query(chance)
        target = chance.choice(["/", "/a%2eb", "/CallbackCommand=%2e/"]) + "?" + query
        events += is_event(query)
        assert not is_event(query) or plain.search(target) or encoded.search(target), target
        if "%" not in query:
            assert bool(plain.search(target)) == is_event(query) and not encoded.search(target), target
    assert 5_000 < events < 15_000
    for target in ("/", "/?", "/" + EVENT, "/&" + EVENT, f"/a&{EVENT}/?a=1", "/%2e%41"):
        assert not plain.search(target) and not encoded.search(target), target


# Routing

@pytest.mark.parametrize("query, outcome", [
    # imcallbackd reads each of these queries as an event.
    (EVENT, "recorded"),
    ("tenant=a&" + EVENT + "&contenttype=json&ClientIP=2001%3Adb8%3A%3A1&OptPlatform=iPad", "recorded"),
    ("callbackcommand=Group.CallbackAfterGroupDestroyed", "recorded"),
    ("CallbackCommand=Group%2ECallbackAfterGroupDestroyed", "recorded"),
    ("CallbackCommand=Group%2eCallbackAfterGroupDestroyed", "recorded"),
    ("CallbackCommand=%47roup.CallbackAfterGroupDestroyed", "recorded"),
    ("CallbackCommand=Group.CallbackAfterGroupDestroye%64", "recorded"),
    ("CallbackCommand=" + "".join(f"%{ord(c):02x}" for c in daemon.COMMAND), "recorded"),
    ("%43allbackCommand=Group.CallbackAfterGroupDestroyed", "recorded"),
    ("Callback%63omman%64=Group.Callback%41fterGroupDestroyed", "recorded"),
    # imcallbackd refuses these queries, because parsers could read them in different ways, or because the name or the
    # value of CallbackCommand contains percent-encoding and does not decode to an event.
    (EVENT + "&" + EVENT, "refused"),
    (EVENT + "&" + OTHER, "refused"),
    (OTHER + "&" + EVENT, "refused"),
    (OTHER + "&callbackcommand=Group.CallbackAfterGroupDestroyed", "refused"),
    (OTHER + "&CallbackCommand=Group%2eCallbackAfterGroupDestroyed", "refused"),
    (OTHER + "&Callback%43ommand=Group.CallbackAfterGroupDestroyed", "refused"),
    (EVENT + "&CallbackCommand", "refused"),
    ("CallbackCommand&" + EVENT, "refused"),
    (EVENT + f"&SdkAppid={daemon.APP}", "refused"),
    (EVENT + f"&sdkappid={daemon.APP}", "refused"),
    (EVENT + f"&S%64kAppid={daemon.APP}", "refused"),
    ("CallbackCommand=Group.CallbackAfterGroupDestroyed%00", "refused"),
    ("CallbackCommand=Group.CallbackAfterGroupDestroyed%20", "refused"),
    ("CallbackCommand=Group.CallbackAfterGroupDestroyed%2", "refused"),
    ("CallbackCommand=Group.CallbackAfterGroupDestroyed%zz", "refused"),
    ("CallbackCommand%00=Group.CallbackAfterGroupDestroyed", "refused"),
    ("CallbackCommand=Group%2ECallbackBeforeSendMsg", "refused"),
    # No parser reads these queries as an event.
    (OTHER, "application"),
    ("", "application"),
    ("contenttype=json", "application"),
    ("CallbackCommand", "application"),
    ("CallbackCommand=", "application"),
    (OTHER + "&" + OTHER, "application"),
    ("CallbackCommand=Group.CallbackAfterTopicDestroyed", "application"),
    ("CallbackCommand=Group.CallbackAfterGroupDestroyedX", "application"),
    ("CallbackCommand=XGroup.CallbackAfterGroupDestroyed", "application"),
    ("CallbackCommand=GroupXCallbackAfterGroupDestroyed", "application"),
    ("CallbackCommand=group.callbackaftergroupdestroyed", "application"),
    ("XCallbackCommand=Group.CallbackAfterGroupDestroyed", "application"),
    ("CallbackCommandX=Group.CallbackAfterGroupDestroyed", "application"),
    ("CallbackCommand==Group.CallbackAfterGroupDestroyed", "application"),
    ("Group.CallbackAfterGroupDestroyed", "application"),
    (OTHER + "&note=" + EVENT, "application"),
    (OTHER + "&note=" + urllib.parse.quote("&" + EVENT, ""), "application"),
    (OTHER + "&note=?" + EVENT, "application"),
    (OTHER + "&note=%41%2e&%E4%BD%A0=1&ids%5B0%5D=1", "application"),
])
def test_routes_each_query(setup, query, outcome):
    """The test adds SdkAppid and a signature to the query."""
    query = "&".join(filter(None, [f"SdkAppid={daemon.APP}", query, *map("=".join, daemon.signature().items())]))
    before = len(setup.one.groups())
    answer = setup.proxy.send_event(daemon.event(GroupId=f"query-{query}"), query)
    expected = {"recorded": (200, 0), "application": (202, 0)}.get(outcome, (answer.status, answer.code))
    assert (answer.status, answer.code) == expected, answer
    if outcome == "refused":
        assert 400 <= answer.status < 500 and answer.code > 0, answer
    assert len(setup.one.groups()) == before + (outcome == "recorded")
    assert len(setup.application.requests) == (outcome == "application")
    setup.application.requests.clear()


@pytest.mark.parametrize("target", ["/other", "//", "/#", "/?#&", "/?%23&", "/?a=1#&", "https://localhost/?", "/%00?"])
def test_event_at_another_target_never_reaches_the_application(setup, target):
    recorded = len(setup.one.groups())
    answer = setup.proxy.send(f"{target}{'' if '?' in target else '?'}{daemon.query_string()}",
                              daemon.event(GroupId=f"target-{target}"))
    assert answer.status == 200 or 400 <= answer.status < 500, answer
    assert len(setup.one.groups()) == recorded + (answer.status == 200)
    assert setup.application.requests == []


# Requests as they arrive

@pytest.mark.parametrize("target", [
    "/?" + OTHER_QUERY,
    "/a/b?" + OTHER_QUERY + "&tenant=a",
    "/a%2Fb/%e4%bd%a0//../c;d?x=%2b+%20&y&&=z&a=b;c=d&q=1?2&e=%zz&" + OTHER,
    "/plain",
])
@pytest.mark.parametrize("body", [b"", b'{"CallbackCommand":"Group.CallbackBeforeSendMsg"}', bytes(range(256)),
                                  b"x" * 3_000_000], ids=len)
def test_other_command_reaches_the_application_unchanged(setup, target, body):
    sent = [("Content-Type", "application/json"), ("X-Twice", "1"), ("X-Twice", "2"), ("Accept", "*/*"),
            ("Authorization", "Basic eDp5"), ("Cookie", "a=b; c=d"), ("X-Empty", ""), ("X-Spaces", "a  b\tc")]
    answer = setup.proxy.send(target, body, sent, CLIENT)
    assert (answer.status, answer.headers["content-type"], answer.headers["x-application"], answer.body) == \
        (202, "application/json", "yes", setup.application.ANSWER)
    method, arrived_at, headers, arrived = setup.application.take()
    assert (method, arrived_at, arrived) == ("POST", target, body)
    headers = [(name.lower(), value) for name, value in headers if name.lower() not in
               ("connection", "x-forwarded-host", "x-forwarded-proto")]
    assert sorted(headers) == sorted([*((name.lower(), value) for name, value in sent),
                                      ("host", f"localhost:{setup.proxy.port}"), ("content-length", str(len(body))),
                                      ("x-forwarded-for", CLIENT)])
    assert setup.one.groups(OTHER) == []


def test_without_an_application_everything_reaches_imcallbackd():
    with reverse_proxies.running(reverse_proxies.NginxWithoutApplication) as setup:
        assert setup.proxy.send_event(daemon.event(GroupId="alone"), source=CLIENT).code == 0
        assert [group["remote_address"] for group in setup.one.groups("alone")] == [CLIENT]
        assert setup.proxy.send("/?" + OTHER_QUERY).code == 120111  # the query has no signature


@pytest.mark.parametrize("fields", [{}, {"Name": "\u4f60\u597d"}, {"MemberList": [
    {"Member_Account": f"{'m' * 50}{i}"} for i in range(40_000)]}], ids=["small", "text", "large"])
def test_event_is_recorded_with_the_address_of_the_client(setup, fields):
    body = daemon.event(GroupId=f"event-{len(str(fields))}", **fields)
    # On a busy machine, the proxy may give up waiting for the answer to a large body. The test then sends the event
    # again, although the service would not.
    daemon.eventually(lambda: setup.proxy.send_event(body, source=CLIENT).code == 0, "OK", 60)
    (group,) = setup.one.groups(f"event-{len(str(fields))}")
    assert (group["remote_address"], group["client_ip"]) == (CLIENT, "203.0.113.7")
    assert group["member_count"] == len(fields.get("MemberList", [1]))
    assert setup.application.requests == []


FORGED = "198.51.100.7"


@pytest.mark.parametrize("headers", [
    [("X-Forwarded-For", FORGED)],
    [("x-forwarded-for", FORGED)],
    [("X-Forwarded-For", f"{FORGED}, {FORGED}")],
    [("X-Forwarded-For", f"{FORGED},")],
    [("X-Forwarded-For", "")],
    [("X-Forwarded-For", "unknown")],
    [("X-Forwarded-For", FORGED)] * 3,
    [("X-Forwarded-For", "127.0.0.1")],
    [("X-Forwarded-For", "[2001:db8::1]:443")],
    [("X-Forwarded-For", FORGED), ("Connection", "X-Forwarded-For")],
    [("X-Real-IP", FORGED), ("Forwarded", f"for={FORGED}"), ("X_Forwarded_For", FORGED)],
], ids=str)
def test_forged_address_is_replaced(setup, headers):
    group_id = f"forged-{headers}"[:48]
    assert setup.proxy.send_event(daemon.event(GroupId=group_id), headers=headers, source=CLIENT).code == 0
    assert setup.one.groups(group_id)[-1]["remote_address"] == CLIENT
    assert setup.proxy.send("/?" + OTHER_QUERY, headers=headers, source=CLIENT).status == 202
    _, _, headers, _ = setup.application.take()
    assert [value for name, value in headers if name.lower() == "x-forwarded-for"] == [CLIENT]


def test_large_event_over_the_limit_is_refused_by_imcallbackd(setup):
    answer = setup.proxy.send_event(daemon.padded(daemon.event(GroupId="large"), 4 * 1024 * 1024 + 1))
    assert answer.status == 413 and answer.code, answer
    assert setup.application.requests == []


def test_access_log_names_status_and_server_without_the_query(setup):
    """Proxy.stop() then checks that no log contains a part of a query."""
    assert setup.proxy.send("/in-the-log?" + OTHER_QUERY).status == 202
    setup.application.take()
    daemon.eventually(lambda: re.search(r"/in-the-log\b.*202", setup.proxy.logs()), "the line of the log")
