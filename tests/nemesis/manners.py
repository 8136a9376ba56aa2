"""How clients send that are slow, hostile or leave early. Each function carries out one call from its connection to the
line that ends the call in the history."""

import contextlib
import ssl

END_WAIT_S = 30  # longer than each deadline of the receiver
ANSWER_WAIT_S = 20
PIECES = 6
PIECE_PAUSE_S = 0.4


def read_last_answer(call, connection):
    """Reads an answer and the end of the connection, which a fault may delay. A second answer 200 means that the
    receiver has accepted what follows the request."""
    try:
        answer = connection.read_answer(ANSWER_WAIT_S)
        if not connection.read_to_end(END_WAIT_S):
            answer.note = "the connection stays open"
        elif b"HTTP/1.1 200" in connection.unread:
            answer.status, answer.note = None, f"a second answer: {connection.unread[:300]!r}"
        elif (answer.http_status, None) in call.operation.allowed:
            answer.status = answer.http_status
        call.answered(answer)
    except OSError as error:
        call.failed(error)


def last(call):
    """The request must be the last one of its connection."""
    with contextlib.closing(call.connect()) as connection:
        connection.send(b"".join(call.request()))
        read_last_answer(call, connection)


def raw(call):
    with contextlib.closing(call.connect()) as connection:
        connection.send(call.operation.body)
        read_last_answer(call, connection)


def wait_closed(call, connection):
    if connection.read_to_end(END_WAIT_S):
        call.closed()
    else:
        call.failed(TimeoutError("the connection stays open"))


def plain(call):
    """The bytes are not a TLS record. The receiver may answer with an alert."""
    with contextlib.closing(call.connect(tls=False)) as connection:
        connection.send(call.operation.body)
        wait_closed(call, connection)


def half_hello(call):
    outgoing = ssl.MemoryBIO()
    handshake = call.clients.context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        handshake.do_handshake()
    hello = outgoing.read()
    with contextlib.closing(call.connect(tls=False)) as connection:
        connection.send(hello[:len(hello) // 2])
        wait_closed(call, connection)


def drip(call, data, connection):
    size = -(-len(data) // PIECES)
    for start in range(0, len(data), size):
        connection.send(data[start:start + size])
        call.clients.stopped.wait(PIECE_PAUSE_S)


def drip_head(call):
    head, content = call.request()
    with contextlib.closing(call.connect()) as connection:
        drip(call, head, connection)
        connection.send(content)
        call.answered(connection.read_answer(ANSWER_WAIT_S))


def drip_body(call):
    head, content = call.request()
    with contextlib.closing(call.connect()) as connection:
        connection.send(head)
        drip(call, content, connection)
        call.answered(connection.read_answer(ANSWER_WAIT_S))


def never_ends(call):
    head, content = call.request()
    with contextlib.closing(call.connect()) as connection:
        connection.send(head + content[:len(content) // 2])
        call.answered(connection.read_answer(END_WAIT_S))


def leave(call):
    with contextlib.closing(call.connect()) as connection:
        connection.send(b"".join(call.request()))
    raise ConnectionError("the client left")


def reset(call):
    """The client resets the connection at about the time when the receiver holds the request."""
    connection = call.connect()
    try:
        connection.send(b"".join(call.request()))
        call.clients.stopped.wait(call.operation.op % 20 / 1000)
    finally:
        connection.reset()
    raise ConnectionError("the client reset the connection")


def idle(call):
    """The connection stays open without a request, on every second call without a handshake."""
    call.clients.keep_idle(call.connect(tls=call.operation.op % 2 == 0))
    call.closed()


MANNERS = {function.__name__: function for function in (
    last, raw, plain, half_hello, drip_head, drip_body, never_ends, leave, reset, idle)}
