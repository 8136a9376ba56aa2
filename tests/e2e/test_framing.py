"""Tests that the daemon refuses a request that is malformed or can be read in two ways, and closes the connection, and
that the daemon answers unusual but clear requests.

A genuine, signed callback follows every hostile request on the same connection. The daemon must never record this
smuggled callback."""

import contextlib
import random
import re
import socket
import ssl
import time

import pytest

import daemon

REQUEST_TIMEOUT = 1  # seconds, as configured below
IDLE_TIMEOUT = 3
GRACE = 1  # additional seconds for slow machines


def post(*lines, start="POST TARGET HTTP/1.1", host="Host: localhost", body="BODY"):
    """Returns the template of a callback with Host and these header lines. fill() replaces words such as TARGET and
    LENGTH."""
    return "\r\n".join([start, *([host] if host else []), *lines]) + "\r\n\r\n" + body


def chunked(body):
    return post("Transfer-Encoding: chunked", body=body)


def sized(*lines, **others):
    """Returns the template of a callback with a correct Content-Length and these header lines."""
    return post("Content-Length: LENGTH", *lines, **others)


HEX_BODY = "HEXLENGTH\r\nBODY\r\n"
ALL_CHUNKS = HEX_BODY + "0\r\n\r\n"

HOSTILE = {
    # The length of the body
    "two lengths, equal": post("Content-Length: LENGTH", "Content-Length: LENGTH"),
    "two lengths, the first is correct": post("Content-Length: LENGTH", "Content-Length: 0"),
    "two lengths, the last is correct": post("Content-Length: 0", "Content-Length: LENGTH"),
    "two lengths in different case": post("Content-Length: LENGTH", "content-length: 0"),
    "a list of equal lengths": post("Content-Length: LENGTH, LENGTH"),
    "a list of unequal lengths": post("Content-Length: LENGTH, 0"),
    "length and chunked": post("Content-Length: LENGTH", "Transfer-Encoding: chunked", body=ALL_CHUNKS),
    "chunked and length": post("Transfer-Encoding: chunked", "Content-Length: LENGTH", body=ALL_CHUNKS),
    "a length that covers the smuggled, and chunked that ends before it":
        post("Content-Length: 4000", "Transfer-Encoding: chunked", body="0\r\n\r\n"),
    "length 0 and a chunk": post("Content-Length: 0", "Transfer-Encoding: chunked", body=ALL_CHUNKS),
    "length with plus": post("Content-Length: +LENGTH"),
    "length with minus": post("Content-Length: -5"),
    "length with a prefix": post("Content-Length: 0xHEXLENGTH"),
    "length with a letter after it": post("Content-Length: LENGTHa"),
    "length with a fraction": post("Content-Length: LENGTH.0"),
    "length in two words": post("Content-Length: LENGTH LENGTH"),
    "length that is empty": post("Content-Length:"),
    "length of 2^64": post("Content-Length: 18446744073709551616"),
    "length of 2^64 + 5": post("Content-Length: 18446744073709551621"),
    "length of 2^63": post("Content-Length: 9223372036854775808"),
    "length in digits of another script": post("Content-Length: \xd9\xa5"),
    "length of 2^64 - 1": post("Content-Length: 18446744073709551615"),
    "no length": post(),
    "no length, and HTTP/1.0": post(start="POST TARGET HTTP/1.0"),

    # Transfer-Encoding
    "coding gzip": post("Transfer-Encoding: gzip", body=ALL_CHUNKS),
    "coding identity": post("Transfer-Encoding: identity", body=ALL_CHUNKS),
    "coding identity, and a length": post("Transfer-Encoding: identity", "Content-Length: LENGTH"),
    "coding gzip, chunked": post("Transfer-Encoding: gzip, chunked", body=ALL_CHUNKS),
    "coding chunked, identity": post("Transfer-Encoding: chunked, identity", body=ALL_CHUNKS),
    "coding chunked, chunked": post("Transfer-Encoding: chunked, chunked", body=ALL_CHUNKS),
    "coding chunked twice": post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=ALL_CHUNKS),
    "coding identity, then chunked": post("Transfer-Encoding: identity", "Transfer-Encoding: chunked", body=ALL_CHUNKS),
    "coding xchunked": post("Transfer-Encoding: xchunked", body=ALL_CHUNKS),
    "coding chunkedx": post("Transfer-Encoding: chunkedx", body=ALL_CHUNKS),
    "coding chunked with a parameter": post("Transfer-Encoding: chunked;q=1", body=ALL_CHUNKS),
    "coding chunked in quotes": post('Transfer-Encoding: "chunked"', body=ALL_CHUNKS),
    "coding chunked with a comma": post("Transfer-Encoding: chunked,", body=ALL_CHUNKS),
    "coding chunked with a vertical tab": post("Transfer-Encoding: \x0bchunked", body=ALL_CHUNKS),
    "coding that is empty": post("Transfer-Encoding:", body=ALL_CHUNKS),
    "coding in HTTP/1.0": post("Transfer-Encoding: chunked", start="POST TARGET HTTP/1.0", body=ALL_CHUNKS),
    "coding in HTTP/1.0, kept alive":
        post("Transfer-Encoding: chunked", "Connection: keep-alive", start="POST TARGET HTTP/1.0", body=ALL_CHUNKS),

    # Header names and lines
    "space before the colon of a length": post("Content-Length : LENGTH"),
    "tab before the colon of a length": post("Content-Length\t: LENGTH"),
    "space before the colon of a coding": post("Transfer-Encoding : chunked", body=ALL_CHUNKS),
    "space before the colon of a coding, and a length":
        post("Content-Length: LENGTH", "Transfer-Encoding : chunked"),
    "name that is empty": sized(": value"),
    "name with a space": sized("X Y: value"),
    "name with NUL": sized("X\0Y: value"),
    "name with NUL after Content-Length": post("Content-Length\0: LENGTH"),
    "name with a control byte": sized("X\x01Y: value"),
    "name with DEL": sized("X\x7fY: value"),
    "name with a bare CR": sized("X\rY: value"),
    "name with a byte that is not ASCII": sized("X\xe9: value"),
    "name with parentheses": sized("X(Y): value"),
    "coding with a vertical tab in the name": post("Transfer-Encoding\x0b: chunked", body=ALL_CHUNKS),
    "line without a colon": sized("no colon"),
    "length without a colon": post("Content-Length LENGTH"),

    # Header values
    "value with NUL": sized("X: a\0b"),
    **{f"last header {line!r}": sized(line) for line in ("X: a\0", "X: a\0\0\0", "X: \0", "X:\0")},
    "host in the last header with NUL after it": sized("Host: localhost\0", host=None),
    "length in the last header with NUL after it": post("Content-Length: LENGTH\0"),
    "NUL at the start of the empty line": sized().replace("\r\n\r\n", "\r\n\0\r\n"),
    "length with NUL": post("Content-Length: LENGTH\0\r\nX: y"),
    "length with NUL and more after it": post("Content-Length: LENGTH\x000"),
    "coding with NUL": post("Transfer-Encoding: chunked\0x", body=ALL_CHUNKS),
    "value with a bare CR": sized("X: a\rb"),
    "value with a bare CR at its end": sized("X: a\r"),
    "length with a bare CR at its end": post("Content-Length: LENGTH\r"),
    "coding after a bare CR": sized("X: a\rTransfer-Encoding: chunked"),
    "value with a bare LF": sized("X: a\nb"),
    "header after a bare LF": sized("X: a\nY: b"),
    "coding after a bare LF": sized("X: a\nTransfer-Encoding: chunked"),
    "length after a bare LF": sized("X: a\nContent-Length: 0"),
    "head that two bare LF end": sized("X: a\n\nY: b"),
    "bare LF after the request line": sized(start="POST TARGET HTTP/1.1\nX: a"),
    "bare LF everywhere": sized(body="").replace("\r\n", "\n") + "BODY",
    "bare LF as the last line end": sized(body="")[:-2] + "\nBODY",
    "bare LF and CR the wrong way round": sized(body="")[:-2] + "\n\rBODY",
    "value with a control byte": sized("X: a\x01b"),
    "value with a vertical tab": sized("X: a\x0bb"),
    "value with a form feed": sized("X: a\x0cb"),
    "value with ESC": sized("X: a\x1b[2J"),
    "value with DEL": sized("X: a\x7fb"),

    # Folded lines
    "folded length": post("Content-Length:\r\n LENGTH"),
    "length folded in the middle": post("Content-Length: LENGTH\r\n 0"),
    "length folded with a tab": post("Content-Length: LENGTH\r\n\t0"),
    "folded coding": post("Transfer-Encoding:\r\n chunked", body=ALL_CHUNKS),
    "folded coding with a length": sized("Transfer-Encoding:\r\n chunked"),
    "folded line of another name": sized("X: a\r\n b"),
    "folded line that looks like a length": post("X: a\r\n Content-Length: 0", "Content-Length: LENGTH"),
    "folded line with a tab": sized("X: a\r\n\tb"),
    "space before the first header": post(" X: a", "Host: localhost", "Content-Length: LENGTH", host=None),

    # Host
    "two hosts, equal": sized("Host: localhost"),
    "two hosts, unequal": sized("Host: example.org"),
    "no host": sized(host=None),
    "host that is empty": sized(host="Host:"),
    "host with a path": sized(host="Host: localhost/x"),
    "host with a space": sized(host="Host: local host"),
    "host with a user": sized(host="Host: user@localhost"),
    "host list": sized(host="Host: localhost, example.org"),
    "host with a byte that is not ASCII": sized(host="Host: localh\xf6st"),

    # Request line
    "absolute target": sized(start="POST https://localhostTARGET HTTP/1.1"),
    "authority target": sized(start="POST localhost:443 HTTP/1.1"),
    "asterisk target": sized(start="POST * HTTP/1.1"),
    "CONNECT": sized(start="CONNECT localhost:443 HTTP/1.1"),
    "OPTIONS *": sized(start="OPTIONS * HTTP/1.1"),
    "encoded slash": sized(start="POST /%2FQUERY HTTP/1.1"),
    "encoded dots": sized(start="POST /x/%2e%2e/QUERY HTTP/1.1"),
    "encoded question mark": sized(start="POST /%3FQUERY HTTP/1.1"),
    "encoded NUL in the path": sized(start="POST /%00QUERY HTTP/1.1"),
    "two slashes": sized(start="POST //QUERY HTTP/1.1"),
    "target without a slash": sized(start="POST QUERY HTTP/1.1"),
    "fragment": sized(start="POST TARGET#x HTTP/1.1"),
    "byte in the target that is not ASCII": sized(start="POST TARGET&x=\xe9 HTTP/1.1"),
    "control byte in the target": sized(start="POST TARGET&x=\x01 HTTP/1.1"),
    "DEL in the target": sized(start="POST TARGET&x=\x7f HTTP/1.1"),
    "NUL in the target": sized(start="POST TARGET\0 HTTP/1.1"),
    "NUL in the path": sized(start="POST /\0QUERY HTTP/1.1"),
    "tab in the target": sized(start="POST TARGET\tx HTTP/1.1"),
    "bare CR in the target": sized(start="POST TARGET\rx HTTP/1.1"),
    "space in the target": sized(start="POST TARGET x HTTP/1.1"),
    "two spaces before the target": sized(start="POST  TARGET HTTP/1.1"),
    "two spaces after the target": sized(start="POST TARGET  HTTP/1.1"),
    "tab before the target": sized(start="POST\tTARGET HTTP/1.1"),
    "tab after the target": sized(start="POST TARGET\tHTTP/1.1"),
    "space before the method": sized(start=" POST TARGET HTTP/1.1"),
    "NUL before the method": sized(start="\0POST TARGET HTTP/1.1"),
    "space after the version": sized(start="POST TARGET HTTP/1.1 "),
    "no target": sized(start="POST HTTP/1.1"),
    "no version": sized(start="POST TARGET"),
    "HTTP/0.9": sized(start="POST TARGET HTTP/0.9"),
    "HTTP/1.2": sized(start="POST TARGET HTTP/1.2"),
    "HTTP/1.10": sized(start="POST TARGET HTTP/1.10"),
    "HTTP/01.1": sized(start="POST TARGET HTTP/01.1"),
    "HTTP/2.0": sized(start="POST TARGET HTTP/2.0"),
    "preface of HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http in lower case": sized(start="POST TARGET http/1.1"),
    "another protocol": sized(start="POST TARGET ICAP/1.1"),
    "method in lower case": sized(start="post TARGET HTTP/1.1"),
    "method that does not exist": sized(start="PUSH TARGET HTTP/1.1"),
    "method with a colon": sized(start="PO:ST TARGET HTTP/1.1"),
    "method with a control byte": sized(start="POST\x01 TARGET HTTP/1.1"),
    "method with NUL": sized(start="POST\0 TARGET HTTP/1.1"),
    "not HTTP at all": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",

    # Sizes
    "huge header": sized("X: " + "a" * 60_000),
    "huge header name": sized("X" * 60_000 + ": a"),
    "huge request line": sized(start="POST TARGET&x=" + "a" * 60_000 + " HTTP/1.1"),
    "too many headers": sized(*["X: a"] * 10_000),

    # Chunks
    "chunk size with plus": chunked("+" + ALL_CHUNKS),
    "chunk size with minus": chunked("-" + ALL_CHUNKS),
    "chunk size with a prefix": chunked("0x" + ALL_CHUNKS),
    "chunk size with a space before": chunked(" " + ALL_CHUNKS),
    "chunk size with a space after it": chunked("HEXLENGTH \r\nBODY\r\n0\r\n\r\n"),
    "chunk size of 2^64": chunked("10000000000000000\r\nBODY\r\n0\r\n\r\n"),
    "chunk size of 2^64 more": chunked("1000000000000" + "HEX4LENGTH\r\nBODY\r\n0\r\n\r\n"),
    "chunk size of 2^64 - 1": chunked("ffffffffffffffff\r\nBODY\r\n0\r\n\r\n"),
    "chunk size with a letter after it": chunked("HEXLENGTHg\r\nBODY\r\n0\r\n\r\n"),
    "chunk size with NUL": chunked("HEXLENGTH\0\r\nBODY\r\n0\r\n\r\n"),
    "chunk size in quotes": chunked('"HEXLENGTH"\r\nBODY\r\n0\r\n\r\n'),
    "chunk size that is empty": chunked("\r\nBODY\r\n0\r\n\r\n"),
    "chunk size that is an extension alone": chunked(";HEXLENGTH\r\nBODY\r\n0\r\n\r\n"),
    "chunk size without an end": chunked("0" * 60_000),
    "chunk size followed by a bare CR": chunked("HEXLENGTH\rBODY\r\n0\r\n\r\n"),
    "chunk without the line end after it": chunked("HEXLENGTH\r\nBODY0\r\n\r\n"),
    "chunk with more than its size": chunked("1\r\nBODY\r\n0\r\n\r\n"),
    "last chunk with plus": chunked(HEX_BODY + "+0\r\n\r\n"),
    "last chunk with minus": chunked(HEX_BODY + "-0\r\n\r\n"),
    "last chunk with a prefix": chunked(HEX_BODY + "0x0\r\n\r\n"),
    "last chunk with a minus alone": chunked(HEX_BODY + "-\r\n\r\n"),
    "no last chunk": chunked(HEX_BODY),
    "trailer without a colon": chunked(HEX_BODY + "0\r\nno colon\r\n\r\n"),

    # Expect
    "Expect other than 100-continue": sized("Expect: 200-ok"),
    "Expect that is empty": sized("Expect:"),

    # Other methods
    "GET with a body": sized(start="GET TARGET HTTP/1.1"),
    "GET in chunks": post("Transfer-Encoding: chunked", start="GET TARGET HTTP/1.1", body=ALL_CHUNKS),
    "GET without a body": post(start="GET TARGET HTTP/1.1", body=""),
}

# Unusual requests that every parser reads in the same way, or whose ambiguity does not help an attacker: a smuggled
# request needs a valid Sign of its own, and a client that has one can send the request directly. The daemon records
# each of these requests, and the request after it, exactly once.
UNUSUAL = {
    # RFC 9110, 8.6: a length is one digit or more.
    "length with zeros before it": post("Content-Length: 000000000000000000000000LENGTH"),
    # RFC 9112, 7: names of codings are case-insensitive.
    "coding in another case": post("Transfer-Encoding: cHuNkEd", body=ALL_CHUNKS),
    "chunk size with zeros before it": chunked("000000000000000000000000HEXLENGTH\r\nBODY\r\n00000\r\n\r\n"),
    # The daemon uses nothing from a trailer; it only looks for the end.
    "trailer": chunked(HEX_BODY + "0\r\nX: a\r\n\r\n"),
    "trailer with a length": chunked(HEX_BODY + "0\r\nContent-Length: 4000\r\n\r\n"),
    "trailer with a coding": chunked(HEX_BODY + "0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "trailer with a host": chunked(HEX_BODY + "0\r\nHost: example.org\r\n\r\n"),
    # RFC 9110, 5.5: white space around a value is not part of the value.
    "spaces and tabs around a value": sized("X: \t a \t "),
    "no space before a value": sized("X:a", host="Host:localhost"),
    "value that is empty": sized("X:"),
    # RFC 9110, 5.5: bytes above ASCII in a value are opaque.
    "value with bytes that are not ASCII": sized("X: \xe9\xff"),
}

# Whether libmicrohttpd accepts these requests or refuses them without asking the daemon depends on its version.
UNUSUAL_TO_SOME_VERSIONS = {
    # RFC 9112, 2.2: a server should ignore at least one empty line before a request.
    "empty lines before the request": "\r\n\r\n" + sized(),
    # Version 0.9.75 overwrites the end of a line with NUL, so NUL with a bare LF looks like CRLF to the daemon.
    "value with NUL before a bare LF": sized("X: a\0\nY: b"),
    # RFC 9112, 7.1.1: a recipient ignores chunk extensions that it does not know.
    "chunk extension": chunked("HEXLENGTH;name=value\r\nBODY\r\n0;name\r\n\r\n"),
    "chunk extension without a name": chunked("HEXLENGTH;\r\nBODY\r\n0;\r\n\r\n"),
    "chunk extension in quotes": chunked('HEXLENGTH;name="a;b"\r\nBODY\r\n0\r\n\r\n'),
    "chunk extension with NUL and a bare CR": chunked("HEXLENGTH;\0\r0\r\nBODY\r\n0\r\n\r\n"),
    # RFC 9112, 2.2 allows LF alone as a line end in the head. Some versions of libmicrohttpd accept it in a body, too.
    "bare LF after a chunk size": chunked("HEXLENGTH\nBODY\r\n0\r\n\r\n"),
    "bare LF after a chunk extension": chunked("HEXLENGTH;a\nBODY\r\n0\r\n\r\n"),
    "bare LF after a chunk": chunked("HEXLENGTH\r\nBODY\n0\r\n\r\n"),
    "bare LF after the last chunk": chunked(HEX_BODY + "0\n\r\n"),
    "bare LF after the trailer": chunked(HEX_BODY + "0\r\nX: a\n\n"),
    "trailer with a folded line": chunked(HEX_BODY + "0\r\nX: a\r\n b\r\n\r\n"),
    "trailer with NUL": chunked(HEX_BODY + "0\r\nX: a\0b\r\n\r\n"),
}


def fill(template, group_id):
    """Returns the bytes of a template, as a signed callback for this group."""
    body = daemon.event(GroupId=group_id)
    query = "?" + daemon.query_string()
    for word, text in (("TARGET", "/" + query), ("QUERY", query), ("HEX4LENGTH", f"{len(body):04x}"),
                       ("HEXLENGTH", f"{len(body):x}"), ("LENGTH", str(len(body))), ("BODY", body.decode())):
        template = template.replace(word, text)
    return template.encode("latin-1")


def last_request(group_id):
    """Returns a correct callback that asks the server to close the connection."""
    return daemon.request(daemon.event(GroupId=group_id), headers=["Connection: close"])


def converse(port, context, *pieces):
    """Sends each piece in TLS records of its own, and reads until the server closes the connection. Returns the
    received bytes and the seconds until then."""
    with socket.create_connection(("127.0.0.1", port), timeout=daemon.START_DEADLINE) as plain, \
            context.wrap_socket(plain, server_hostname="localhost") as tls:
        started, received = time.monotonic(), b""
        # A server that refuses the request may close the connection before everything is sent.
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            for piece in pieces:
                tls.sendall(piece)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := tls.recv(65536):
                received += data
        return received, time.monotonic() - started


def statuses(received):
    """Returns the status of each response in order, without 100 Continue."""
    found = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        status = int(re.fullmatch(rb"HTTP/1\.1 (\d\d\d) .*", head.split(b"\r\n")[0])[1])
        if status == 100:
            continue
        found.append(status)
        length = int(re.search(rb"(?i)\r\ncontent-length: (\d+)", head)[1])
        assert len(received) >= length
        received = received[length:]
    return found


@pytest.fixture(scope="module")
def one():
    limits = {"request_timeout": f"{REQUEST_TIMEOUT}s", "idle_timeout": f"{IDLE_TIMEOUT}s"}
    with daemon.running({"limits": limits}) as made:
        yield made


@pytest.mark.parametrize("name", HOSTILE)
def test_refuses_hostile_request(one, name):
    front, smuggled = f"front of {name}", f"after {name}"
    received, seconds = converse(one.port, one.tls_context(), fill(HOSTILE[name], front) + last_request(smuggled))
    answers = statuses(received)
    print(answers, f"{seconds:.2f} s")
    assert len(answers) <= 1 and all(400 <= status < 600 for status in answers), received
    assert seconds < REQUEST_TIMEOUT + GRACE
    assert one.groups(front) == one.groups(smuggled) == []


@pytest.mark.parametrize("name, fault", [
    ("two hosts, unequal", "There is more than one Host header."),
    ("host list", "The Host header is not a valid host name."),
    ("Expect other than 100-continue", "Expect is not 100-continue."),
])
def test_response_names_the_fault(one, name, fault):
    """Tests only faults that every version of libmicrohttpd leaves to the daemon."""
    with one.connect() as connection:
        answer = connection.answer_to(fill(HOSTILE[name], name))
        assert connection.is_closed()
    assert (answer.status, answer.code) == (400, 120001)
    assert answer.json["ErrorInfo"].endswith(f" chunked. {fault}")
    assert "refused bad_framing from 127.0.0.1" in one.log


@pytest.mark.parametrize("name", UNUSUAL)
def test_accepts_unusual_request(one, name):
    front, second = f"front of {name}", f"after {name}"
    received, _ = converse(one.port, one.tls_context(), fill(UNUSUAL[name], front) + last_request(second))
    assert statuses(received) == [200, 200], received
    assert len(one.groups(front)) == len(one.groups(second)) == 1


@pytest.mark.parametrize("name", UNUSUAL_TO_SOME_VERSIONS)
def test_accepts_or_refuses_unusual_request(one, name):
    """The daemon either accepts both requests, or refuses the first and never reads the second."""
    front, second = f"front of {name}", f"after {name}"
    request = fill(UNUSUAL_TO_SOME_VERSIONS[name], front)
    received, _ = converse(one.port, one.tls_context(), request + last_request(second))
    answers = statuses(received)
    print(answers)
    accepted = answers == [200, 200]
    assert accepted or answers == [] or answers == [400], received
    assert len(one.groups(front)) == len(one.groups(second)) == accepted


def test_has_enough_hostile_requests():
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize("filler", [100, 11_000])
def test_malformed_length_closes_no_other_connection(make_daemon, filler):
    """A fault that libmicrohttpd finds must be attributed to the right connection, not to the one that sent last."""
    one = make_daemon({"listen": {"threads": 1}}).start()
    malformed = fill(post("X: " + "a" * filler, "Content-Length: x"), "malformed")
    with one.connect() as before, one.connect() as hostile, one.connect() as after:
        for other in (before, after):  # a response means that the handshake is complete
            assert other.answer_to(daemon.request(daemon.event())).status == 200
        with one.paused():  # so that all three arrive at once
            before.send(daemon.request(daemon.event(GroupId="before")))
            hostile.send(malformed)
            after.send(daemon.request(daemon.event(GroupId="after")))
        assert before.read_answer().status == after.read_answer().status == 200


def test_malformed_length_after_another_request(make_daemon):
    """libmicrohttpd finds this fault long after the client sent it. The fault must not be attributed to the other
    connection."""
    one = make_daemon({"listen": {"threads": 1}, "callback": {"other_commands": "acknowledge"}}).start()
    other_command = daemon.request(b"{}", daemon.query_string(CallbackCommand="Group.CallbackAfterSendMsg"))
    with one.connect() as hostile, one.connect() as other:
        with one.locked():
            # The second request stays in the buffer until the first is answered.
            hostile.send(daemon.request(daemon.event()) + fill(post("Content-Length: x"), "malformed"))
            for _ in range(3):
                assert other.answer_to(other_command).status == 200
        assert hostile.read_answer().status == 200
        assert hostile.is_closed() or statuses(hostile.read_rest()) == [400]
        assert other.answer_to(other_command).status == 200


def test_answers_pipelined_requests(one):
    """One write contains more requests than fit into a connection's buffer. The last request is refused, which shows
    that the responses are in order."""
    names = [f"pipelined-{i}" for i in range(50)]
    last = daemon.request(daemon.event(GroupId="unsigned"), query=daemon.query_string(token=None))
    received, _ = converse(one.port, one.tls_context(),
                           b"".join(daemon.request(daemon.event(GroupId=name)) for name in names) + last)
    assert statuses(received) == [200] * 50 + [403]
    assert one.group_ids("pipelined-") == names


def test_accepts_chunks_of_any_size(one):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    dice = random.Random(seed)
    for number in range(20):
        body = daemon.event(GroupId=f"chunks-{number}", Name="社区" * dice.randrange(2000))
        head = fill(post("Transfer-Encoding: chunked", "Connection: close", body=""), "")
        stream, rest = head, body
        while rest:
            size = dice.choice((1, 2, 3, 15, 16, 17, 255, 256, 4096))
            piece, rest = rest[:size], rest[size:]
            stream += b"%x\r\n%s\r\n" % (len(piece), piece)
        stream += b"0\r\n\r\n"
        cuts = sorted(dice.sample(range(1, len(stream)), 30))
        pieces = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)])]
        received, _ = converse(one.port, one.tls_context(), *pieces)
        assert statuses(received) == [200], received
        (row,) = one.groups(f"chunks-{number}")
        assert row["name"].encode() in body


def test_sends_100_continue(one):
    body = daemon.event(GroupId="expect")
    with one.connect() as connection:
        connection.send(daemon.request(body, headers=["Expect: 100-continue"]).removesuffix(body))
        assert connection.read_head() == b"HTTP/1.1 100 Continue"
        assert connection.answer_to(body).status == 200
    # This client asks for 100 Continue and does not wait for it.
    received, _ = converse(one.port, one.tls_context(), daemon.request(
        daemon.event(GroupId="expect-2"), headers=["expect: 100-Continue", "Connection: close"]))
    assert statuses(received) == [200]
    assert one.group_ids("expect") == ["expect", "expect-2"]


def test_refuses_instead_of_100_continue(one):
    body = daemon.event(GroupId="expect-refused")
    with one.connect() as connection:
        connection.send(daemon.request(body, query=daemon.query_string(token=None),
                                       headers=["Expect: 100-continue"]).removesuffix(body))
        assert connection.read_answer().status == 403
        assert connection.is_closed()


def test_accepts_a_request_byte_by_byte(one):
    stream = last_request("byte by byte")
    received, seconds = converse(one.port, one.tls_context(), *(stream[i:i + 1] for i in range(len(stream))))
    print(f"{len(stream)} records in {seconds:.3f} s")
    assert statuses(received) == [200]
    assert len(one.groups("byte by byte")) == 1


def test_accepts_a_pause_between_requests(one):
    with one.connect() as connection:
        for name in ("before the pause", "after the pause"):
            assert connection.answer_to(daemon.request(daemon.event(GroupId=name))).status == 200
            time.sleep(REQUEST_TIMEOUT * 1.3)
    assert len(one.groups("after the pause")) == 1


@pytest.mark.parametrize("start, header", [("POST TARGET HTTP/1.1", "Connection: close"),
                                           ("POST TARGET HTTP/1.1", "Connection: x, Close"),
                                           ("POST TARGET HTTP/1.0", "X: a")])
def test_reads_nothing_after_the_last_request(one, start, header):
    front, second = f"last {start} {header}", f"after {start} {header}"
    received, _ = converse(one.port, one.tls_context(), fill(sized(header, start=start), front) + last_request(second))
    assert statuses(received) == [200], received
    assert len(one.groups(front)) == 1 and one.groups(second) == []
