"""Acts as an application's HTTP endpoint in a process of its own. The arguments are the port, the path of the journal,
and a JSON object {"certificate": [PEM, key] or null, "client_ca": PEM, "tls": [lowest, highest], "script": {...}}. The
process prints its port, and answers each command of standard input, a JSON object per line, with the line "done". It
appends a line to the journal when a request has arrived, and another one before the answer is sent or when the
connection is lost."""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import ssl
import struct
import sys
import time

OK = {"status": 200, "body": '{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}'}
ENDLESS_PART = b"10000\r\n" + b" " * 0x10000 + b"\r\n"


class Journal:
    """Appends lines about the requests to a file. A line is in the file when the function that writes it returns, so a
    kill of the process loses none."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.next = os.lseek(self.fd, 0, os.SEEK_END)  # a number that no earlier process has used

    def write(self, line):
        os.write(self.fd, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def add_request(self, line):
        self.next += 1
        self.write({"request": self.next, "time": time.time()} | line)
        return self.next

    def end(self, number, how, answer=None):
        self.write({"end": number, "time": time.time(), "how": how, "answer": answer})


class Script:
    """Chooses the answer to each request: from the list of the request's group if there is one, otherwise by a weighted
    draw from the mix if there is one, otherwise from the usual list. A request removes the answer that it gets from the
    list, unless the answer is the last one. An answer is a dictionary; see Connection.answer()."""

    def __init__(self, groups=None, usual=None, mix=None, seed=0):
        self.groups = groups or {}
        self.usual = usual or [OK]
        self.mix = mix  # [[weight, answer], ...]
        self.random = random.Random(seed)

    def next(self, group):
        if group not in self.groups and self.mix:
            weights, answers = zip(*self.mix)
            return self.random.choices(answers, weights)[0]
        answers = self.groups.get(group, self.usual)
        return answers.pop(0) if len(answers) > 1 else answers[0]


def is_accepted(answer):
    """Returns whether the answer is an acceptance according to imcallbackd-deliver(8). An answer with a fault is a
    failure, except "endless": deliver stops reading an endless body, and the status alone decides."""
    if answer.get("fault") not in (None, "endless"):
        return False
    body = None
    with contextlib.suppress(ValueError):
        body = json.loads(answer.get("body", ""))
    failed = isinstance(body, dict) and body.get("ActionStatus") == "FAIL"
    return 200 <= answer["status"] < 300 and not failed


class Connection(asyncio.Protocol):
    """Reads requests with a Content-Length, one after the other, and answers them as the script says. The tests check
    the form of the requests in the journal."""

    count = 0

    def __init__(self, server):
        self.server = server
        self.data = b""
        self.busy = None  # the number of the request that is not answered yet
        Connection.count += 1
        self.number = f"{os.getpid()}-{Connection.count}"

    def connection_made(self, transport):
        self.transport = transport
        self.server.connections.add(self)

    def connection_lost(self, error):
        self.server.connections.discard(self)
        self.end("closed")

    def end(self, how, answer=None):
        if self.busy is not None:
            self.server.journal.end(self.busy, how, answer)
            self.busy = None

    def data_received(self, data):
        self.data += data
        if self.busy is not None:
            return
        head, separator, body = self.data.partition(b"\r\n\r\n")
        if not separator:
            return
        line, *lines = head.decode("latin-1").split("\r\n")
        headers = [[part.strip() for part in each.split(":", 1)] for each in lines]
        named = {name.lower(): value for name, value in headers}
        if named.get("expect", "").lower() == "100-continue" and not body:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = int(named.get("content-length", 0))
        if len(body) >= length:
            self.data = body[length:]
            self.handle(line, headers, body[:length])

    def handle(self, line, headers, body):
        group = None
        with contextlib.suppress(ValueError, AttributeError):
            group = json.loads(body.decode("utf-8", "replace")).get("GroupId")
        tls = self.transport.get_extra_info("ssl_object")
        client = tls.getpeercert() if tls else None
        answer = self.server.script.next(group)
        self.busy = self.server.journal.add_request({
            "connection": self.number, "line": line, "headers": headers, "body": body.decode("latin-1"),
            "group": group, "tls": tls and tls.version(), "resumed": bool(tls and tls.session_reused),
            "client": client and client["subject"][0][0][1], "port": self.transport.get_extra_info("sockname")[1]})
        if answer.get("delay_s"):
            asyncio.get_running_loop().call_later(answer["delay_s"], self.answer, answer, self.busy)
        else:
            self.answer(answer, self.busy)

    def answer(self, answer, number):
        """Sends an answer: {"status", "body", "headers": {}, "close": true, "delay_s", "fault"}. All keys except
        "status" are optional. "fault" is "hang" or the name of one of the methods from cut_before() to drip()."""
        if self.busy != number:
            return  # the client has closed the connection meanwhile
        fault = answer.get("fault")
        if fault == "hang":
            return  # connection_lost() writes the end to the journal
        self.end("answered" if not fault else fault, answer | {"accepted": is_accepted(answer)})
        if fault:
            getattr(self, fault)(answer)
            return
        self.transport.write(self.head(answer) + self.body(answer))
        if answer.get("close"):
            self.transport.close()
        elif self.data:
            self.data_received(b"")

    @staticmethod
    def body(answer):
        return answer.get("body", "").encode("latin-1")

    def head(self, answer, framing=None):
        body = self.body(answer)
        headers = {"Content-Type": "application/json"} | answer.get("headers", {})
        if answer["status"] != 204:
            headers |= framing or {"Content-Length": len(body)}
        if answer.get("close"):
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {answer['status']} Answer", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    # Faults

    def cut_before(self, _):
        self.transport.abort()

    def cut_in_head(self, answer):
        self.transport.write(self.head(answer)[:-9])
        self.transport.close()

    def cut_in_body(self, answer):
        self.transport.write(self.head(answer) + self.body(answer)[:-1])
        self.transport.close()

    def reset(self, answer):
        """Sends the head of the answer and then resets the connection: with a linger time of 0, close() sends RST."""
        self.transport.write(self.head(answer))
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def garbage(self, _):
        self.transport.write(b"\0\1\2 this is not HTTP\r\n\r\n")
        self.transport.close()

    def endless(self, answer):
        self.transport.write(self.head(answer, {"Transfer-Encoding": "chunked"}))
        self.server.keep(self.repeat(ENDLESS_PART, 0))

    def endless_head(self, answer):
        self.transport.write(self.head(answer)[:-2])
        self.server.keep(self.repeat(b"X-Filling: " + b"x" * 1000 + b"\r\n", 0))

    def drip(self, answer):
        self.transport.write(self.head(answer, {"Content-Length": 100_000}))
        self.server.keep(self.repeat(b" ", 0.1))

    async def repeat(self, part, pause_s):
        """Sends this part again and again until the client closes the connection."""
        while not self.transport.is_closing():
            if self.transport.get_write_buffer_size() < 1 << 20:
                self.transport.write(part)
            await asyncio.sleep(pause_s or 0.001)


class Server:
    """The listening socket, the TLS context, the open connections, and the script, which a command can replace."""

    def __init__(self, port, journal, options):
        self.port = port
        self.journal = Journal(journal)
        self.journal.write({"start": os.getpid(), "time": time.time()})
        self.connections, self.tasks = set(), set()
        self.script = Script(**options.get("script", {}))
        self.context = None
        if options.get("certificate"):
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.set_ciphers("DEFAULT:@SECLEVEL=0")
            lowest, highest = options.get("tls", ("TLSv1_2", "TLSv1_3"))
            self.context.minimum_version = ssl.TLSVersion[lowest]
            self.context.maximum_version = ssl.TLSVersion[highest]
            self.context.load_cert_chain(*options["certificate"])
            if options.get("client_ca"):
                self.context.verify_mode = ssl.CERT_REQUIRED
                self.context.load_verify_locations(options["client_ca"])

    def keep(self, coroutine):
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def listen(self):
        self.listener = await asyncio.get_running_loop().create_server(
            lambda: Connection(self), "127.0.0.1", self.port, ssl=self.context, reuse_address=True, backlog=1024)
        self.port = self.listener.sockets[0].getsockname()[1]

    def command(self, command):
        if "script" in command:
            self.script = Script(**command["script"])
        if command.get("disconnect"):
            for connection in list(self.connections):
                connection.transport.abort()

    async def run(self):
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, over.set)
        commands = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        await self.listen()
        print(self.port, flush=True)

        async def obey():
            while line := await commands.readline():
                self.command(json.loads(line))
                print("done", flush=True)
            over.set()  # the end of standard input: the test has ended

        self.keep(obey())
        await over.wait()
        self.listener.close()
        while any(connection.busy is not None for connection in self.connections):
            await asyncio.sleep(0.005)


if __name__ == "__main__":
    asyncio.run(Server(int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])).run())
