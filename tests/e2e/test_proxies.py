"""Tests the client's address behind a trusted proxy: the PROXY protocol and X-Forwarded-For, as raw bytes.

The tables have valid and hostile cases. Each hostile case comes with a genuine, signed callback, which the daemon must
not record, or must record with the address that the hostile bytes try to replace."""

import contextlib
import re
import ssl

import pytest

import daemon
import monitoring
from processes import unread_bytes
from proxy_protocol import (LOCAL, PROXY, SIGNATURE, TCP4, TCP6, UDP4, UDP6, UNIX, UNSPEC, Segments, pair, raw_v2, tlv,
                            v1, v2)

PEER = "127.0.0.1"  # the trusted proxy
STRANGER = "127.0.0.2"
ALLOWED = "192.0.2.1"
HEADERS = "imcallbackd_proxy_headers_total"


class Proxied:
    """A daemon that trusts one proxy, and its metrics."""

    def __init__(self, one, admin_port):
        self.daemon = one
        self.admin_port = admin_port

    def headers(self, result):
        return int(monitoring.metrics(self.admin_port)[f'{HEADERS}{{result="{result}"}}'])

    def call(self, name, preface=b"", headers=(), source=PEER):
        """Sends a callback on a new connection. Returns the status."""
        with self.daemon.connect(preface=preface, source=source) as connection:
            return connection.call(name, headers).status

    def is_closed(self, name, preface, source=PEER):
        """Returns whether the daemon closes the connection before the end of the handshake."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            self.call(name, preface, source=source)
            return False
        return True

    def address_of(self, name):
        (row,) = self.daemon.groups(name)
        return row["remote_address"]


@contextlib.contextmanager
def trusting(settings):
    port = daemon.free_port()
    with daemon.running({"listen": {"trusted_proxies": PEER}, "admin": {"port": port}} | settings) as one:
        yield Proxied(one, port)


@pytest.fixture(scope="module")
def proxied():
    with trusting({}) as one:
        yield one


@pytest.fixture(scope="module")
def restricted():
    """Only one client may call. The proxy itself may not."""
    with trusting({"callback": {"allow_from": ALLOWED}}) as one:
        yield one


# Headers of the PROXY protocol

LONGEST_V6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
TLVS = tlv(0x01, b"http/1.1") + tlv(0x02, b"im.example.org") + tlv(0x05, b"id") + tlv(0xEA, b"vpce-1") + tlv(0x04, b"")

# Maps the name of a case to a header and to the address that the daemon must record.
VALID = {
    "no header": (b"", PEER),
    "v1 IPv4": (v1(), "192.0.2.1"),
    "v1 IPv4 with extreme ports": (v1(ports="0 65535"), "192.0.2.1"),
    "v1 IPv6": (v1("2001:db8::7", "::1", "TCP6"), "2001:db8::7"),
    "v1 IPv6 in capitals": (v1("2001:DB8:0:0:0:0:0:7", "::1", "TCP6"), "2001:db8::7"),
    "v1 mapped IPv4": (v1("::ffff:192.0.2.9", "::1", "TCP6"), "192.0.2.9"),
    "v1 with the longest addresses": (v1(LONGEST_V6, LONGEST_V6, "TCP6", "65535 65535"), LONGEST_V6),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", PEER),
    "v1 UNKNOWN with addresses": (v1(protocol="UNKNOWN"), PEER),
    "v1 UNKNOWN of 107 bytes": (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", PEER),
    "v2 IPv4": (v2(), "192.0.2.1"),
    "v2 IPv6": (v2("2001:db8::7"), "2001:db8::7"),
    "v2 mapped IPv4": (v2("::ffff:192.0.2.9"), "192.0.2.9"),
    "v2 with TLVs": (v2(tlvs=TLVS), "192.0.2.1"),
    "v2 IPv6 with TLVs": (v2("2001:db8::7", TLVS), "2001:db8::7"),
    "v2 with an incomplete TLV": (v2(tlvs=b"\x01\xff\xff"), "192.0.2.1"),
    "v2 with a TLV that looks like TLS": (v2(tlvs=tlv(0xE0, b"\x16\x03\x01\x02\x00\x01")), "192.0.2.1"),
    "v2 of 2048 bytes": (v2(tlvs=tlv(0x04, bytes(2048 - 12 - 3))), "192.0.2.1"),
    "v2 IPv6 of 2048 bytes": (v2("2001:db8::7", tlv(0x04, bytes(2048 - 36 - 3))), "2001:db8::7"),
    "v2 LOCAL": (raw_v2(LOCAL, UNSPEC), PEER),
    "v2 LOCAL with addresses": (raw_v2(LOCAL, TCP4, pair("192.0.2.1")), PEER),
    "v2 LOCAL of an unknown family": (raw_v2(LOCAL, 0xFF, b"abc"), PEER),
    "v2 LOCAL of 2048 bytes": (raw_v2(LOCAL, UNSPEC, bytes(2048)), PEER),
    "v2 UNSPEC": (raw_v2(PROXY, UNSPEC), PEER),
    "v2 UNSPEC with TLVs": (raw_v2(PROXY, UNSPEC, TLVS), PEER),
    "v2 UNSPEC with addresses": (raw_v2(PROXY, UNSPEC, pair("192.0.2.1")), PEER),
    "v2 Unix socket": (raw_v2(PROXY, UNIX, b"/run/client".ljust(216, b"\0")), PEER),
}

# The daemon counts each of these malformed headers and closes the connection.
MALFORMED = {
    "v1 of 108 bytes": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "v1 without an end": b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 " + b"x" * 2000,
    "v1 with a bare LF": v1().replace(b"\r\n", b"\n"),
    "v1 with a bare CR": v1().replace(b"\r\n", b"\r\x16"),
    "v1 with two CRs": v1().replace(b"\r\n", b"\r\r\n"),
    "v1 with a CR in the middle": b"PROXY UNKNOWN a\rb\r\n",
    "v1 without a protocol": b"PROXY\r\n",
    "v1 in lower case": b"PROXY tcp4 192.0.2.1 198.51.100.2 12345 443\r\n",
    "v1 UDP4": v1(protocol="UDP4"),
    "v1 UNKNOWN with a letter": b"PROXY UNKNOWNX\r\n",
    "v1 IPv6 address as TCP4": v1("2001:db8::7", "::1"),
    "v1 IPv4 address as TCP6": v1(protocol="TCP6"),
    "v1 host name": v1("localhost"),
    "v1 address with a zero in front": v1("192.0.2.01"),
    "v1 address out of range": v1("192.0.2.256"),
    "v1 address with NUL": v1("192.0.2.1\0"),
    "v1 address with a NUL and more": v1("192.0.2.1\0.5"),
    "v1 address in brackets": v1("[::1]", "::1", "TCP6"),
    "v1 address with a zone": v1("fe80::1%lo", "::1", "TCP6"),
    "v1 two spaces": v1().replace(b" 198", b"  198"),
    "v1 tab": v1().replace(b" 198", b"\t198"),
    "v1 missing port": v1(ports="12345"),
    "v1 field too many": v1(ports="12345 443 7"),
    "v1 space at the end": v1(ports="12345 443 "),
    "v1 port out of range": v1(ports="65536 443"),
    "v1 port with a zero in front": v1(ports="012345 443"),
    "v1 port with a sign": v1(ports="+12345 443"),
    "v2 of version 1": raw_v2(0x11, TCP4, pair("192.0.2.1")),
    "v2 of version 3": raw_v2(0x31, TCP4, pair("192.0.2.1")),
    "v2 unknown command": raw_v2(0x22, TCP4, pair("192.0.2.1")),
    "v2 unknown family": raw_v2(PROXY, 0x41, pair("192.0.2.1")),
    "v2 unknown protocol": raw_v2(PROXY, 0x13, pair("192.0.2.1")),
    "v2 UDP over IPv4": raw_v2(PROXY, UDP4, pair("192.0.2.1")),
    "v2 UDP over IPv6": raw_v2(PROXY, UDP6, pair("2001:db8::7")),
    "v2 too short for IPv4": raw_v2(PROXY, TCP4, pair("192.0.2.1")[:11]),
    "v2 too short for IPv6": raw_v2(PROXY, TCP6, pair("2001:db8::7")[:35]),
    "v2 too short for a Unix socket": raw_v2(PROXY, UNIX, bytes(215)),
    "v2 empty": raw_v2(PROXY, TCP4),
    "v2 of 2049 bytes": v2(tlvs=bytes(2049 - 12)),
    "v2 LOCAL of 2049 bytes": raw_v2(LOCAL, UNSPEC, bytes(2049)),
    "v2 of 65535 bytes": v2(tlvs=bytes(65535 - 12)),
    "v2 announces 65535 bytes": raw_v2(PROXY, TCP4, pair("192.0.2.1"), 65535),
}

# In each of these cases there is no header, or the bytes after the header are not TLS. The daemon reads everything
# except the header as TLS, so the handshake fails.
NOT_TLS = {
    "lower case": v1().lower(),
    "space in front": b" " + v1(),
    "cut word": b"PROX " + v1(),
    "cut signature": SIGNATURE[:11] + v2()[12:],
    "wrong signature": SIGNATURE[:11] + b"\r" + v2()[12:],
    "CRLF in front": b"\r\n" + v1(),
    "NUL in front": b"\0" + v2(),
    "two headers of version 1": v1() + v1("192.0.2.2"),
    "two headers of version 2": v2() + v2("192.0.2.2"),
    "version 1, then version 2": v1() + v2("192.0.2.2"),
    "LOCAL, then a client": raw_v2(LOCAL, UNSPEC) + v2(),
    "header, then plain HTTP": v1() + b"POST / HTTP/1.1\r\n\r\n",
    "plain HTTP": b"POST / HTTP/1.1\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n",
    "v2 with a byte too many": v2() + b"\0",
    "v2 that announces a byte too few": raw_v2(PROXY, TCP4, pair("192.0.2.1") + b"x", 12),
}


@pytest.mark.parametrize("name", VALID)
def test_records_the_client_of_the_header(proxied, name):
    preface, address = VALID[name]
    assert proxied.call(name, preface) == 200
    assert proxied.address_of(name) == address


@pytest.mark.parametrize("name", MALFORMED)
def test_closes_the_connection_after_a_malformed_header(proxied, name):
    before = proxied.headers("malformed")
    assert proxied.is_closed(name, MALFORMED[name])
    assert proxied.headers("malformed") == before + 1
    assert proxied.daemon.groups(name) == []


@pytest.mark.parametrize("name", NOT_TLS)
def test_fails_the_handshake_without_a_header(proxied, name):
    before = proxied.headers("malformed")
    assert proxied.is_closed(name, NOT_TLS[name])
    assert proxied.headers("malformed") == before
    assert proxied.daemon.groups(name) == []


@pytest.mark.parametrize("name", [name for name, (preface, _) in VALID.items() if preface])
def test_a_header_from_any_other_peer_is_a_broken_handshake(proxied, name):
    before = [proxied.headers(result) for result in ("client", "local", "malformed")]
    assert proxied.is_closed(f"stranger {name}", VALID[name][0], STRANGER)
    assert [proxied.headers(result) for result in ("client", "local", "malformed")] == before
    assert proxied.daemon.groups(f"stranger {name}") == []


def test_counts_headers_by_result(proxied):
    before = {result: proxied.headers(result) for result in ("client", "local", "malformed")}
    for preface in (v1(), v2(), raw_v2(LOCAL, UNSPEC), b"PROXY UNKNOWN\r\n", b""):
        assert proxied.call("counted", preface) == 200
    assert proxied.is_closed("malformed", v1("x"))
    after = {result: proxied.headers(result) for result in before}
    assert {result: after[result] - before[result] for result in after} == {"client": 2, "local": 2, "malformed": 1}


# Headers in pieces

@pytest.mark.parametrize("header", [v1(), v2(tlvs=TLVS)], ids=["v1", "v2"])
@pytest.mark.parametrize("step", [1, 2, 3, 7, 50], ids=str)
def test_reads_a_header_in_small_segments(proxied, header, step):
    """The whole ClientHello arrives in small segments too."""
    name = f"segments of {step} after {header[:1]}"
    with Segments(proxied.daemon, header, lambda length: [step] * (length // step)) as connection:
        assert connection.status_of(daemon.request(daemon.event(GroupId=name))) == 200
    assert proxied.address_of(name) == "192.0.2.1"


@pytest.mark.parametrize("header", [v1(), v2()], ids=["v1", "v2"])
def test_reads_a_header_that_is_split_anywhere(proxied, header):
    """The second segment starts within the header, or within the first 12 bytes of the ClientHello."""
    for at in range(len(header) + 12):
        name = f"split {at} of {header[:1]}"
        with Segments(proxied.daemon, header, lambda _, at=at: [at]) as connection:
            assert connection.status_of(daemon.request(daemon.event(GroupId=name))) == 200, at
        assert proxied.address_of(name) == "192.0.2.1"


def test_reads_a_large_header_in_pieces(proxied):
    header = v2(tlvs=tlv(0x04, bytes(2048 - 12 - 3)))
    with Segments(proxied.daemon, header, lambda length: [100] * (length // 100)) as connection:
        assert connection.status_of(daemon.request(daemon.event(GroupId="large in pieces"))) == 200
    assert proxied.address_of("large in pieces") == "192.0.2.1"


def test_reads_a_header_that_waits_byte_by_byte(proxied):
    """The daemon leaves an incomplete header in the kernel's buffer until the last byte arrives."""
    one = proxied.daemon
    header = v2()
    with one.connect_plain() as plain:
        for i in range(len(header)):
            plain.sendall(header[i:i + 1])
            if i + 1 < len(header):
                daemon.eventually(lambda: unread_bytes(one.port) == i + 1, "the byte in the kernel's buffer")
        daemon.eventually(lambda: unread_bytes(one.port) == 0, "the end of the header")
        with one.tls_context().wrap_socket(plain, server_hostname="localhost") as tls:
            tls.sendall(daemon.request(daemon.event(GroupId="waits")))
            assert tls.recv(12) == b"HTTP/1.1 200"
    assert proxied.address_of("waits") == "192.0.2.1"


# X-Forwarded-For

XFF = "X-Forwarded-For: "

# Maps the name of a case to the headers of a request and to the address that the daemon must record if the trusted
# proxy sends the request.
FORWARDED = {
    "nothing": ([], PEER),
    "IPv4": ([XFF + "192.0.2.1"], "192.0.2.1"),
    "IPv4 with port": ([XFF + "192.0.2.1:54321"], "192.0.2.1"),
    "IPv6": ([XFF + "2001:db8::7"], "2001:db8::7"),
    "IPv6 in brackets": ([XFF + "[2001:db8::7]"], "2001:db8::7"),
    "IPv6 in brackets with port": ([XFF + "[2001:db8::7]:54321"], "2001:db8::7"),
    "mapped IPv4": ([XFF + "::ffff:192.0.2.9"], "192.0.2.9"),
    "name in another case": (["x-FORWARDED-for: 192.0.2.1"], "192.0.2.1"),
    "space around": ([XFF + " \t 192.0.2.1 \t "], "192.0.2.1"),
    "two entries": ([XFF + "203.0.113.9, 192.0.2.1"], "192.0.2.1"),
    "two entries without space": ([XFF + "203.0.113.9,192.0.2.1"], "192.0.2.1"),
    "many entries": ([XFF + "203.0.113.9, " * 200 + "192.0.2.1"], "192.0.2.1"),
    "two lines": ([XFF + "203.0.113.9", XFF + "192.0.2.1"], "192.0.2.1"),
    "three lines of two entries":
        ([XFF + "203.0.113.9, 203.0.113.8", XFF + "203.0.113.7, 203.0.113.6", XFF + "203.0.113.5, 192.0.2.1"],
         "192.0.2.1"),
    "lines with others between":
        ([XFF + "203.0.113.9", "X-Forwarded-Proto: https", XFF + "192.0.2.1", "X-Real-IP: 203.0.113.8"], "192.0.2.1"),
    # Hostile: the client itself has sent the first entries or lines, or headers with other names.
    "forged garbage": ([XFF + "'; DROP TABLE, [, ::::, 192.0.2.1"], "192.0.2.1"),
    "forged empty entries": ([XFF + ",, ,192.0.2.1"], "192.0.2.1"),
    "forged line": ([XFF + "127.0.0.1", XFF + "192.0.2.1"], "192.0.2.1"),
    "forged other names":
        (["Forwarded: for=203.0.113.9", "X-Real-IP: 203.0.113.9", "X-Forwarded: 203.0.113.9",
          "X_Forwarded_For: 203.0.113.9", "X-Forwarded-For-: 203.0.113.9", "Client-IP: 203.0.113.9"], PEER),
    # Hostile: the last entry is not an address. No earlier entry may count instead.
    "unknown": ([XFF + "192.0.2.1, unknown"], PEER),
    "hidden": ([XFF + "192.0.2.1, _hidden"], PEER),
    "Unix socket": ([XFF + "192.0.2.1, unix:"], PEER),
    "empty": ([XFF], PEER),
    "empty last entry": ([XFF + "192.0.2.1,"], PEER),
    "empty last line": ([XFF + "192.0.2.1", XFF], PEER),
    "host name": ([XFF + "192.0.2.1, localhost"], PEER),
    "block": ([XFF + "192.0.2.0/24"], PEER),
    "number": ([XFF + "3221225985"], PEER),
    "zero in front": ([XFF + "192.0.2.01"], PEER),
    "quotes": ([XFF + '"192.0.2.1"'], PEER),
    "port out of range": ([XFF + "192.0.2.1:65536"], PEER),
    "empty port": ([XFF + "192.0.2.1:"], PEER),
    "IPv4 in brackets": ([XFF + "[192.0.2.1]"], PEER),
    "unclosed bracket": ([XFF + "[2001:db8::7"], PEER),
    "zone": ([XFF + "fe80::1%lo"], PEER),
    "semicolon": ([XFF + "192.0.2.1; 192.0.2.2"], PEER),
    "long": ([XFF + "0" * 4000], PEER),
}


@pytest.mark.parametrize("name", FORWARDED)
def test_records_the_last_entry(proxied, name):
    headers, address = FORWARDED[name]
    assert proxied.call(f"xff {name}", headers=headers) == 200
    assert proxied.address_of(f"xff {name}") == address


@pytest.mark.parametrize("name", FORWARDED)
def test_ignores_entries_from_any_other_peer(proxied, name):
    assert proxied.call(f"xff stranger {name}", headers=FORWARDED[name][0], source=STRANGER) == 200
    assert proxied.address_of(f"xff stranger {name}") == STRANGER


@pytest.mark.parametrize("preface, address", [
    (v1(), "192.0.2.1"), (v2("2001:db8::7"), "2001:db8::7"), (raw_v2(LOCAL, UNSPEC), PEER),
    (raw_v2(PROXY, UNSPEC), PEER), (b"PROXY UNKNOWN\r\n", PEER),
], ids=["v1", "v2", "LOCAL", "UNSPEC", "UNKNOWN"])
def test_ignores_entries_after_a_header(proxied, preface, address):
    """Behind a proxy that passes TLS through, the client itself has sent X-Forwarded-For."""
    name = f"xff after {preface[:20]}"
    assert proxied.call(name, preface, [XFF + "203.0.113.9"]) == 200
    assert proxied.address_of(name) == address


def test_each_request_has_its_own_client(proxied):
    """A proxy sends the requests of many clients on one connection."""
    expected = ["192.0.2.1", "2001:db8::7", PEER, "192.0.2.2", PEER, "192.0.2.1"]
    headers = [[XFF + address] if address != PEER else [] for address in expected]
    headers[2] = [XFF + "unknown"]
    with proxied.daemon.connect() as connection:
        for i, lines in enumerate(headers):
            assert connection.call(f"keep-alive {i}", lines).status == 200
    assert [proxied.address_of(f"keep-alive {i}") for i in range(len(expected))] == expected


def test_rejected_callbacks_have_the_client_address(proxied):
    with proxied.daemon.connect() as connection:
        assert connection.answer_to(daemon.request(b"{", headers=[XFF + "192.0.2.77"])).status == 400
    assert [row["remote_address"] for row in proxied.daemon.rejected()][-1:] == ["192.0.2.77"]


def test_log_lines_name_the_client(make_daemon):
    one = make_daemon({"listen": {"trusted_proxies": PEER}}).start()
    wrong = daemon.query_string(token="another")
    with one.connect() as connection:
        assert connection.answer_to(daemon.request(b"{}", wrong, [XFF + "192.0.2.77"])).status == 403
    daemon.eventually(lambda: "refused sign_wrong from 192.0.2.77" in one.log, "the line")
    with one.connect(preface=v2("2001:db8::7")) as connection:
        assert connection.answer_to(daemon.request(b"{}", headers=["Host: again"])).status == 400
    daemon.eventually(lambda: "refused bad_framing from 2001:db8::7" in one.log, "the line")
    with one.locked(), one.connect() as connection:  # an event that cannot be recorded goes into the log
        connection.send(daemon.request(daemon.event(GroupId="lost"), headers=[XFF + "192.0.2.78"]))
        assert connection.read_answer().status == 503
    assert re.search(r"not recorded: a callback of app \d+ from 192\.0\.2\.78 at ", one.log)


# allow_from

@pytest.mark.parametrize("preface, is_accepted", [
    (v1(ALLOWED), True), (v2(ALLOWED), True), (v2(f"::ffff:{ALLOWED}"), True), (v1("192.0.2.2"), False),
    (v2("2001:db8::7"), False), (v2("127.0.0.1"), False),
], ids=["v1", "v2", "mapped", "other v1", "other v2", "proxy"])
def test_checks_the_client_of_the_header(restricted, preface, is_accepted):
    name = f"allow {preface.hex()}"
    assert restricted.is_closed(name, preface) != is_accepted
    assert len(restricted.daemon.groups(name)) == is_accepted


@pytest.mark.parametrize("headers, status", [
    ([XFF + ALLOWED], 200), ([XFF + "203.0.113.9, " + ALLOWED], 200), ([XFF + f"[::ffff:{ALLOWED}]:1"], 200),
    ([XFF + "192.0.2.2"], 403), ([], 403),
    # Hostile: the client forges an address.
    ([XFF + ALLOWED + ", 192.0.2.2"], 403), ([XFF + ALLOWED, XFF + "192.0.2.2"], 403), ([XFF + ALLOWED + ","], 403),
    ([XFF + ALLOWED + ", unknown"], 403), ([XFF + ALLOWED, XFF], 403), ([XFF + ALLOWED + " 192.0.2.2"], 403),
    (["Forwarded: for=" + ALLOWED], 403), (["X-Real-IP: " + ALLOWED], 403), ([XFF + PEER], 403),
    ([XFF + ALLOWED + "\0", "X: y"], 400), ([XFF + "192.0.2.2\n" + XFF + ALLOWED], 400),
    ([XFF + "192.0.2.2\r\n " + ALLOWED], 400), ([XFF[:-2] + " : " + ALLOWED], 400),
], ids=repr)
def test_checks_each_request(restricted, headers, status):
    name = f"each {headers!r}".replace("\\", "/")
    with restricted.daemon.connect() as connection:
        connection.send(daemon.request(daemon.event(GroupId=name), headers=headers))
        text = connection.read_rest() if status != 200 else connection.read_head()
        # libmicrohttpd 1.0 answers malformed heads itself or closes the connection.
        assert text.startswith(f"HTTP/1.1 {status} ".encode()) or (status == 400 and not text), text
    assert len(restricted.daemon.groups(name)) == (status == 200)


@pytest.mark.parametrize("preface", [raw_v2(LOCAL, UNSPEC), raw_v2(PROXY, UNSPEC), b"PROXY UNKNOWN\r\n"],
                         ids=["LOCAL", "UNSPEC", "UNKNOWN"])
def test_checks_the_proxy_after_a_header_without_a_client(restricted, preface):
    """The handshake succeeds, because a health check may need it. A request is refused."""
    assert restricted.call("own", preface, [XFF + ALLOWED]) == 403
    assert restricted.daemon.groups("own") == []


def test_explains_a_hidden_client(restricted):
    with restricted.daemon.connect() as connection:
        answer = connection.answer_to(daemon.request(daemon.event(), headers=[XFF + "unknown"]))
    assert (answer.status, answer.code) == (403, 120006)
    assert "The last entry of X-Forwarded-For is not an address." in answer.json["ErrorInfo"]


def test_a_proxy_in_allow_from_hides_no_client(make_daemon):
    """The proxy may call, but a client that the proxy hides may not."""
    one = make_daemon({"listen": {"trusted_proxies": PEER}, "callback": {"allow_from": PEER}}).start()
    for headers, status in (([], 200), ([XFF + "unknown"], 403), ([XFF], 403), ([XFF + PEER + ","], 403),
                            ([XFF + "192.0.2.1"], 403), ([XFF + PEER], 200)):
        with one.connect() as connection:
            assert connection.answer_to(daemon.request(daemon.event(), headers=headers)).status == status, headers


def test_other_peers_need_their_own_address_in_allow_from(restricted):
    for preface in (b"", v2(ALLOWED)):
        assert restricted.is_closed("stranger", preface, STRANGER)
    assert restricted.daemon.groups("stranger") == []
