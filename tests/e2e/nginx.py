"""Runs nginx with HTTPS in front of an application, as many operators do."""

import pathlib
import shutil
import subprocess

from processes import eventually, free_port, run

FETCHED = pathlib.Path(__file__).resolve().parents[2] / "build" / "proxies" / "nginx"  # extracted by run.sh
PROGRAM = str(FETCHED) if FETCHED.exists() else shutil.which("nginx", path="/usr/sbin:/usr/bin")

CONFIG = """
daemon off;
worker_processes 1;
pid {place}/pid;
error_log {place}/error.log;
events {{ worker_connections 512; }}
http {{
    client_body_temp_path {place}/client_body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    log_format test '$server_protocol $connection $connection_requests $status';
    access_log {place}/access.log test;
    keepalive_requests {keepalive_requests};
    client_max_body_size 16m;
    upstream application {{ server 127.0.0.1:{to}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port} ssl{http2};
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        location / {{
            proxy_pass http://application;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


class Nginx:
    """One nginx with its workers. certificate: the paths of the certificate and of its key; to: the port of the
    application."""

    def __init__(self, directory, certificate, to, http2=True, keepalive_requests=1000):
        self.place = pathlib.Path(directory)
        self.place.mkdir(exist_ok=True)
        self.port = free_port()
        self.config = self.place / "nginx.conf"
        self.config.write_text(CONFIG.format(place=self.place, to=to, port=self.port, certificate=certificate[0],
                                             key=certificate[1], http2=" http2" if http2 else "",
                                             keepalive_requests=keepalive_requests))
        self.process = None

    def _words(self):
        return [PROGRAM, "-c", str(self.config), "-e", str(self.place / "error.log")]

    def start(self):
        self.process = subprocess.Popen(self._words(), stdin=subprocess.DEVNULL)
        eventually(lambda: (self.place / "pid").exists() and (self.place / "pid").read_text().strip(), "nginx")
        return self

    def reload(self):
        """Makes nginx start new workers. The old workers finish their requests."""
        done = run(*self._words(), "-s", "reload")
        assert done.returncode == 0, done.stderr

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def requests(self):
        """Returns (protocol, connection, number within the connection, status) of each request."""
        log = self.place / "access.log"
        return [tuple(line.split()) for line in log.read_text().splitlines()] if log.exists() else []
