"""What can be read in two ways is refused and the connection closed; what is honest, however clumsy, is answered.

Behind every request of this file stands a smuggled one on the same connection: a callback that is genuine and signed,
and must never be read as a request when the one before it was in doubt."""

import contextlib
import re
import socket
import ssl
import time

import pytest

import daemon

REQUEST_TIMEOUT = 1  # seconds, as configured below
GRACE = 1  # beyond it, for slow machines


def post(*lines, start="POST TARGET HTTP/1.1", host="Host: localhost", body="BODY"):
    """A callback as a template, with these header lines beside Host. See fill for the words that stand for others."""
    return "\r\n".join([start, *([host] if host else []), *lines]) + "\r\n\r\n" + body


def chunked(body):
    return post("Transfer-Encoding: chunked", body=body)


def sized(*lines, **others):
    """A callback with an honest Content-Length, and these lines beside it."""
    return post("Content-Length: LENGTH", *lines, **others)


HEX_BODY = "HEXLENGTH\r\nBODY\r\n"
ALL_CHUNKS = HEX_BODY + "0\r\n\r\n"

HOSTILE = {
    # How long the body is
    "two lengths, equal": post("Content-Length: LENGTH", "Content-Length: LENGTH"),
    "two lengths, the first is true": post("Content-Length: LENGTH", "Content-Length: 0"),
    "two lengths, the last is true": post("Content-Length: 0", "Content-Length: LENGTH"),
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
    "length with a letter behind": post("Content-Length: LENGTHa"),
    "length with a fraction": post("Content-Length: LENGTH.0"),
    "length in two words": post("Content-Length: LENGTH LENGTH"),
    "length that is empty": post("Content-Length:"),
    "length of 2^64": post("Content-Length: 18446744073709551616"),
    "length of 2^64 + 5": post("Content-Length: 18446744073709551621"),
    "length of 2^63": post("Content-Length: 9223372036854775808"),
    "length in digits of another script": post("Content-Length: \xd9\xa5"),
    "no length": post(),

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
    "name with NUL behind a length": post("Content-Length\0: LENGTH"),
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
    "length with NUL": post("Content-Length: LENGTH\0\r\nX: y"),
    "length with NUL and more behind": post("Content-Length: LENGTH\x000"),
    "coding with NUL": post("Transfer-Encoding: chunked\0x", body=ALL_CHUNKS),
    "value with a bare CR": sized("X: a\rb"),
    "a coding behind a bare CR": sized("X: a\rTransfer-Encoding: chunked"),
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
    "folded coding beside a length": sized("Transfer-Encoding:\r\n chunked"),
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
    "two spaces behind the target": sized(start="POST TARGET  HTTP/1.1"),
    "tab before the target": sized(start="POST\tTARGET HTTP/1.1"),
    "tab behind the target": sized(start="POST TARGET\tHTTP/1.1"),
    "space before the method": sized(start=" POST TARGET HTTP/1.1"),
    "NUL before the method": sized(start="\0POST TARGET HTTP/1.1"),
    "space behind the version": sized(start="POST TARGET HTTP/1.1 "),
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
    "chunk size with a space behind": chunked("HEXLENGTH \r\nBODY\r\n0\r\n\r\n"),
    "chunk size of 2^64": chunked("10000000000000000\r\nBODY\r\n0\r\n\r\n"),
    "chunk size of 2^64 more": chunked("1000000000000" + "HEX4LENGTH\r\nBODY\r\n0\r\n\r\n"),
    "chunk size of 2^64 - 1": chunked("ffffffffffffffff\r\nBODY\r\n0\r\n\r\n"),
    "chunk size with a letter behind": chunked("HEXLENGTHg\r\nBODY\r\n0\r\n\r\n"),
    "chunk size with NUL": chunked("HEXLENGTH\0\r\nBODY\r\n0\r\n\r\n"),
    "chunk size in quotes": chunked('"HEXLENGTH"\r\nBODY\r\n0\r\n\r\n'),
    "chunk size that is empty": chunked("\r\nBODY\r\n0\r\n\r\n"),
    "chunk size that is an extension alone": chunked(";HEXLENGTH\r\nBODY\r\n0\r\n\r\n"),
    "chunk size without an end": chunked("0" * 60_000),
    "chunk size behind a bare CR": chunked("HEXLENGTH\rBODY\r\n0\r\n\r\n"),
    "chunk without the line end behind it": chunked("HEXLENGTH\r\nBODY0\r\n\r\n"),
    "chunk with more than its size": chunked("1\r\nBODY\r\n0\r\n\r\n"),
    "last chunk with plus": chunked(HEX_BODY + "+0\r\n\r\n"),
    "last chunk with minus": chunked(HEX_BODY + "-0\r\n\r\n"),
    "last chunk with a prefix": chunked(HEX_BODY + "0x0\r\n\r\n"),
    "no last chunk": chunked(HEX_BODY),

    # Expect
    "Expect other than 100-continue": sized("Expect: 200-ok"),
    "Expect that is empty": sized("Expect:"),
}


def fill(template, number, front, behind=True):
    """The bytes of a template, with a smuggled callback behind them."""
    body = daemon.event(GroupId=f"{front}-{number}")
    query = "?" + daemon.query_string()
    for word, text in (("TARGET", "/" + query), ("QUERY", query), ("HEX4LENGTH", f"{len(body):04x}"),
                       ("HEXLENGTH", f"{len(body):x}"), ("LENGTH", str(len(body))), ("BODY", body.decode())):
        template = template.replace(word, text)
    return template.encode("latin-1") + (daemon.request(daemon.event(GroupId=f"smuggled-{number}")) if behind else b"")


def converse(port, context, *pieces, pause=0):
    """Sends the pieces and reads until the server closes. Returns what came and how long it took."""
    with socket.create_connection(("127.0.0.1", port), timeout=daemon.START_DEADLINE) as plain, \
            context.wrap_socket(plain, server_hostname="localhost") as tls:
        begun, received = time.monotonic(), b""
        # A server that has enough of what comes may close before all of it was sent.
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            for piece in pieces:
                tls.sendall(piece)
                time.sleep(pause)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := tls.recv(65536):
                received += data
        return received, time.monotonic() - begun


def statuses(received):
    """Of all answers in their order, without 100 Continue."""
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
    made = daemon.Daemon({"limits": {"request_timeout": f"{REQUEST_TIMEOUT}s", "idle_timeout": f"{REQUEST_TIMEOUT}s"}})
    try:
        yield made.start()
        made.stop()
    finally:
        made.destroy()


@pytest.mark.parametrize("number", range(len(HOSTILE)), ids=list(HOSTILE))
def test_hostile(one, number):
    received, seconds = converse(one.port, one.tls_context(), fill(list(HOSTILE.values())[number], number, "front"))
    answers = statuses(received)
    print(answers, f"{seconds:.2f} s", received[:90])
    assert answers == [] or len(answers) == 1 and 400 <= answers[0] < 600, received
    assert seconds < REQUEST_TIMEOUT + GRACE
    assert one.sql(f"SELECT group_id FROM destroyed_group WHERE group_id IN ('front-{number}', 'smuggled-{number}')") == []


# What libmicrohttpd 0.9.75 hides without a trace, and why it does no harm.
HARMLESS = {
    # A NUL at the very end of the last header: the value in front of it is the only one that there is.
    "last header with NUL at its end": post("Content-Length: LENGTH\0"),
    # Extensions of a chunk and trailers are passed over, as RFC 9112 (7.1.1, 7.1.2) lets a recipient do.
    "chunk extension": chunked("HEXLENGTH;name=value\r\nBODY\r\n0\r\n\r\n"),
    "trailer": chunked("HEXLENGTH\r\nBODY\r\n0\r\nX-Trailer: value\r\n\r\n"),
}


@pytest.mark.parametrize("number", range(len(HARMLESS)), ids=list(HARMLESS))
def test_harmless(one, number):
    template = list(HARMLESS.values())[number]
    received, _ = converse(one.port, one.tls_context(), fill(template, number, "harmless", behind=False))
    assert statuses(received) == [200], received
    assert one.sql(f"SELECT group_id FROM destroyed_group WHERE group_id = 'harmless-{number}'") != []
