"""Tests `deliver` under load while the endpoint answers with every kind of fault, and while deliver, the receiver and
the endpoint are killed. At the end, every recorded event is accepted, in order within each group, and there are no more
repeats than requests were in flight at the kills. DELIVER_EVENTS=100000 DELIVER_KILLS=50 turns the test into a
campaign, and SEED repeats the order of the faults in an earlier run."""

import os
import random
import time

import daemon
from daemon import event
from delivery import Deliverer, Ledger, deliver_to, write_secret
from endpoint import FAIL, OK, SECRET, Endpoint, fault, late, status
from monitoring import metrics

EVENTS = int(os.environ.get("DELIVER_EVENTS", "2000"))
KILLS = int(os.environ.get("DELIVER_KILLS", "5"))
SEED = int(os.environ.get("SEED", random.randrange(1_000_000)))
IN_FLIGHT = 8
TIMEOUT_S = 1

# The answers from which the endpoint draws one for each request, with their weights.
MIX = [(500, OK), (200, late(0.01)), (50, late(0.05)), (2, status(500)), (2, status(503)),
       (1, status(503, Retry_After="1")), (2, FAIL), (1, status(429, Retry_After="1")), (1, status(408)),
       (1, OK | {"close": True})] + [
    (1, fault(name)) for name in ("hang", "cut_before", "cut_in_head", "cut_in_body", "reset", "garbage", "endless",
                                  "endless_head", "drip")]


class Site:
    """A receiver, its deliverer, and the endpoint to which the deliverer sends."""

    def __init__(self):
        self.endpoint = Endpoint().start()
        self.one = daemon.Daemon()
        self.admin_port = daemon.free_port()
        deliver_to(self.one, self.endpoint, {"listen": {"port": daemon.free_port()}}, in_flight=IN_FLIGHT,
                   timeout=f"{TIMEOUT_S}s", admin_port=self.admin_port, secret_file=write_secret(self.one, SECRET))
        self.one.start()
        self.deliverer = Deliverer(self.one)
        self.interrupted = 0  # the largest possible number of acceptances that were lost at kills
        self.random = random.Random(SEED)
        self.loads = self.recorded = 0

    def start_load(self, total):
        """Starts to record events in the background. Each group has about four of the events, so their order
        matters."""
        self.loads += 1
        return self.one.start_load(connections=20, total=total, groups=max(1, total // 4), timeout=60, seed=self.loads)

    def record_some(self):
        """Records ten events of three groups, so some of the events must wait for others of their group."""
        for number in range(10):
            self.recorded += 1
            body = event(GroupId=f"live-{number % 3}", EventTime=1_680_000_000_000 + self.recorded)
            assert self.one.post(body).status == 200

    def kill_deliverer(self):
        self.deliverer.kill()
        self.interrupted += IN_FLIGHT
        self.deliverer.start()

    def kill_receiver(self):
        self.one.kill()
        self.one.start()

    def kill_endpoint(self):
        self.endpoint.kill()
        self.interrupted += IN_FLIGHT
        self.endpoint.start()

    def restart_endpoint(self):
        self.answer(OK)  # a process with unanswered requests would not end
        self.endpoint.disconnect()
        self.interrupted += IN_FLIGHT
        self.endpoint.stop()
        self.endpoint.start()

    def answer(self, *usual, seconds=0.0, **script):
        """Replaces the script of the endpoint, and waits for this time."""
        self.endpoint.answer(*usual, **script)
        end = time.monotonic() + seconds
        daemon.eventually(lambda: time.monotonic() > end, "the time of the fault", seconds + 5)

    def wrong_certificate(self):
        right = self.endpoint.certificate
        self.endpoint.present(self.endpoint.make_certificate("other"))
        self.interrupted += IN_FLIGHT
        self.record_some()
        self.deliverer.wait_logged("certificate")
        self.endpoint.present(right)
        self.interrupted += IN_FLIGHT

    def destroy(self):
        if self.deliverer.process:
            self.deliverer.process.kill()
            self.deliverer.process.wait()
        self.one.destroy()
        self.endpoint.destroy()


FAULTS = {
    "the endpoint is killed": Site.kill_endpoint,
    "the endpoint restarts": Site.restart_endpoint,
    "the receiver is killed": Site.kill_receiver,
    "everything is answered 500": lambda site: site.answer(status(500), seconds=0.5),
    "everything is answered 429": lambda site: site.answer(status(429, Retry_After="1"), seconds=0.5),
    "everything is answered 404": lambda site: site.answer(status(404), seconds=0.5),
    "everything fails": lambda site: site.answer(FAIL, seconds=0.5),
    "everything is redirected": lambda site: site.answer(status(302, Location=site.endpoint.url("/x")), seconds=0.5),
    "everything hangs": lambda site: site.answer(fault("hang"), seconds=0.5),
    "everything is cut off": lambda site: site.answer(fault("cut_in_body"), seconds=0.5),
    "every answer is endless": lambda site: site.answer(fault("endless"), seconds=0.5),
    "the certificate is wrong": Site.wrong_certificate,
}


def run_fault(site, name, total):
    """Causes the fault while events are recorded and delivered, and then kills deliver and starts it again."""
    site.answer(mix=MIX, seed=site.loads)
    load = site.start_load(total)
    site.endpoint.wait_requests(len(site.endpoint.requests()) + total // 10, deadline=120)
    FAULTS[name](site)
    site.record_some()
    site.kill_deliverer()
    daemon.load_report(load)
    site.record_some()


def wait_lag(site, most, deadline):
    daemon.eventually(lambda: metrics(site.admin_port)["imcallbackd_deliver_lag_events"] <= most,
                      f"at most {most} events wait", deadline)


def test_delivers_every_event_despite_faults():
    print(f"SEED={SEED}")
    site = Site()
    start = time.monotonic()
    try:
        daemon.load_report(site.start_load(EVENTS // 2))
        site.deliverer.start().wait_ready()
        for number in range(KILLS):
            if number % len(FAULTS) == 0:
                order = site.random.sample(sorted(FAULTS), len(FAULTS))
            name = order[number % len(FAULTS)]
            print(f"{time.monotonic() - start:.0f} s, {len(site.endpoint.requests())} requests: {name}", flush=True)
            run_fault(site, name, EVENTS // 2 // KILLS)
        site.answer(mix=MIX, seed=SEED)
        site.deliverer.wait_ready()
        wait_lag(site, EVENTS // 10, 120 + EVENTS / 50)
        site.endpoint.answer(OK)
        wait_lag(site, 0, 1200)
        ledger = Ledger(site.one, site.endpoint, secrets=[SECRET])
        repeats = ledger.check(interrupted=site.interrupted)
        print(f"{len(ledger.store.rows)} events, {len(ledger.requests)} requests, {KILLS} kills of deliver, {repeats} "
              f"repeats of {site.interrupted} possible ones, {time.monotonic() - start:.0f} s")
        site.deliverer.stop()
    finally:
        if site.deliverer.process:
            print(site.deliverer.log[-3000:])
        site.destroy()
