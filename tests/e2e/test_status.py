"""Tests the status page and /status.json: the facts, the sentence on the state, and that text from outside stays text.

A browser opens the page in test_status_page.py.
"""

import concurrent.futures
import contextlib
import html.parser
import json
import os
import re
import socket
import threading
import time

import pytest

import daemon
from certificates import P_256, make_dated_certificate
from daemon import event, eventually, run
from delivery import deliver_to, wait_delivered
from monitoring import ask, connect, metrics
from processes import check_run
from test_shortage import fill, make_small  # noqa: F401

HOUR = "recorded {}, repeated {}, rejected {};"
SECRETS = ("@TGS#secret-group", "The secret name", "secret-member", "secret-owner", daemon.TOKEN)


class Page(html.parser.HTMLParser):
    """The page as a tree of text: the text of each element with an id, and all tags with their attributes."""

    VOID = {"meta", "link", "br", "wbr", "rect", "path"}

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.by_id = [], [], {}
        self.source = text
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag not in self.VOID:
            self.open.append((tag, attributes.get("id")))
            self.by_id.setdefault(attributes.get("id"), "")

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        for _, name in self.open:
            if name:
                self.by_id[name] += data

    def text(self, name):
        return " ".join(self.by_id[name].split())


class Watched:
    """A daemon whose admin listener is a socket that the test passes to it, as systemd would."""

    def __init__(self, one, listener):
        self.daemon, self.listener, self.port = one, listener, listener.getsockname()[1]

    def start(self):
        self.daemon.start(sockets=[self.listener], names="admin")
        return self

    def page(self):
        status, headers, text = ask(self.port, "/")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        return Page(text)

    def json(self):
        status, headers, text = ask(self.port, "/status.json")
        assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
        return json.loads(text)

    def state(self):
        """Returns level, sentence and remedy, which must be the same on the page and in the JSON apart from ages."""
        state, page = self.json()["state"], self.page()
        words = re.sub(r"\d+ (s|minutes)\b", "", f"{state['sentence']} {state['remedy'] or ''}").split()
        shown = re.sub(r"\d+ (s|minutes)\b", "", page.text("state")).split()
        assert shown[2:] == words, page.text("state")
        return state["level"], state["sentence"], state["remedy"]


@pytest.fixture
def watch(make_daemon):
    """Starts daemons with an admin listener. before: a function that prepares the daemon's files."""
    with contextlib.ExitStack() as listeners:
        def start(*arguments, make=make_daemon, before=lambda one: None):
            one = make(*arguments)
            before(one)
            return Watched(one, listeners.enter_context(socket.create_server(("127.0.0.1", 0)))).start()

        yield start


@pytest.fixture
def watched(watch):
    return watch()


def identity(database):
    """Returns the start of a note that is about this database."""
    born = run("stat", "--format", "%w %W", database).stdout
    fraction = born.partition(".")[2][:9] or "000000000"  # "-" if the file system keeps no birth time
    return f"inode {database.stat().st_ino} born {born.split()[-1]}.{fraction} "


def send_everything(one):
    """Ten callbacks are recorded, three repeated and five rejected for three causes."""
    one.record(*(f"@TGS#{number}" for number in range(10)))
    one.record(*(f"@TGS#{number}" for number in range(3)))
    assert [one.post(Sign="0" * 64).status for _ in range(2)] == [403, 403]
    assert [one.post(CallbackCommand="Other").status for _ in range(2)] == [400, 400]
    assert one.post(b"{").status == 400


# What was sent

def test_shows_what_was_sent(watched):
    send_everything(watched.daemon)
    page, facts = watched.page(), watched.json()
    for name in ("hour", "day"):
        assert page.text(f"{name}-text").startswith(HOUR.format(10, 3, 5))
    assert page.text("counts").replace(" ", "").endswith("Recorded101010Repeated333Rejected555")
    for name in ("last_hour", "last_day"):
        assert [facts[name][key] for key in ("recorded", "repeated", "rejected", "answers")] == [10, 3, 5, 14]
        assert 0 < facts[name]["answer_p50_microseconds"] <= facts[name]["answer_p99_microseconds"] < 10_000_000
    for name in ("minutes", "quarter_hours"):
        assert sum(bar["recorded"] or 0 for bar in facts[name]) == 10
        assert sum(bar["rejected"] or 0 for bar in facts[name]) == 5
        assert facts[name][0]["recorded"] is None
    assert (len(facts["minutes"]), len(facts["quarter_hours"])) == (60, 96)
    classes = [attributes["class"] for tag, attributes in page.tags if tag == "rect" and "height" in attributes]
    assert {"recorded", "repeated", "rejected"} <= set(classes)


def test_shows_rejects_with_their_remedies(watched):
    send_everything(watched.daemon)
    page, facts = watched.page(), watched.json()
    assert {row["cause"]: row["count"] for row in facts["rejected_since_start"]} == {
        "sign_wrong": 2, "command_not_handled": 2, "body_not_json": 1}
    answered = watched.daemon.post(Sign="0" * 64)
    for row in facts["rejected_since_start"]:
        assert row["cause"] in page.text("causes") and row["remedy"] in page.text("causes")
        if row["cause"] == "sign_wrong":
            assert (row["error_code"], row["http_status"]) == (answered.code, 403)
            assert answered.json["ErrorInfo"].startswith(row["remedy"])
    assert [(row["cause"], row["count"], row["address"]) for row in facts["last_refusals"]] == [
        ("body_not_json", 1, "127.0.0.1"), ("command_not_handled", 2, "127.0.0.1"), ("sign_wrong", 2, "127.0.0.1")]
    assert "The query has 'Other'." in page.text("refused")


def test_has_every_metric_with_its_value(watched):
    send_everything(watched.daemon)
    values, facts = metrics(watched.port), watched.json()["metrics"]
    changing = re.compile(r"process_|imcallbackd_store|imcallbackd_connections")
    flat = {}
    for name, value in facts.items():
        if not isinstance(value, dict):
            flat[name] = value
        elif set(value) == {"count", "sum"}:
            flat |= {f"{name}_{key}": number for key, number in value.items()}
        else:
            flat |= {label: number for label in values for key, number in value.items()
                     if label.startswith(f"{name}{{") and label.endswith(f'="{key}"}}')}
    shown = {name: value for name, value in values.items() if "_bucket{" not in name}
    assert set(flat) == set(shown)
    assert {name: value for name, value in flat.items() if not changing.match(name)} == {
        name: value for name, value in shown.items() if not changing.match(name)}
    page = watched.page()
    for name in facts:
        assert name in page.text("figures")


def test_describes_the_endpoint(watch):
    watched = watch({"listen": {"path": "/im"}}, {1: ["a"], 2: ["b", "c"], 3: []})
    page, facts = watched.page(), watched.json()
    url = f"https://localhost:{watched.daemon.port}/im"
    assert url in page.text("url") and facts["endpoint"]["url"] == url
    assert [app["token_count"] for app in facts["endpoint"]["apps"]] == [1, 2, 0]
    assert "no token: anyone may call" in page.text("url")


@pytest.mark.parametrize("names, listed, host", [
    ("DNS:im.example.org,DNS:www.example.org", "im.example.org, www.example.org", "im.example.org"),
    ("IP:192.0.2.1,DNS:*.example.org", "*.example.org", "*.example.org"), ("IP:192.0.2.1", "", None),
    ("DNS:<b>,DNS:a.example", "a.example", "a.example"),
    (",".join(f"DNS:{number}.example" for number in range(30)),
     ", ".join(f"{number}.example" for number in range(20)), "0.example"),
])
def test_lists_the_names_of_the_certificate(watch, names, listed, host):
    watched = watch(before=lambda one: check_run(
        "openssl", "req", "-x509", *P_256, "-nodes", "-subj", "/CN=x", "-addext", f"subjectAltName={names}",
        "-out", one.directory / "certificate.pem", "-keyout", one.directory / "key.pem"))
    facts = watched.json()
    assert (facts["certificate"]["dns_names"], facts["endpoint"]["host"]) == (listed, host)
    assert ("Replace HOST" in watched.page().text("url")) == (host is None)
    assert ("Replace the asterisk" in watched.page().text("url")) == (host == "*.example.org")


def test_a_reload_changes_the_page(watched):
    one = watched.daemon
    one.reload({"limits": {"connections": 77}}, {daemon.APP: ["a", "b"], 7: ["c"]})
    facts = watched.json()
    assert facts["connections"]["limit"] == 77
    assert [app["sdk_appid"] for app in facts["endpoint"]["apps"]] == [daemon.APP, 7]


def test_shows_services_that_send_events_on(watched, endpoint, deliver):
    one = watched.daemon
    assert watched.page().text("outbound") == ""  # the element exists, so that the script can replace it
    deliver_to(one, endpoint)
    one.reload()
    one.record("a")
    assert watched.json()["outbound"] == {"deliver": {"has_reported": False}}
    assert "the service has not reported yet" in watched.page().text("outbound")
    service = deliver(one)
    wait_delivered(one, endpoint)
    eventually(lambda: watched.json()["outbound"]["deliver"].get("waiting_events") == 0, "the note")
    service.stop()
    one.record("b", "c")
    assert watched.json()["outbound"]["deliver"]["waiting_events"] == 2
    assert re.match(r"deliver ?2 ?last progress \d+ s ago", watched.page().text("lags"))
    one.stop()
    watched.start()
    assert watched.json()["outbound"]["deliver"]["waiting_events"] == 2


@pytest.mark.parametrize("text", [
    b"", b"\xff" * 300, b"inode 1 born 1.000000000 groups 1 rejected 1\n", "{identity}groups -9223372036854775808 rejected 0\n",
    "{identity}groups 99999999999999999999 rejected 0\n", None,
])
def test_ignores_an_invalid_note(watched, endpoint, text):
    """A note belongs to the user of another service. None: the note is a FIFO without a writer."""
    one = watched.daemon
    note = one.directory / "state.shipped"
    deliver_to(one, endpoint)
    one.reload()
    if text is None:
        os.mkfifo(note)
    else:
        note.write_bytes(text if isinstance(text, bytes) else text.format(identity=identity(one.database)).encode())
    assert watched.json()["outbound"] == {"deliver": {"has_reported": False}}
    assert "the service has not reported yet" in watched.page().text("lags")


# The sentence on the state

def test_nothing_has_connected(watched):
    level, sentence, remedy = watched.state()
    assert level == "warning" and re.fullmatch(r"Nothing has connected since the start \d+ s ago\.", sentence)
    assert "URL" in remedy and "firewall" in remedy


def test_clients_that_speak_no_tls(watched):
    with watched.daemon.connect_plain() as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
    eventually(lambda: watched.json()["state"]["sentence"].startswith("Clients have connected once"), "the connection")
    assert watched.state()[:2] == ("warning", "Clients have connected once, but no TLS handshake was completed.")


def test_wrong_token(watched):
    for _ in range(3):
        assert watched.daemon.post(token="another").status == 403
    assert watched.state() == ("error", "The last 3 requests were refused, all of them: sign_wrong.",
                               "Sign does not match RequestTime; write the token of the console into token_file.")


def test_wrong_app(watched):
    assert watched.daemon.post(SdkAppid=7).status == 403
    level, sentence, remedy = watched.state()
    assert (level, sentence) == ("error", "The only request was refused: sdk_appid_unknown.")
    assert "[app SDKAPPID]" in remedy


def test_stale_clock(watched):
    assert watched.daemon.post(**daemon.signature(at=int(time.time()) - 1000)).status == 403
    level, sentence, remedy = watched.state()
    assert level == "error" and re.match(r"This machine's clock is 16 minutes ahead of RequestTime", sentence)
    assert "timedatectl" in remedy
    assert watched.json()["clock_skew_seconds"] >= 1000
    watched.daemon.post()
    assert watched.state()[0] == "ok"


def test_full_disk(watch, make_small):  # noqa: F811
    watched = watch(make=make_small)
    fill(watched.daemon)
    level, sentence, remedy = watched.state()
    assert level == "error" and "Callbacks cannot be recorded: " in sentence and "the disk is full" in sentence
    assert str(watched.daemon.database) in sentence and "store_wait" in remedy
    assert ask(watched.port, "/readyz")[0] == 503


def test_expired_certificate(watch):
    watched = watch(before=lambda one: make_dated_certificate(one.directory, "20200101000000Z", "20210101000000Z"))
    level, sentence, remedy = watched.state()
    assert level == "error" and re.fullmatch(r"The certificate expired \d+ days ago\.", sentence)
    assert "[tls] certificate" in remedy
    assert watched.page().text("url").startswith("https://HOST:")  # the certificate has no DNS name


def test_certificate_with_names_of_other_kinds(watch):
    """A name that is too long for a host name does not hide the names after it."""
    def make(one):
        names = f"URI:spiffe://{'a' * 300},IP:192.0.2.1,DNS:{'b.' * 150}example,DNS:*.good.example,DNS:other.example"
        check_run("openssl", "req", "-x509", "-key", one.directory / "key.pem", "-subj", "/CN=x", "-addext",
                  f"subjectAltName={names}", "-out", one.directory / "certificate.pem")

    watched = watch(before=make)
    assert watched.json()["certificate"]["dns_names"] == "*.good.example, other.example"
    assert "Replace the asterisk" in watched.page().text("url")


def test_check_of_the_url(watched):
    assert watched.daemon.post(b"", SdkAppid=None).status == 200
    assert watched.state()[:2] == (
        "ok", "Ready: the console has checked the URL, but no callback has been recorded since the start.")


def test_ready(watched):
    assert watched.daemon.post().status == 200
    level, sentence, _ = watched.state()
    assert level == "ok" and re.fullmatch(r"Ready: the last callback was recorded \d+ s ago\.", sentence)
    assert watched.daemon.post(path="/favicon.ico").status == 404
    assert watched.state()[0] == "ok"


# Text from outside

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


def test_markup_stays_text(watched):
    one = watched.daemon
    assert one.post(CallbackCommand=HOSTILE).status == 400
    assert one.post(event(CallbackCommand=HOSTILE)).status == 400
    assert one.post(SdkAppid=HOSTILE).status == 403
    assert one.post(path="/<b>").status in (400, 404)
    page = watched.page()
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not [tag for tag, _ in page.tags if tag in ("img", "b")]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "</td><script>alert(1)</script>" in page.text("refused")
    assert any("</td><script>alert(1)</script>" in (row["detail"] or "") for row in watched.json()["last_refusals"])


def test_shows_nothing_secret(watch):
    watched = watch({"callback": {"allow_from": "127.0.0.1"}})
    one = watched.daemon
    secret = {"GroupId": SECRETS[0], "Name": SECRETS[1], "Owner_Account": SECRETS[3],
              "MemberList": [{"Member_Account": SECRETS[2]}]}
    assert one.post(event(**secret)).status == 200
    assert one.post(event(**secret | {"Name": "other"})).status == 200
    assert one.post(event(**secret | {"CallbackCommand": SECRETS[0]})).status == 400
    assert one.post(event(**secret | {"Type": 7})).status == 400
    assert one.post(event(**secret | {"EventTime": SECRETS[1]})).status == 400
    assert one.post(event(**secret)[:-1] + b"x").status == 400
    signature = daemon.signature()
    assert one.post(**signature | {"Sign": signature["Sign"][:-1] + "x"}).status == 403
    for path in ("/", "/status.json"):
        text = ask(watched.port, path)[2]
        for secret_text in (*SECRETS, signature["Sign"][:16], "203.0.113.7"):
            assert secret_text not in text


def test_the_page_loads_nothing_from_elsewhere(watched):
    _, headers, text = ask(watched.port, "/")
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    page = Page(text)
    sources = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert set(sources) == {"data:,", "/status.json", "/metrics", "/readyz"}
    assert not [tag for tag, attributes in page.tags if "style" in attributes]


def test_answers_while_the_writer_waits(watched):
    one = watched.daemon
    with one.connect() as connection:
        with one.locked():
            connection.send(daemon.request(event()))
            eventually(lambda: watched.json()["connections"]["waiting_requests"] == 1, "a waiting request")
            assert watched.page().text("state")
        assert connection.read_answer().status == 200


def test_is_whole_during_reloads(watched):
    """A reload replaces the settings that a page is printed from, and wakes the main thread, which samples the history."""
    def read():
        with contextlib.closing(connect(watched.port)) as connection:
            while not stopped.is_set():
                connection.request("GET", "/")
                assert connection.getresponse().read().endswith(b"</html>\n")

    stopped = threading.Event()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        reader = pool.submit(read)
        try:
            for tokens in range(20):
                watched.daemon.reload({}, {daemon.APP: ["a", "b"][:1 + tokens % 2]})
        finally:
            stopped.set()
        reader.result()
