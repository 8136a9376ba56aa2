"""Runs a daemon with a status page, sends it callbacks, and reads the plots of the page."""

import contextlib
import json
import socket

import daemon
from monitoring import ask

SENT = {"recorded": 10, "repeated": 3, "rejected": 5}

# The argument is the name of the plot. Returns the sum of the heights of all bars, in callbacks, by class.
PLOTTED = """
const svg = document.querySelector(`svg[aria-labelledby~="${arguments[0]}-title"]`);
const [, , , units] = svg.getAttribute("viewBox").split(" ").map(Number);
const drawn = svg.getBoundingClientRect().height * (units - 20) / units;
const scale = Number(svg.closest("figure").querySelector(".scale span").textContent);
const sums = {recorded: 0, repeated: 0, rejected: 0};
for (const name of Object.keys(sums))
  for (const bar of svg.querySelectorAll(`rect.${name}`))
    sums[name] += Math.round(bar.getBoundingClientRect().height / drawn * scale);
return sums;
"""


class Site:
    """A daemon whose admin listener stays open while the daemon is stopped."""

    def __init__(self, listener, settings=None, environment=None):
        self.listener = listener
        self.daemon = daemon.Daemon(settings)
        self.environment = environment

    @property
    def url(self):
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/"

    def start(self):
        self.daemon.start(sockets=[self.listener], names="admin", environment=self.environment)
        return self

    def page(self):
        return ask(self.listener.getsockname(), "/")

    def facts(self):
        return json.loads(ask(self.listener.getsockname(), "/status.json")[2])

    def send_sample(self):
        """Sends what SENT says. The rejected callbacks have three causes."""
        one = self.daemon
        one.record(*(f"group {i}" for i in range(SENT["recorded"])))
        one.record(*(f"group {i}" for i in range(SENT["repeated"])))
        for _ in range(2):
            assert one.post(Sign="0" * 64).status == 403
            assert one.post(**daemon.signature(at=1)).status == 403
        assert one.post(CallbackCommand="Other").status == 400


@contextlib.contextmanager
def running(settings=None, environment=None):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        site = Site(listener, settings, environment)
        try:
            yield site.start()
            site.daemon.stop()
        finally:
            site.daemon.destroy()
