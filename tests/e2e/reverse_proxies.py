"""Runs the real proxies with the files of conf/proxy, and an application that records what the proxies pass to it. In
the files, the tests replace names, addresses, paths and certificates, and switch off the admin API and the automatic
HTTPS of Caddy."""

import contextlib
import http.client
import http.server
import json
import os
import pathlib
import pwd
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import types

import pytest

import daemon
from certificates import P_256, make_certificate
from processes import program

TOP = pathlib.Path(__file__).resolve().parents[2]
SHIPPED = TOP / "conf" / "proxy"
CLIENT = "127.0.0.9"  # the address from which a client connects to a proxy
OTHER_QUERY = daemon.query_string(token=None, CallbackCommand="Group.CallbackBeforeSendMsg")


class Response:
    """The answer to a request. code: the ErrorCode, or None if the proxy itself has answered."""

    def __init__(self, status, headers, body):
        self.status, self.body = status, body
        self.headers = {name.lower(): value for name, value in headers}
        self.code = json.loads(body)["ErrorCode"] if self.headers.get("content-type") == "application/json" else None

    def __repr__(self):
        return f"<{self.status} {self.body}>"


def send(connection, target, body=b"", headers=()):
    """Sends a POST request over a connection of http.client."""
    connection.putrequest("POST", target, skip_accept_encoding=True)
    for name, value in (*headers, ("Content-Length", str(len(body)))):
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    return Response(answer.status, answer.getheaders(), answer.read())


class Sender(threading.Thread):
    """Sends one event after the other through a proxy, over one connection while the proxy keeps it open."""

    def __init__(self, proxy, number):
        super().__init__()
        self.proxy, self.number, self.over = proxy, number, threading.Event()
        self.acknowledged = set()
        self.failed = self.closed = 0  # events after which a 5xx status arrived, or the end of the connection
        self.slowest_s = 0.0
        self.surprise = None  # the first answer or error of any other kind
        self.start()

    def run(self):
        sent = 0
        with contextlib.closing(self.proxy.connect()) as connection:
            while not self.over.is_set() and not self.surprise:
                sent += 1
                self._send(connection, f"sender-{self.number}-{sent}")

    def _send(self, connection, group_id):
        start = time.monotonic()
        try:
            answer = send(connection, "/?" + daemon.query_string(), daemon.event(GroupId=group_id))
        except (ConnectionError, ssl.SSLError, http.client.IncompleteRead):
            connection.close()
            answer = None
        except OSError as error:
            self.surprise = error
            return
        self.slowest_s = max(self.slowest_s, time.monotonic() - start)
        if not answer:
            self.closed += 1
        elif answer.status == 200 and answer.code == 0:
            self.acknowledged.add(group_id)
        elif 500 <= answer.status < 600:
            self.failed += 1
        else:
            self.surprise = answer

    def __repr__(self):
        return (f"{len(self.acknowledged)} OK, {self.failed} failed, {self.closed} closed, at most "
                f"{self.slowest_s:.3f} s")


@contextlib.contextmanager
def sending(proxy, count):
    """Runs this many senders during the block. None of them may get an unexpected answer or error."""
    senders = [Sender(proxy, number) for number in range(count)]
    try:
        yield senders
    finally:
        for sender in senders:
            sender.over.set()
        for sender in senders:
            sender.join()
    print(*senders, sep="\n")
    for sender in senders:
        assert not sender.surprise, (sender.surprise, proxy.logs()[-2000:])


def wait_for_answers(senders):
    """Waits until each sender has got at least six more acknowledgements, or until one has got an unexpected answer or
    error."""
    before = [len(sender.acknowledged) for sender in senders]
    daemon.eventually(lambda: any(sender.surprise for sender in senders) or
                      all(len(sender.acknowledged) > old + 5 for sender, old in zip(senders, before)), "answers")


class Application:
    """An HTTP server that records each request and gives every request the same answer."""

    ANSWER = b'{"ActionStatus":"OK","ErrorInfo":"from the application","ErrorCode":0}'

    def __init__(self):
        self.requests = []  # (method, target, [(name, value), ...], body)
        application = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                application.requests.append((self.command, self.path, self.headers.items(), body))
                answer = application.ANSWER
                self.send_response(202)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.send_header("X-Application", "yes")
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def take(self):
        """Returns the only request since the last call."""
        (request,) = self.requests
        self.requests.clear()
        return request

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Proxy:
    """A proxy that listens on a port of 127.0.0.1, and the directory with its configuration, certificate and logs."""

    program = file = None

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="imcb-proxy-"))
        self.port = daemon.free_port()
        self.process = None
        make_certificate(self.directory, *P_256, name="front.pem", key="front.key")

    def write_config(self, replaced):
        """Writes the shipped file with these replacements. replaced: {text in the file: other text}."""
        text = (SHIPPED / self.file).read_text()
        for old, new in replaced.items():
            assert old in text, f"{self.file} does not contain {old!r}"
            text = text.replace(old, str(new))
        (self.directory / self.file).write_text(text)

    def command(self):
        raise NotImplementedError

    def start(self):
        place = str(self.directory)
        with (self.directory / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [program(self.program), *map(str, self.command())], stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, cwd=place,
                env=os.environ | dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), place))
        daemon.eventually(self._accepts, f"{self.program} accepts connections")
        return self

    def _accepts(self):
        assert self.process.poll() is None, self.logs()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def logs(self):
        """Returns everything that the proxy has written."""
        return "\n".join(path.read_text(errors="replace")
                         for path in (self.directory / "output", *self.directory.glob("*.log")))

    def stop(self):
        """Stops the proxy, whose logs must not contain any part of a query."""
        self.process.terminate()
        self.process.wait(20)
        self.process = None
        assert not re.search("(?i)Sign=|RequestTime=|CallbackCommand=|SdkAppid", self.logs()), self.logs()

    def destroy(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory)

    # Clients

    def connect(self, source=""):
        """Returns an HTTPS connection to the proxy. source: the loopback address from which to connect."""
        context = ssl.create_default_context(cafile=self.directory / "front.pem")
        return http.client.HTTPSConnection("localhost", self.port, timeout=20, context=context,
                                           source_address=(source, 0))

    def send(self, target, body=b"", headers=(), source=""):
        """Sends a POST request over a new connection."""
        with contextlib.closing(self.connect(source)) as connection:
            return send(connection, target, body, headers)

    def send_event(self, body=None, query=None, **options):
        return self.send("/?" + (query or daemon.query_string()), daemon.event() if body is None else body, **options)

    def start_load(self, one, **options):
        return one.start_load(port=self.port, ca=self.directory / "front.pem", **options)


class HttpProxy(Proxy):
    """A proxy that terminates TLS and passes each request either to imcallbackd or to the application."""

    def replaced(self):
        """Returns {text in the file: other text} for the text that only the file of this proxy contains. configure()
        replaces the text that all files contain."""
        raise NotImplementedError

    def configure(self, port, application_port, certificate, name="localhost"):
        """Writes the configuration. port: the port of imcallbackd; certificate and name: the path of the certificate
        that the proxy trusts for imcallbackd, and the host name that this certificate must have."""
        self.write_config(self.replaced() | {
            "127.0.0.1:8443": f"127.0.0.1:{port}", "127.0.0.1:8080": f"127.0.0.1:{application_port}",
            "/etc/ssl/imcallbackd.pem": certificate, "localhost": name})
        return self


class Nginx(HttpProxy):
    program, file = "nginx", "nginx.conf"

    def replaced(self):
        return {"    listen 443 ssl;\n    listen [::]:443 ssl;\n": f"    listen 127.0.0.1:{self.port} ssl;\n",
                "/etc/letsencrypt/live/im.example.org/fullchain.pem": self.directory / "front.pem",
                "/etc/letsencrypt/live/im.example.org/privkey.pem": self.directory / "front.key",
                "/var/log/nginx": self.directory}

    def command(self):
        place = self.directory
        temporary = "".join(f"    {kind}_temp_path {place}/{kind};\n"
                            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (place / "main.conf").write_text(
            f"daemon off;\nuser {pwd.getpwuid(os.geteuid()).pw_name};\nworker_processes 2;\npid {place}/pid;\n"
            f"error_log {place}/main.log;\nevents {{}}\nhttp {{\n{temporary}    include {place / self.file};\n}}\n")
        return ["-c", place / "main.conf", "-e", place / "main.log"]


class NginxWithoutApplication(Nginx):
    """nginx with the changes that its file describes for an installation without an application."""

    def replaced(self):
        block = re.search(r"    location / \{\n.*?\n    \}\n", (SHIPPED / self.file).read_text(), re.DOTALL)[0]
        return super().replaced() | {block: "", "location @imcallbackd {": "location / {"}


class HAProxy(HttpProxy):
    program, file = "haproxy", "haproxy.cfg"

    def replaced(self):
        both = self.directory / "both.pem"
        both.write_text("".join((self.directory / name).read_text() for name in ("front.pem", "front.key")))
        return {":::443 v4v6": f"127.0.0.1:{self.port}", "/etc/haproxy/im.example.org.pem": both}

    def command(self):
        (self.directory / "global.cfg").write_text("global\n    log stdout format raw local0\n")
        return ["-db", "-f", self.directory / "global.cfg", "-f", self.directory / self.file]


class Caddy(HttpProxy):
    program, file = "caddy", "Caddyfile"

    def replaced(self):
        place = self.directory
        return {"im.example.org {\n": f"https://:{self.port} {{\n\tbind 127.0.0.1\n\ttls {place}/front.pem "
                                      f"{place}/front.key\n",
                "\n{\n": "\n{\n\tadmin off\n\tauto_https off\n"}

    def command(self):
        return ["run", "--config", self.directory / self.file, "--adapter", "caddyfile"]


HTTP_PROXIES = {each.program: each for each in (Nginx, HAProxy, Caddy)}


@contextlib.contextmanager
def running(kind):
    """Runs a proxy in front of an application and a daemon during the block, or skips the test if the proxy is not
    installed. The proxy must log no query, and the daemon must stop cleanly. kind: a subclass of HttpProxy."""
    if not program(kind.program):
        pytest.skip(f"{kind.program} is not installed")
    application, proxy, admin_port = Application(), kind(), daemon.free_port()
    settings = {"listen": {"port": daemon.free_port(), "trusted_proxies": "127.0.0.1"}, "admin": {"port": admin_port}}
    try:
        with daemon.running(settings) as one:
            proxy.configure(one.port, application.port, one.directory / "certificate.pem").start()
            yield types.SimpleNamespace(one=one, admin_port=admin_port, application=application, proxy=proxy)
            proxy.stop()
    finally:
        proxy.destroy()
        application.close()
