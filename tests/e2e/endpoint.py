"""Runs endpoint_server.py as the endpoint of an application, changes its script of answers, and reads its journal of
requests."""

import base64
import contextlib
import hashlib
import hmac
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse

from certificates import P_256, make_certificate
from daemon import APP, TOKEN
from processes import eventually

SERVER = pathlib.Path(__file__).with_name("endpoint_server.py")
SECRET = "whsec_" + base64.b64encode(b"imcallbackd deliver, a secret for tests").decode()
TIMES_S = 60  # the most seconds between RequestTime or webhook-timestamp and the arrival of the request

# Answers for a script. Connection.answer() in endpoint_server.py describes the keys.
OK = {"status": 200, "body": '{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}'}
FAIL = {"status": 200, "body": '{"ActionStatus":"FAIL","ErrorInfo":"no","ErrorCode":1}'}


def status(number, body="", **headers):
    return {"status": number, "body": body, "headers": {name.replace("_", "-"): text for name, text in headers.items()}}


def fault(name):
    """Returns an answer with a fault. Without the fault, its status and body would be accepted. name: see
    Connection.answer() in endpoint_server.py."""
    return OK | {"fault": name}


def late(seconds, answer=None):
    return (answer or OK) | {"delay_s": seconds}


class Request:
    """A request in the journal. `ended` is None while the request is in flight. `answer` is also None if the client
    closed the connection before the answer, or if the endpoint was killed."""

    def __init__(self, place, line):
        self.place = place  # the number of the line in the journal
        self.number, self.time, self.connection, self.group = (
            line["request"], line["time"], line["connection"], line["group"])
        self.tls, self.resumed, self.client, self.port = line["tls"], line["resumed"], line["client"], line["port"]
        self.method, self.target, self.version = line["line"].split(" ")
        self.header_list = [(name.lower(), text) for name, text in line["headers"]]
        self.headers = dict(self.header_list)
        self.body = line["body"].encode("latin-1")
        self.ended = self.end_place = self.how = self.answer = None

    def end(self, place, ended, how, answer):
        self.end_place, self.ended, self.how, self.answer = place, ended, how, answer

    def __repr__(self):
        return f"<{self.number} at {self.time:.3f} {self.target} {self.body[:200]} {self.how} {self.answer}>"

    @property
    def id(self):
        return self.headers["webhook-id"]

    @property
    def accepted(self):
        return bool(self.answer and self.answer["accepted"])

    @property
    def path(self):
        return self.target.partition("?")[0]

    @property
    def query(self):
        """Returns the parameters. Asserts that none occurs twice."""
        pairs = urllib.parse.parse_qsl(self.target.partition("?")[2], keep_blank_values=True, strict_parsing=True)
        assert len(dict(pairs)) == len(pairs), self
        return dict(pairs)

    @property
    def json(self):
        return json.loads(self.body)

    def check_form(self, tokens=(TOKEN,), secrets=(), ahead_s=0):
        """Asserts what must hold for every request, whatever its event. tokens: the tokens of the app, any of which may
        sign; secrets: the secrets that must all sign, in this order; ahead_s: by how many seconds the clock of deliver
        is ahead of the clock of the endpoint."""
        assert (self.method, self.version) == ("POST", "HTTP/1.1"), self
        assert len(self.headers) == len(self.header_list), self.header_list
        assert self.headers["content-type"] == "application/json", self
        assert self.headers["content-length"] == str(len(self.body)) and "transfer-encoding" not in self.headers, self
        assert len(self.id) == 64 and set(self.id) <= set("0123456789abcdef"), self
        assert abs(int(self.headers["webhook-timestamp"]) - ahead_s - self.time) <= TIMES_S, self
        self._check_signature(secrets)
        query = self.query
        if tokens:
            assert abs(int(query["RequestTime"]) - ahead_s - self.time) <= TIMES_S, self
            assert query["Sign"] in [hashlib.sha256((token + query["RequestTime"]).encode()).hexdigest()
                                     for token in tokens], self
        else:
            assert not {"Sign", "RequestTime"} & set(query), self

    def _check_signature(self, secrets):
        if not secrets:
            assert "webhook-signature" not in self.headers, self
            return
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        wanted = [b"v1," + base64.b64encode(hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), signed,
                                                        "sha256")) for secret in secrets]
        assert self.headers["webhook-signature"].encode() == b" ".join(wanted), self


class Endpoint:
    """The process of an endpoint, and its files. The port and the journal stay the same across restarts."""

    def __init__(self, tls=True, script=None, client_ca=None, versions=None):
        """script: see Script in endpoint_server.py; client_ca: the CA certificate that must have signed the client's
        certificate; versions: the lowest and the highest version of TLS."""
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="imcb-endpoint-"))
        self.journal = self.directory / "journal"
        self.port = 0
        self.process = None
        self.options = {"script": script or {}}
        if tls:
            self.certificate = self.make_certificate("certificate")
            self.options |= {"certificate": self.certificate}
        if client_ca:
            self.options |= {"client_ca": str(client_ca)}
        if versions:
            self.options |= {"tls": versions}
        self._read, self._requests, self._lines = 0, {}, 0

    def make_certificate(self, name):
        """Makes a self-signed certificate for localhost and 127.0.0.1. Returns the paths of the certificate and of its
        key."""
        make_certificate(self.directory, *P_256, name=f"{name}.pem", key=f"{name}.key")
        return str(self.directory / f"{name}.pem"), str(self.directory / f"{name}.key")

    @property
    def ca_file(self):
        return self.certificate[0]

    def url(self, path="/callback", host="127.0.0.1"):
        return f"http{'s' if 'certificate' in self.options else ''}://{host}:{self.port}{path}"

    # The process

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-B", SERVER, str(self.port), self.journal, json.dumps(self.options)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        return self

    def _command(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def answer(self, *usual, groups=None, mix=None, seed=0):
        """Replaces the script. usual: the answers, in this order; groups: {group id: [answer, ...]}, the answers for
        single groups; mix: [(weight, answer), ...], from which each answer is drawn instead of the usual ones; seed:
        the seed of these draws. The last answer of a list is repeated."""
        self.options["script"] = {"usual": list(usual) or [OK], "groups": groups or {}, "mix": mix, "seed": seed}
        if self.process:
            self._command(script=self.options["script"])

    def present(self, certificate):
        """Presents another certificate, in a new process: a client could resume a TLS session of the old process
        without seeing the certificate."""
        self.kill()
        self.options["certificate"] = certificate
        self.start()

    def disconnect(self):
        self._command(disconnect=True)

    def stop(self):
        """Stops the process, which first answers the requests in flight."""
        self._end(self.process.terminate)

    def kill(self):
        self._end(self.process.kill)

    def _end(self, send):
        send()
        self.process.wait(60)
        self.process.stdin.close()
        self.process.stdout.close()
        self.process = None

    def destroy(self):
        if self.process:
            self.kill()
        shutil.rmtree(self.directory)

    # The journal

    def requests(self, group=None):
        """Returns the requests so far in the order of their arrival, or those of one group."""
        with contextlib.suppress(FileNotFoundError), self.journal.open("rb") as journal:
            journal.seek(self._read)
            for text in journal:
                if not text.endswith(b"\n"):
                    break
                self._read += len(text)
                self._add(json.loads(text))
        return [request for request in self._requests.values() if group in (None, request.group)]

    def _add(self, line):
        self._lines += 1
        if "request" in line:
            self._requests[line["request"]] = Request(self._lines, line)
        elif "end" in line:
            self._requests[line["end"]].end(self._lines, line["time"], line["how"], line["answer"])
        else:
            for request in self._requests.values():  # a line "start": the earlier process was killed
                if request.ended is None:
                    request.end(self._lines, line["time"], "killed", None)

    def accepted(self):
        """Returns the ids of the groups in the order in which their events were accepted."""
        found = sorted((request for request in self.requests() if request.accepted), key=lambda each: each.end_place)
        return [request.group for request in found]

    def has_requests(self, count, group=None, seconds=0):
        """Returns whether at least this number of requests arrives within this time."""
        end = time.monotonic() + seconds
        while len(self.requests(group)) < count:
            if time.monotonic() >= end:
                return False
            time.sleep(0.01)
        return True

    def has_accepted(self, *groups):
        return set(groups) <= set(self.accepted())

    def wait_requests(self, count, group=None, deadline=60):
        """Waits until at least this number of requests has arrived, and returns all that have arrived."""
        eventually(lambda: self.has_requests(count, group), f"{count} requests for {group or 'any group'}", deadline)
        return self.requests(group)

    def wait_accepted(self, *groups, deadline=60):
        """Waits until an event of each of the groups is accepted."""
        eventually(lambda: self.has_accepted(*groups), f"accepted: {groups}", deadline)
