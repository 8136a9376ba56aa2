"""What a client sends in one operation of the workload, and what the receiver may make of it.

An operation is complete before it is sent, except for the signature: the token and the time come from the client when
it sends the request."""

import dataclasses
import hashlib
import urllib.parse

COMMAND = "Group.CallbackAfterGroupDestroyed"
OK = (200, 0)


def digest(data):
    return hashlib.sha256(data).hexdigest()


def sign(token, request_time):
    return digest((token + request_time).encode())


def request_time(_, seconds):
    return seconds


@dataclasses.dataclass(frozen=True)
class Query:
    """The parameters of a query in order. A value is a text, None for a name without "=", or a function of the token
    and of RequestTime."""
    parameters: tuple
    shift_s: int = 0  # the difference between RequestTime and the clock

    def text(self, token, now):
        seconds = str(int(now) + self.shift_s)
        pairs = []
        for name, value in self.parameters:
            value = value(token, seconds) if callable(value) else value
            pairs.append(name if value is None else f"{name}={urllib.parse.quote(str(value), safe='')}")
        return "&".join(pairs)

    def get(self, name):
        """Returns the value that the receiver records for this parameter."""
        return next((value or "" for known, value in self.parameters if known.lower() == name.lower()), "")

    def without(self, *names):
        return dataclasses.replace(self, parameters=tuple(pair for pair in self.parameters if pair[0] not in names))

    def having(self, name, value):
        """Returns the query with this value in place of the value of the parameter."""
        return dataclasses.replace(self, parameters=tuple(
            (known, value if known == name else old) for known, old in self.parameters))

    def adding(self, name, value):
        return dataclasses.replace(self, parameters=(*self.parameters, (name, value)))


@dataclasses.dataclass(frozen=True)
class Form:
    """The request around the body: start line, header lines, and the bytes in place of the plain body."""
    method: str = "POST"
    path: str = "/"
    lines: tuple = ("Host: localhost", "Content-Length: LENGTH")
    content: object = None  # a function of the body, such as one that divides it into chunks
    followed_by: object = None  # a function of the target, for the bytes after the request

    def head(self, target, length):
        lines = [f"{self.method} {target} HTTP/1.1", *self.lines]
        return "\r\n".join(lines).replace("LENGTH", str(length)).encode("latin-1") + b"\r\n\r\n"

    def adding_lines(self, *lines):
        return dataclasses.replace(self, lines=self.lines + lines)


def chunks(body):
    """Returns the body in one chunk."""
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"


CHUNKED = Form(lines=("Host: localhost", "Transfer-Encoding: chunked"), content=chunks)


@dataclasses.dataclass(frozen=True)
class Operation:
    """One call, and what the receiver may answer and must record."""
    op: int
    kind: str
    app: int
    query: Query
    body: bytes
    allowed: tuple = (OK,)  # the pairs of HTTP status and ErrorCode that the receiver may answer besides 503
    honest: bool = False
    expect: dict = None  # the row to be recorded, without remote_address
    identity: tuple = None  # (app, group, time in ms or None)
    form: Form = Form()
    manner: str = "call"  # how the client sends the request; see MANNERS in clients.py
    patience_s: float = 20  # the time after which the client gives up
    elsewhere: bool = False  # sent over a new connection from another address
    may_be_closed: bool = False  # the end of the connection is a proper answer

    @property
    def may_be_sent_again(self):
        """An event without a time must not be sent again, because each receiver would record it."""
        return self.identity is not None and self.identity[2] is not None

    def head_and_content(self, token, now):
        """Returns the head of the request and the bytes after the head."""
        target = f"{self.form.path}?{self.query.text(token, now)}"
        content = self.form.content(self.body) if self.form.content else self.body
        rest = self.form.followed_by(target) if self.form.followed_by else b""
        return self.form.head(target, len(self.body)), content + rest

    def invocation(self, client):
        """Returns the fields of the line "invoke" of the history. client: the address from which the request comes."""
        return {"op": self.op, "client": client, "kind": self.kind, "honest": self.honest,
                "expect": self.expect and self.expect | {"remote_address": client},
                "identity": self.identity, "allowed": self.allowed, "digest": digest(self.body)}
