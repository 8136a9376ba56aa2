"""Tests which events deliver sets aside: those that the endpoint refuses for an hour while it accepts others, and those
that fail for [deliver] give_up_after. --replay sends such events again. The tests put the clock of deliver forward with
libfaketime."""

import re
import subprocess

import pytest

import daemon
from daemon import BINARY
from delivery import Clock, Ledger, deliver_to, most_in_flight, wait_delivered
from endpoint import FAIL, OK, fault, status
from monitoring import metrics

pytestmark = pytest.mark.skipif(not Clock.LIBRARIES, reason="faketime is not installed")
HOUR_S = 3600


@pytest.fixture
def clock(fresh):
    return Clock(fresh.directory)


@pytest.fixture
def start(fresh, endpoint, deliver, clock):
    """Starts the daemon, and a deliverer that uses the clock of the test."""
    def start(**keys):
        deliver_to(fresh, endpoint, **keys)
        if not fresh.process:
            fresh.start()
        return deliver(fresh, environment=clock.environment())
    return start


def pass_time(clock, endpoint, seconds, group=None):
    """Puts the clock forward by this time, and then by one minute at a time until another request arrives."""
    before = len(endpoint.requests(group))
    clock.put_forward(seconds)
    while not endpoint.has_requests(before + 1, group, 2):
        clock.put_forward(60)


@pytest.mark.parametrize("code", [400, 302, 404, 422])
def test_sets_an_event_aside_that_alone_is_refused_for_an_hour(fresh, endpoint, clock, start, code):
    """Events of other groups are delivered in the meantime. The next event of the same group is delivered once the
    refused event is set aside."""
    port = daemon.free_port()
    endpoint.answer(groups={"odd": [status(code)]})
    deliverer = start(admin_port=port)
    fresh.record("odd", "before")
    endpoint.wait_accepted("before")
    endpoint.wait_requests(2, "odd")
    fresh.record("odd", EventTime=1670574414999)
    clock.put_forward(HOUR_S - 100)
    fresh.record("meanwhile")
    endpoint.wait_accepted("meanwhile")
    assert metrics(port)["imcallbackd_deliver_set_aside_total"] == 0
    endpoint.answer(groups={"odd": [status(code), status(code), OK]})
    clock.put_forward(200)
    daemon.eventually(lambda: metrics(port)["imcallbackd_deliver_set_aside_total"] == 1, "it is set aside", 60)
    endpoint.answer()
    daemon.eventually(lambda: endpoint.accepted().count("odd") == 1, "the next event of the group", 60)
    deliverer.wait_logged("is set aside")
    (line,) = [line for line in deliverer.lines if "is set aside" in line and re.search(r"\b1\b", line)]
    assert line.startswith("<3>") and "deliver -c FILE --replay 1" in line, line
    accepted = [request.json["EventTime"] for request in endpoint.requests("odd") if request.accepted]
    assert [int(time) for time in accepted] == [1670574414999]


@pytest.mark.parametrize("answer", [FAIL, status(408), status(425), status(429), status(500), fault("cut_before")])
def test_sets_nothing_aside_that_may_be_accepted_later(fresh, endpoint, clock, start, answer):
    port = daemon.free_port()
    endpoint.answer(groups={"odd": [answer]})
    start(admin_port=port)
    fresh.record("odd")
    for number in range(4):
        fresh.record(f"g{number}")
        endpoint.wait_accepted(f"g{number}")
        pass_time(clock, endpoint, HOUR_S, "odd")
    assert metrics(port)["imcallbackd_deliver_set_aside_total"] == 0
    endpoint.answer()
    clock.put_forward(HOUR_S)
    wait_delivered(fresh, endpoint)


def test_loses_nothing_while_everything_is_refused(fresh, endpoint, clock, start):
    """The endpoint answers 404 for three hours, as after a wrong deployment. Meanwhile, deliver sends one event at a
    time as a probe."""
    port = daemon.free_port()
    start(admin_port=port, in_flight=4)
    fresh.record("before")
    endpoint.wait_accepted("before")
    endpoint.answer(status(404))
    fresh.record(*(f"g{number}" for number in range(50)))
    endpoint.wait_requests(1 + 4 + 2)
    for _ in range(12):
        pass_time(clock, endpoint, HOUR_S / 4)
    assert metrics(port)["imcallbackd_deliver_set_aside_total"] == 0
    assert most_in_flight(endpoint.requests()[6:]) == 1
    endpoint.answer()
    clock.put_forward(HOUR_S)
    wait_delivered(fresh, endpoint)
    assert metrics(port)["imcallbackd_deliver_set_aside_total"] == 0


def test_a_run_of_refused_events_blocks_no_later_ones(fresh, endpoint, clock, start):
    """More events than in_flight are refused one after the other, for example because the application does not know
    this type of group. The probes of deliver reach the events that the application accepts."""
    bad = [f"bad{number}" for number in range(12)]
    endpoint.answer(groups={group: [status(400)] for group in bad})
    start(in_flight=4)
    fresh.record(*bad, "good")
    while not endpoint.has_accepted("good"):
        pass_time(clock, endpoint, 60)
    for number in range(2):
        fresh.record(f"later{number}")
        while not endpoint.has_accepted(f"later{number}"):
            pass_time(clock, endpoint, 60)


def test_remembers_the_hour_over_restarts(fresh, endpoint, clock, start):
    port = daemon.free_port()
    endpoint.answer(groups={"odd": [status(400)]})
    deliverer = start()
    fresh.record("odd", "g0")
    endpoint.wait_requests(1, "odd")
    endpoint.wait_accepted("g0")
    fresh.record("g1")
    endpoint.wait_accepted("g1")
    deliverer.kill()
    clock.put_forward(HOUR_S + 100)
    deliverer = start()
    fresh.record("g2")
    endpoint.wait_accepted("g2")
    deliverer.wait_logged("is set aside")
    deliverer.stop()
    tries = len(endpoint.requests("odd"))
    deliverer = start(admin_port=port)
    fresh.record("g3")
    endpoint.wait_accepted("g3")
    assert metrics(port)["imcallbackd_deliver_set_aside_total"] == 1
    clock.put_forward(HOUR_S)
    fresh.record("g4")
    endpoint.wait_accepted("g4")
    assert len(endpoint.requests("odd")) == tries


@pytest.mark.parametrize("answer", [FAIL, status(500), status(400)])
def test_gives_up_after_the_configured_time(fresh, endpoint, clock, start, answer):
    """The event is set aside only if another event was accepted since the event first failed."""
    endpoint.answer(groups={"odd": [answer]})
    deliverer = start(give_up_after="30m")
    fresh.record("odd")
    endpoint.wait_requests(1, "odd")
    pass_time(clock, endpoint, 1700, "odd")
    pass_time(clock, endpoint, 1000, "odd")
    assert " is set aside" not in deliverer.log
    fresh.record("g0")
    endpoint.wait_accepted("g0")
    clock.put_forward(1000)
    deliverer.wait_logged("event 1 is set aside")
    endpoint.answer()
    fresh.record("odd", EventTime=1670574414999)
    # The clock may jump while the acceptance of g0 is on its way, and deliver then sends g0 again.
    daemon.eventually(lambda: list(dict.fromkeys(endpoint.accepted())) == ["g0", "odd"], "the next event of the group",
                      120)


# --replay

def replay(one, ids):
    return daemon.run(BINARY, "deliver", "-c", one.config, "--replay", ids)


def test_replays_what_was_set_aside(fresh, endpoint, clock, start):
    endpoint.answer(groups={"odd": [status(400)]})
    deliverer = start()
    fresh.record("g0", "odd", "g1")
    endpoint.wait_accepted("g0", "g1")
    deliverer.wait_logged("status 400")  # otherwise, the request in flight would time out when the clock jumps
    clock.put_forward(HOUR_S + 100)
    fresh.record("g2")
    deliverer.wait_logged("is set aside")
    done = replay(fresh, "2")
    assert done.returncode == 1 and "400" in done.stdout, done
    endpoint.answer()
    done = replay(fresh, "2")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1, done
    assert re.search(r"\b2\b.*accepted", done.stdout), done
    assert endpoint.accepted().count("odd") == 1


def test_replays_a_range_and_leaves_the_state_alone(fresh, endpoint, deliver):
    """The service runs during the replay, and delivers later events as before. A replay that finds no event fails."""
    deliver_to(fresh, endpoint)
    fresh.start()
    fresh.record(*(f"g{number}" for number in range(1, 6)))
    deliver(fresh)
    wait_delivered(fresh, endpoint)
    done = replay(fresh, "2-4")
    assert done.returncode == 0, done
    assert [re.search(r"\d+", line)[0] for line in done.stdout.splitlines()] == ["2", "3", "4"], done
    assert endpoint.accepted()[-3:] == ["g2", "g3", "g4"] and len(endpoint.accepted()) == 8
    ids = {}
    for request in endpoint.requests():
        ids.setdefault(request.json["GroupId"], []).append(request.id)
    assert all(len(set(same)) == 1 for same in ids.values()), ids
    fresh.record("g6")
    endpoint.wait_accepted("g6")
    assert Ledger(fresh, endpoint).check(interrupted=3) == 3
    done = replay(fresh, "6-9")
    assert done.stdout.splitlines()[0].startswith("6"), done
    for words, said in (("7", "event 7"), ("17-19", "event from 17 to 19")):
        done = replay(fresh, words)
        assert done.returncode == 1 and f"the database has no {said}; the newest id is 6\n" in done.stderr, done
    endpoint.answer(status(500))
    done = replay(fresh, "1-2")
    assert done.returncode == 1 and done.stdout.count("500") == 2, done


def test_replays_a_refused_event_of_an_endpoint_that_refuses_everything(fresh, endpoint, deliver):
    """A replay does not change the state, so the service delivers both events again after the replay."""
    endpoint.answer(status(403))
    deliver_to(fresh, endpoint)
    fresh.start()
    fresh.record("g1", "g2")
    deliverer = deliver(fresh)
    endpoint.wait_requests(2)
    deliverer.stop()
    endpoint.answer()
    assert replay(fresh, "1-2").returncode == 0
    deliver(fresh)
    daemon.eventually(lambda: sorted(endpoint.accepted()) == ["g1", "g1", "g2", "g2"], "both again")


def test_an_interrupted_replay_names_the_event_in_flight(fresh, endpoint):
    endpoint.answer(fault("hang"))
    deliver_to(fresh, endpoint, timeout="60s")
    fresh.start()
    fresh.record("g1", "g2")
    with subprocess.Popen([BINARY, "deliver", "-c", fresh.config, "--replay", "1-2"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        endpoint.wait_requests(1)
        process.terminate()
        printed, said = process.communicate(timeout=daemon.STOP_DEADLINE)
    assert (process.returncode, printed) == (1, ""), said
    assert "interrupted while event 1 was in flight; the endpoint may have accepted it" in said
    assert [request.group for request in endpoint.requests()] == ["g1"]


@pytest.mark.parametrize("words", ["", "x", "0", "3-2", "1-", "-1", "1-2-3", "99999999999999999999"])
def test_rejects_a_range_that_is_none(fresh, endpoint, words):
    deliver_to(fresh, endpoint)
    done = replay(fresh, words)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done
