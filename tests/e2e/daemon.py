"""Runs the daemon under test and uses it as its operators and clients do: files, process, curl, bare TLS, the database.

IMCALLBACKD names the program under test, IMCALLBACKD_LOAD the load generator, and IMCALLBACKD_WRAPPER a command line to
put in front of every `serve`, such as valgrind."""

import atexit
import contextlib
import functools
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.parse

from certificates import make_certificate  # noqa: F401
from log_reader import LogReader
from processes import check_run, eventually, free_port, long_options, passing, run  # noqa: F401

BINARY = os.environ["IMCALLBACKD"]
LOAD = os.environ["IMCALLBACKD_LOAD"]
WRAPPER = shlex.split(os.environ.get("IMCALLBACKD_WRAPPER", ""))
SAMPLES = pathlib.Path(__file__).resolve().parent.parent / "samples"

APP = 1400000001
TOKEN = "xxxxyyyy"
COMMAND = "Group.CallbackAfterGroupDestroyed"
# All columns of destroyed_group except body.
COLUMNS = ("id", "sdk_appid", "group_id", "event_time_ms", "type", "owner_account", "operator_account", "name",
           "member_count", "opt_platform", "client_ip", "remote_address", "received_at_ms")

START_DEADLINE = 20  # seconds; enough for a daemon with a sanitizer
STOP_DEADLINE = 10  # seconds that the manual page allows from SIGTERM to the end of the process


def hard_limit(limit):
    """Returns the number of connections at which the daemon refuses more: the limit plus a reserve. The daemon accepts
    connections in the reserve, because their first requests may be verified callbacks."""
    return limit + limit // 16 + 16


def signature(token=TOKEN, at=None):
    """Returns the parameters Sign and RequestTime, computed without the program under test."""
    request_time = str(int(time.time()) if at is None else at)
    return {"Sign": hashlib.sha256((token + request_time).encode()).hexdigest(), "RequestTime": request_time}


def query_string(token=TOKEN, **parameters):
    """Returns the query of a callback. A given parameter replaces the usual one; None omits the parameter. If token is
    None, Sign and RequestTime are omitted, too."""
    usual = {"SdkAppid": APP, "CallbackCommand": COMMAND, "contenttype": "json", "ClientIP": "203.0.113.7",
             "OptPlatform": "RESTAPI"}
    usual |= signature(token) if token else {}
    return urllib.parse.urlencode({name: value for name, value in (usual | parameters).items() if value is not None})


def event(**fields):
    """Returns the body of a callback. A given field replaces the usual one; None omits the field."""
    usual = {"CallbackCommand": COMMAND, "EventTime": 1670574414123, "GroupId": "@TGS#1", "Type": "Public",
             "Owner_Account": "leckie", "Name": "group", "MemberList": [{"Member_Account": "leckie"}]}
    kept = {name: value for name, value in (usual | fields).items() if value is not None}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode()


def padded(body, length):
    """Returns the body with white space before its last byte, so that it has this length. JSON ignores the white
    space."""
    return body[:-1] + b" " * (length - len(body)) + body[-1:]


@functools.cache
def certificate_directory():
    """Returns the directory with the certificate and the key that all daemons of this process use. The first call makes
    both files."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="imcb-certificate-"))
    atexit.register(shutil.rmtree, directory)
    check_run(BINARY, "certificate", "--host", "localhost", "--host", "127.0.0.1", "--out", directory)
    return directory


class Answer:
    """An HTTP response to a callback."""

    def __init__(self, head, body):
        status_line, *lines = head.decode("latin-1").strip().split("\r\n")
        self.status = int(status_line.split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.text = body.decode()
        self.json = json.loads(self.text) if self.text else None

    def __repr__(self):
        return f"<{self.status} {self.text}>"

    @property
    def code(self):
        return self.json["ErrorCode"]

    @property
    def says_close(self):
        return self.headers.get("connection") == "close"

    def check_form(self):
        """Asserts that the answer has the form that the protocol requires, reveals no secret and, if its status is 4xx,
        has "Connection: close". Returns the answer."""
        assert self.headers["content-type"] == "application/json", self
        assert set(self.json) == {"ActionStatus", "ErrorInfo", "ErrorCode"}, self
        assert type(self.json["ErrorCode"]) is int and type(self.json["ErrorInfo"]) is str, self
        good = self.status == 200
        assert (self.json["ActionStatus"], self.code == 0) == (("OK", True) if good else ("FAIL", False)), self
        assert bool(self.json["ErrorInfo"]) != good, self
        assert TOKEN not in self.text and not re.search("[0-9a-f]{64}", self.text), self
        assert 400 > self.status or self.status > 499 or self.says_close, self
        return self


class Connection:
    """A TLS connection over which a test sends arbitrary bytes."""

    def __init__(self, port, context, to="127.0.0.1", source="", session=None, preface=b""):
        """source: the client's address; session: the TLS session of an earlier connection, which is resumed; preface:
        bytes to send before TLS."""
        plain = socket.create_connection((to, port), timeout=START_DEADLINE, source_address=(source, 0))
        plain.sendall(preface)
        self.tls = context.wrap_socket(plain, server_hostname="localhost", session=session)
        if not self.tls.version():  # after a reset before the handshake, wrap_socket reports no error
            raise ConnectionResetError("reset before the handshake")
        self.unread = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tls.close()

    def send(self, data):
        self.tls.sendall(data)

    def _more(self):
        """Reads some bytes. Returns False when the server has closed or reset the connection."""
        with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
            data = self.tls.recv(65536)
            self.unread += data
            return bool(data)
        return False

    def wait_for_answer(self):
        """Waits until a whole answer is in self.unread. Returns False if the connection ends first."""
        while not re.search(rb"\r\n\r\n.*\}", self.unread, re.DOTALL):
            if not self._more():
                return False
        return True

    def read_head(self):
        while b"\r\n\r\n" not in self.unread:
            assert self._more(), f"closed before the answer; got {self.unread!r}"
        head, _, self.unread = self.unread.partition(b"\r\n\r\n")
        return head

    def read_answer(self):
        head = self.read_head()
        length = int(re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)[1])
        while len(self.unread) < length:
            assert self._more(), "closed within the answer"
        body, self.unread = self.unread[:length], self.unread[length:]
        return Answer(head, body).check_form()

    def answer_to(self, data):
        self.send(data)
        return self.read_answer()

    def call(self, group_id, headers=()):
        """Sends a genuine callback. Returns the answer."""
        return self.answer_to(request(event(GroupId=group_id), headers=headers))

    def read_rest(self):
        """Returns the unread bytes and all that arrive until the connection ends."""
        while self._more():
            pass
        return self.unread

    def is_closed(self):
        """Waits until the connection ends. Returns False if there are unread bytes or if more bytes arrive instead."""
        return not self.unread and not self._more()


def request(body, query=None, headers=(), target=None):
    """Returns a POST request for Connection.send(). query: replaces the usual query; headers: further header lines;
    target: replaces the path and the query."""
    lines = [f"POST {target or '/?' + (query or query_string())} HTTP/1.1", "Host: localhost",
             f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def load_report(process, deadline=600):
    """Waits for the load generator and returns its report, which is empty if the load generator was killed."""
    return json.loads(process.communicate(timeout=deadline)[0] or "{}")


@contextlib.contextmanager
def running(settings=None, apps=None):
    """Runs a daemon during the block. The daemon must stop cleanly at the end of the block."""
    one = Daemon(settings, apps)
    try:
        yield one.start()
        one.stop()
    finally:
        one.destroy()


class Daemon:
    """A directory with certificate, token, configuration and database, and the daemon that uses it."""

    def __init__(self, settings=None, apps=None):
        """settings: {"section": {"key": value}}, which override or extend the usual ones.

        apps: {SDKAppID: [token, …]}, which replace the usual app.
        """
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="imcb-"))
        self.config = self.directory / "imcallbackd.conf"
        self.database = self.directory / "callbacks.db"
        self.process = None
        self.reader = None
        for path in certificate_directory().iterdir():
            shutil.copy(path, self.directory)
        self.write_config(settings, apps)

    def write_config(self, settings=None, apps=None):
        sections = {
            "listen": {"address": "127.0.0.1", "port": 0},
            "tls": {"certificate": self.directory / "certificate.pem", "private_key": self.directory / "key.pem"},
            "store": {"database": self.database},
            "admin": {"port": 0},
        }
        for app, tokens in (apps or {APP: [TOKEN]}).items():
            sections[f"app {app}"] = {}
            if tokens:
                token_file = self.directory / f"token-{app}"
                token_file.write_text("".join(token + "\n" for token in tokens))
                token_file.chmod(0o600)
                sections[f"app {app}"]["token_file"] = token_file
        for name, keys in (settings or {}).items():
            sections[name] = sections.get(name, {}) | keys
        self.write_text("".join(
            f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
            for name, keys in sections.items()))

    def write_text(self, text):
        self.config.write_text(text)

    # The process

    def start(self, wrapper=(), environment=None, sockets=(), names="", **options):
        """Starts the daemon and waits until it reports that it is ready.

        wrapper: a command line to put in front; sockets and names: listeners for socket activation, see passing().
        """
        if sockets:
            wrapper = [*wrapper, *passing(sockets, names)]
            options["pass_fds"] = [each.fileno() for each in sockets]
        (self.directory / "notify").unlink(missing_ok=True)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(self.directory / "notify"))
        self.process = subprocess.Popen(
            [*wrapper, *WRAPPER, BINARY, "serve", "-c", str(self.config)],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env=os.environ | {"NOTIFY_SOCKET": str(self.directory / "notify")} | (environment or {}), **options)
        self.reader = LogReader(self.process.stderr)
        self.wait_notified("READY=1")
        self.port = eventually(self._logged_port, "the log line with the port")
        return self

    @property
    def lines(self):
        """Returns the lines of the log since the last start."""
        return self.reader.lines if self.reader else []

    @property
    def log(self):
        return "\n".join(self.lines)

    def _logged_port(self):
        found = re.search(r"listening on https://\S+:(\d+)/", self.log)
        return int(found[1]) if found else None

    def wait_notified(self, message, deadline=START_DEADLINE):
        """Waits until the daemon sends the message to its service manager."""
        end = time.monotonic() + deadline
        while True:
            self.notify.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                if message in self.notify.recv(4096).decode().split("\n"):
                    return
            assert self.process.poll() is None, f"exit {self.process.returncode} before {message}:\n{self.log}"
            assert time.monotonic() < end, f"no {message} in {deadline} s:\n{self.log}"

    def wait_exit(self, deadline=STOP_DEADLINE):
        """Waits until the process ends, checks its log, and returns its exit status."""
        status = self.process.wait(deadline)
        self.reader.join(deadline)
        self.notify.close()
        self.process = None
        self.check_log()
        return status

    def reload(self, settings=None, apps=None):
        """Makes the daemon reload its configuration, and waits until the reload is complete. If settings or apps are
        given, they are written to the configuration first."""
        if settings is not None or apps is not None:
            self.write_config(settings, apps)
        self.process.send_signal(signal.SIGHUP)
        self.wait_notified("RELOADING=1")
        self.wait_notified("READY=1")

    @contextlib.contextmanager
    def paused(self):
        """Stops every thread of the daemon during the block. Sending SIGSTOP is not enough: waitid() waits until the
        signal has taken effect on all threads."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.wait_exit()
        assert status == 0, f"exit status {status}:\n{self.log}"

    def kill(self):
        self.process.kill()
        self.wait_exit()

    def check_log(self):
        """Asserts that the log contains no secret, no query of a callback and no report of a sanitizer."""
        assert TOKEN not in self.log
        assert not re.search(r"(?i)sign=|RequestTime=|CallbackCommand=|[0-9a-f]{64}", self.log), self.log
        assert not re.search(r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:", self.log), self.log

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def destroy(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory)

    # Clients

    def curl(self, *arguments, body=b""):
        """Runs curl, which trusts only the daemon's certificate. Returns the last answer."""
        head = self.directory / f"head-{threading.get_ident()}"
        done = run("curl", "-sS", "--cacert", self.directory / "certificate.pem", "--http1.1", "--max-time", "30",
                   "--path-as-is", "-g", "-D", head, *arguments, input=body, text=False)
        assert done.returncode == 0, (done.stderr, self.log)
        blocks = head.read_bytes().split(b"\r\n\r\n")[:-1]
        return Answer(blocks[-1], done.stdout)

    def url(self, query, path="/"):
        return f"https://127.0.0.1:{self.port}{path}?{query}"

    def post(self, body=None, query=None, headers=(), path="/", method="POST", curl=(), **parameters):
        """Sends a callback on a connection of its own. parameters: see query_string; query: replaces the whole query;
        curl: options of curl.

        The callback is sent by curl if it has options of curl, another method, a header that replaces a usual one, or a
        body of more than 64 KiB, to which the daemon may answer early. Other callbacks are sent without curl, because
        each run of curl takes 40 ms of processor time."""
        body = event() if body is None else body
        query = query_string(**parameters) if query is None else query
        names = {header.partition(":")[0].lower() for header in headers}
        usual = {"content-length", "content-type", "expect", "host", "transfer-encoding"}
        if curl or method != "POST" or len(body) > 1 << 16 or names & usual:
            lines = [word for header in headers for word in ("-H", header)]
            return self.curl("-X", method, "-H", "Content-Type: application/json", *lines, *curl, "--data-binary", "@-",
                             self.url(query, path), body=body).check_form()
        with self.connect() as connection:
            return connection.answer_to(request(body, headers=["Content-Type: application/json", *headers],
                                                target=f"{path}?{query}"))

    def record(self, *group_ids, **fields):
        """Sends a callback for each group. The daemon must answer each with 200."""
        for group_id in group_ids:
            assert self.post(event(GroupId=group_id, **fields)).status == 200

    def tls_context(self):
        return ssl.create_default_context(cafile=self.directory / "certificate.pem")

    def connect(self, context=None, **options):
        return Connection(self.port, context or self.tls_context(), **options)

    def connect_plain(self):
        """Returns a socket that is connected to the daemon, without TLS."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=START_DEADLINE)

    def rejects(self, **options):
        """Returns whether the daemon closes a new connection before the end of the handshake. options: see connect."""
        try:
            self.connect(**options).tls.close()
        except (ConnectionError, ssl.SSLError):
            return True
        return False

    def load_arguments(self, **options):
        """Returns the command line of the load generator; options: see long_options."""
        options = {"port": self.port, "app": APP, "token": TOKEN, "ca": self.directory / "certificate.pem",
                   "seed": time.monotonic_ns() % 1_000_000_000} | options
        return [LOAD, *long_options(options)]

    def start_load(self, **options):
        """Starts the load generator. load_report() reads its report."""
        return subprocess.Popen(self.load_arguments(**options), stdout=subprocess.PIPE, text=True)

    def load(self, **options):
        """Runs the load generator to its end. Returns its exit status and its report."""
        done = run(*self.load_arguments(**options), timeout=120)
        assert done.stdout, (done.stderr, self.log)
        return done.returncode, json.loads(done.stdout)

    # The database

    @contextlib.contextmanager
    def _shell(self, begin):
        """Holds a transaction of the sqlite3 shell open during the block. begin: the statements that start the
        transaction."""
        with subprocess.Popen(["sqlite3", self.database], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True) as shell:
            shell.stdin.write(f".bail on\n.timeout 5000\n{begin};\nSELECT 'inside';\n")
            shell.stdin.flush()
            assert shell.stdout.readline() == "inside\n"
            try:
                yield
            finally:
                shell.communicate("ROLLBACK;\n")

    def locked(self):
        """Prevents commits during the block: the shell holds the write lock of the database."""
        return self._shell("BEGIN IMMEDIATE")

    def reading(self):
        """Keeps a read transaction open during the block, so that checkpoints cannot copy later commits into the
        database."""
        return self._shell("BEGIN; CREATE TEMP TABLE seen AS SELECT id FROM destroyed_group")

    def sql(self, query):
        """Returns the rows as dictionaries."""
        uri = f"file:{urllib.parse.quote(str(self.database))}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=5)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query)]

    def value(self, query):
        """Returns the value of the only column of the only row."""
        (row,) = self.sql(query)
        (value,) = row.values()
        return value

    def groups(self, group_id=None):
        """Returns the rows of destroyed_group, or those of one group. body is b"" if it was not kept."""
        rows = self.sql(f"SELECT {', '.join(COLUMNS)}, hex(body) AS body FROM destroyed_group ORDER BY id")
        return [row | {"body": bytes.fromhex(row["body"])} for row in rows if group_id in (None, row["group_id"])]

    def group_ids(self, prefix=""):
        """Returns the ids of the recorded groups that start with the prefix, in the order of recording."""
        return [row["group_id"] for row in self.groups() if row["group_id"].startswith(prefix)]

    def members(self, group_id):
        """Returns the members of the only recorded group with this id, by position."""
        (group,) = self.groups(group_id)
        rows = self.sql(f"SELECT position, member_account FROM destroyed_group_member "
                        f"WHERE destroyed_group_id = {group['id']} ORDER BY position")
        return [row["member_account"] for row in rows]

    def rejected(self):
        """Returns the rows of rejected_callback, with the body as bytes."""
        rows = self.sql("SELECT id, received_at_ms, remote_address, sdk_appid, callback_command, reason, "
                        "hex(body) AS body FROM rejected_callback ORDER BY id")
        return [row | {"body": bytes.fromhex(row["body"])} for row in rows]
