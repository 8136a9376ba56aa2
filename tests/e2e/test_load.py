"""Tests many clients at once: all events are answered and recorded, few fsyncs serve many events, and no client
starves."""

import re

import pytest

import daemon

# These tables map the number of connections to the number of rounds. The numbers around 128 are critical, because
# libmicrohttpd takes at most 128 events per epoll_wait().
FEW_BURSTS = {127: 10, 128: 10, 129: 10, 256: 10}
ALL_BURSTS = {127: 40, 128: 40, 129: 40, 256: 31, 512: 15, 1000: 8, 4000: 5}


def assert_all_recorded(one, report, seed, members):
    """Asserts that there are as many rows as answers, and that each event is recorded once with the right members."""
    total = report["requests"]
    assert report["by_status"] == {"200": total} and report["ok"] == total, report
    assert report["failed_connections"] == report["unanswered"] == 0, report
    assert one.sql("SELECT count(*) AS rows, count(DISTINCT group_id) AS groups, min(member_count) AS fewest, "
                   "max(member_count) AS most FROM destroyed_group") == [
                       {"rows": total, "groups": total, "fewest": members, "most": members}]
    # The load generator names a member after its event and position.
    assert one.value(
        "SELECT count(*) FROM destroyed_group_member JOIN destroyed_group ON id = destroyed_group_id WHERE "
        f"'load-{seed}-' || substr(member_account, 8, length(member_account) - 8 - length(position)) = group_id "
        f"AND member_account LIKE 'member-%-' || position AND position < {members}") == total * members
    assert one.value("SELECT count(*) FROM destroyed_group_member") == total * members
    assert one.rejected() == []


def start_traced(one, *options):
    # -D makes the daemon, not strace, the child of the test. LeakSanitizer cannot work in a traced process.
    one.start(["strace", "-D", "-f", "-e", "trace=fsync,fdatasync", *map(str, options)],
              {"ASAN_OPTIONS": "detect_leaks=0"})


@pytest.mark.parametrize("total", [4_000, pytest.param(20_000, marks=pytest.mark.full)])
def test_records_the_events_of_two_hundred_clients(one, total):
    status, report = one.load(connections=200, total=total, members=3, seed=7)
    print(report)
    assert status == 0
    assert_all_recorded(one, report, 7, 3)


def test_records_events_on_new_connections(one):
    status, report = one.load(connections=16, total=400, seed=8, new_connection=True)
    print(report)
    assert status == 0
    assert_all_recorded(one, report, 8, 3)


def test_records_events_of_clients_that_connect_while_others_work(one):
    status, report = one.load(connections=300, total=1_500, seed=10, connect_late=True)
    print(report)
    assert status == 0
    assert_all_recorded(one, report, 10, 3)


def test_idle_connections_stay_open_while_others_work(make_daemon):
    """The idle connections come from two addresses, because one address may have 1,024 connections."""
    one = make_daemon().start()
    status, report = one.load(connections=8, total=400, seed=10, idle=1_100)
    print(report)
    assert status == 0 and report["idle"] == 1_100
    assert report["by_status"] == {"200": 400}
    assert one.value("SELECT count(*) FROM destroyed_group") == 400 + 1_100


@pytest.mark.parametrize("total", [2_000, pytest.param(8_000, marks=pytest.mark.full)])
def test_one_fsync_serves_many_events(fresh, total):
    counted = fresh.directory / "fsyncs"
    start_traced(fresh, "-c", "-o", counted)
    status, report = fresh.load(connections=200, total=total, members=3, seed=9)
    assert status == 0
    assert_all_recorded(fresh, report, 9, 3)
    fresh.stop()
    text = daemon.eventually(lambda: counted.exists() and counted.read_text(), "the summary of strace")
    fsyncs = sum(int(calls) for calls in re.findall(r"(?m)^(?:\s*[\d.]+){3}\s+(\d+)\s.*\bf(?:data)?sync$", text))
    print(f"{fsyncs} fsyncs for {report['requests']} events")
    assert total / 200 <= fsyncs < total / 4, text


def test_each_answer_to_a_single_client_follows_its_own_fsync(fresh):
    counted = fresh.directory / "fsyncs"
    start_traced(fresh, "-o", counted)
    before = counted.read_text().count("sync(")
    status, _ = fresh.load(connections=1, total=50)
    assert status == 0
    assert counted.read_text().count("sync(") - before >= 50


@pytest.mark.timing
@pytest.mark.parametrize("bursts", [FEW_BURSTS, pytest.param(ALL_BURSTS, marks=pytest.mark.full)], ids=["few", "all"])
@pytest.mark.parametrize("threads", [1, 2])
def test_answers_bursts_in_the_time_that_the_throughput_explains(make_daemon, threads, bursts):
    one = make_daemon({"listen": {"threads": threads},
                       "limits": {"connections": 4096, "connections_per_address": 4096}}).start()
    status, report = one.load(connections=32, total=4_000)
    assert status == 0, report
    per_second = report["rate_per_second"]
    for burst, rounds in bursts.items():
        status, report = one.load(connections=burst, rounds=rounds, timeout=10)
        explained_ms = burst / per_second * 1000
        print(f"threads {threads}, {burst} connections, {rounds} rounds: median {report['median_round_ms']:.0f} ms, "
              f"longest {report['longest_round_ms']:.0f} ms; {explained_ms:.0f} ms explained by the throughput")
        assert status == 0, report
        assert report["by_status"] == {"200": burst * rounds}
        assert report["median_round_ms"] < 5 * explained_ms + 50, report
        assert report["longest_round_ms"] < min(20 * explained_ms + 500, 10_000), report
