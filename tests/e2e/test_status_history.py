"""Tests the history on the status page over hours, with a clock that the tests put forward. With SCREENSHOT=FILE, the
last test writes the picture of the page that README.md shows."""

import contextlib
import math
import os
import pathlib
import random
import time

import pytest

from browser import browsing, needs_browser
from certificates import make_signed
from daemon import event, query_string, request, signature
from delivery import Clock
from status_site import running

full = pytest.mark.full
MINUTE_S = 60
LARGEST_PICTURE = 100_000  # bytes

# Each bar of the plot as its start and the heights of its parts, in callbacks.
BARS = """
const svg = document.querySelector(`svg[aria-labelledby~="hour-title"]`);
const [, , , units] = svg.getAttribute("viewBox").split(" ").map(Number);
const scale = Number(svg.closest("figure").querySelector(".scale span").textContent);
const drawn = svg.getBoundingClientRect().height * (units - 20) / units;
const left = svg.getBoundingClientRect().left, width = svg.getBoundingClientRect().width / 60;
const bars = Array.from({length: 60}, () => ({recorded: 0, repeated: 0, rejected: 0}));
for (const part of svg.querySelectorAll("g rect")) {
  const box = part.getBoundingClientRect();
  bars[Math.floor((box.left - left) / width)][part.getAttribute("class")] += Math.round(box.height / drawn * scale);
}
return bars;
"""


class History:
    """A site whose clock a test puts forward by a minute at a time."""

    def __init__(self, site, clock):
        self.site, self.clock = site, clock
        self.sent = 0

    def send(self, recorded=0, repeated=0, rejected=0):
        """Sends callbacks with signatures of the time that the daemon's clock shows."""
        signed = signature(at=int(time.time()) + self.clock.ahead_s)
        with self.site.daemon.connect() as connection:
            for i in range(recorded + repeated):
                self.sent += i < recorded
                sent = request(event(GroupId=f"group {self.sent}"), query_string(**signed))
                assert connection.answer_to(sent).status == 200
        for _ in range(rejected):
            with self.site.daemon.connect() as connection:
                assert connection.answer_to(request(event(), query_string(**signed | {"Sign": "0" * 64}))).status == 403

    def pass_minutes(self, count=1):
        """Puts the clock forward. The daemon takes a sample for each request to the page, so the test does not wait
        until the minute of the daemon's own clock is over."""
        for _ in range(count):
            self.site.facts()
            self.clock.put_forward(MINUTE_S)
        self.site.facts()

    def counts(self):
        """Returns the values of the last 60 minutes, without those before the start."""
        names = ("recorded", "repeated", "rejected")
        return [tuple(minute[name] for name in names) for minute in self.site.facts()["minutes"]
                if minute["recorded"] is not None]


@contextlib.contextmanager
def recording(directory, settings=None):
    if not Clock.LIBRARIES:
        pytest.skip("libfaketime must be installed")
    clock = Clock(directory)
    clock.put_forward(MINUTE_S - int(time.time()) % MINUTE_S)  # what a test sends at once falls into one minute
    with running(settings, clock.environment()) as site:
        yield History(site, clock)


@pytest.fixture
def history(tmp_path):
    with recording(tmp_path) as history:
        yield history


SENT = [(3, 0, 0), (0, 0, 2), (5, 1, 0), (0, 0, 0), (7, 2, 1), (0, 0, 0), (1, 0, 0)]


def test_each_minute_holds_what_was_sent_in_it(history):
    for counts in SENT:
        history.send(*counts)
        history.pass_minutes()
    assert history.counts() == [*SENT, (0, 0, 0)]
    quarters = [quarter for quarter in history.site.facts()["quarter_hours"] if quarter["recorded"] is not None]
    assert sum(quarter["recorded"] for quarter in quarters) == 16 and len(quarters) <= 2


def test_an_hour_and_a_day_end(history):
    history.send(recorded=2)
    history.pass_minutes(59)
    facts = history.site.facts()
    assert (facts["last_hour"]["recorded"], facts["last_day"]["recorded"]) == (2, 2)
    history.pass_minutes(1)
    facts = history.site.facts()
    assert (facts["last_hour"]["recorded"], facts["last_day"]["recorded"]) == (0, 2)
    history.pass_minutes(24 * 60)
    facts = history.site.facts()
    assert facts["last_day"]["recorded"] == 0 and facts["callbacks_since_start"]["recorded"] == 2


@full
@needs_browser
def test_each_bar_shows_its_minute(history):
    for counts in SENT:
        history.send(*counts)
        history.pass_minutes()
    with browsing() as browser:
        bars = browser.open(history.site.url).run(BARS)
    assert [(bar["recorded"], bar["repeated"], bar["rejected"]) for bar in bars] == [(0, 0, 0)] * (60 - len(SENT) - 1) + [*SENT, (0, 0, 0)]


def callbacks_of(minute):
    """Returns how many callbacks the service sends in this minute of the picture: few at night, many in the evening."""
    mean = 4 + 3 * math.sin(minute / 170) + 2 * math.sin(minute / 23)
    return max(0, round(random.gauss(max(mean, 0.3), 1.5)))


def use_certificate(one, name):
    """Makes the daemon use a certificate whose first name is this one."""
    make_signed(one.directory, name, None, f"subjectAltName=DNS:{name},DNS:localhost,IP:127.0.0.1")
    (one.directory / f"{name}.pem").replace(one.directory / "certificate.pem")
    (one.directory / f"{name}.key").replace(one.directory / "key.pem")
    one.reload()


@full
@needs_browser
@pytest.mark.skipif("SCREENSHOT" not in os.environ, reason="SCREENSHOT does not name a file")
def test_takes_the_picture(tmp_path):
    random.seed(7)
    with recording(tmp_path, {"listen": {"port": 8443}}) as history, browsing() as browser:
        use_certificate(history.site.daemon, "im.example.org")
        for left in range(24 * 60, 0, -1):
            history.send(callbacks_of(left), random.random() < 0.2, random.randint(1, 3) if 25 < left < 34 else 0)
            if left > 1:
                history.pass_minutes()
        browser.resize(1000, 860)
        picture = browser.open(history.site.url).screenshot()
    pathlib.Path(os.environ["SCREENSHOT"]).write_bytes(picture)
    assert len(picture) < LARGEST_PICTURE
