"""The clients of a run: threads that send the operations of a workload through the balancer, and record in the history
when each call starts and how it ends.

An honest client does what the cloud does: it keeps its connection, opens another one after an error, and sends an event
again if it has no answer."""

import collections
import concurrent.futures
import dataclasses
import itertools
import random
import ssl
import threading
import time

from connection import Connection
from manners import MANNERS

SLOW_AT_ONCE = 12  # slow and hostile clients at the same time, besides the threads
IDLE_CONNECTIONS = 48
ATTEMPTS = 5


class Clients:
    """All clients. Each has addresses of its own in 127.1.0.0/16."""

    def __init__(self, history, workload, target, ca_file, credentials, count=12, rate=40):
        """target: host and port of the balancer; credentials: token(app) returns the token to sign with, and now() the
        time to sign with; count: the number of threads; rate: operations per second of all threads together."""
        self.history, self.workload, self.target, self.credentials = history, workload, target, credentials
        self.count, self.rate = count, rate
        self.context = ssl.create_default_context(cafile=ca_file)
        self.slow, self.slow_places = None, threading.BoundedSemaphore(SLOW_AT_ONCE)
        self.idle = collections.deque()
        self.stopped = threading.Event()
        self.threads, self.members = [], []

    def start(self, only_honest=False):
        self.stopped.clear()
        self.slow = concurrent.futures.ThreadPoolExecutor(SLOW_AT_ONCE)
        self.members = [Client(self, number, only_honest) for number in range(1, self.count + 1)]
        self.threads = [threading.Thread(target=member.run, daemon=True) for member in self.members]
        for thread in self.threads:
            thread.start()

    def stop(self):
        """Waits until every call has ended, and ends the threads."""
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        if self.slow:
            self.slow.shutdown()
        while self.idle:
            self.idle.popleft().close()
        self.threads = []

    def forget(self):
        """No client sends an event once more that it has sent so far; see Workload.forget()."""
        self.workload.forget()
        for member in self.members:
            member.again.clear()

    def keep_idle(self, connection):
        """Keeps the connection open without a request, and closes the oldest one of too many."""
        self.idle.append(connection)
        if len(self.idle) > IDLE_CONNECTIONS:
            self.idle.popleft().close()


class Call:
    """One attempt of an operation, from the line "invoke" of the history to the line that ends the attempt."""

    def __init__(self, clients, operation, attempt, source):
        self.clients, self.operation, self.attempt, self.source = clients, operation, attempt, source
        self.started = time.monotonic()
        clients.history.record("invoke", attempt=attempt, **operation.invocation(source))

    def request(self):
        """Returns the head and the content, signed now."""
        credentials = self.clients.credentials
        return self.operation.head_and_content(credentials.token(self.operation.app), credentials.now())

    def connect(self, session=None, tls=True):
        return Connection(self.clients.target, self.source, self.clients.context if tls else None, session)

    def _end(self, kind, **fields):
        self.clients.history.record(kind, op=self.operation.op, attempt=self.attempt, **fields)

    def _latency_s(self):
        return round(time.monotonic() - self.started, 6)

    def answered(self, answer):
        note = {"note": answer.note} if answer.note else {}
        self._end("answer", status=answer.status, code=answer.code, latency_s=self._latency_s(), **note)
        return answer.status

    def closed(self):
        self._end("closed")

    def failed(self, error):
        """Records that the call has no answer, which some operations may end with."""
        if self.operation.may_be_closed and not isinstance(error, TimeoutError):
            self.closed()
        else:
            self._end("unknown", error=f"{type(error).__name__}: {error}", latency_s=self._latency_s())


class Client:
    """One thread with its connection, and the operations that it sends again later."""

    def __init__(self, clients, number, only_honest):
        self.clients, self.number, self.only_honest = clients, number, only_honest
        self.dice = random.Random(f"{clients.workload.seed} client {number}")
        self.addresses = itertools.count()
        self.connection = self.session = None
        self.again = collections.deque()  # (time, operation, attempt)

    def run(self):
        due = time.monotonic() + self.dice.random() * self.clients.count / self.clients.rate
        while not self.clients.stopped.wait(max(0, due - time.monotonic())):
            self.step()
            due += self.dice.uniform(0.5, 1.5) * self.clients.count / self.clients.rate
            due = max(due, time.monotonic() - 1)  # a client that was held up does not catch up for long
        self.leave()

    def step(self):
        operation, attempt = self.next_to_send_again() or (self.clients.workload.next(self.only_honest), 1)
        if operation.manner == "call":
            self.finish(self.call, operation, attempt)
        elif self.clients.slow_places.acquire(blocking=False):
            self.clients.slow.submit(self.finish, self.misuse, operation, attempt).add_done_callback(
                lambda _: self.clients.slow_places.release())

    def next_to_send_again(self):
        try:
            due, *call = self.again.popleft()
        except IndexError:
            return None
        if due <= time.monotonic():
            return call
        self.again.append((due, *call))
        return None

    def finish(self, how, *arguments):
        try:
            how(*arguments)
        except Exception as error:  # a fault of the test itself must not stay unnoticed in a thread
            self.clients.history.record("note", text=f"the client failed: {error!r}")
            raise

    def new_address(self):
        return f"127.1.{self.number}.{1 + next(self.addresses) % 250}"

    def call(self, operation, attempt):
        if self.connection and (operation.elsewhere or self.connection.has_ended() or self.dice.random() < 0.02):
            self.leave()
        source = self.connection.source if self.connection else self.new_address()
        call = Call(self.clients, operation, attempt, source)
        try:
            if not self.connection:
                self.connection = call.connect(self.session if self.dice.random() < 0.5 else None)
            self.connection.send(b"".join(call.request()), operation.patience_s)
            answer = self.connection.read_answer(operation.patience_s - (time.monotonic() - call.started))
        except OSError as error:
            call.failed(error)
            self.leave()
            self.send_again(operation, attempt, 0.75)
            return
        if call.answered(answer) == 503:
            self.send_again(operation, attempt, 0.75)
        self.session = self.connection.session
        if answer.closes or answer.status is None:
            self.leave()

    def misuse(self, operation, attempt):
        call = Call(self.clients, operation, attempt, self.new_address())
        try:
            MANNERS[operation.manner](call)
        except OSError as error:
            call.failed(error)
            self.send_again(dataclasses.replace(operation, manner="call"), attempt, 0.5)

    def send_again(self, operation, attempt, probability):
        if operation.may_be_sent_again and attempt < ATTEMPTS and self.dice.random() < probability:
            self.again.append((time.monotonic() + self.dice.uniform(0, 3), operation, attempt + 1))

    def leave(self):
        if self.connection:
            self.connection.close()
        self.connection = None
