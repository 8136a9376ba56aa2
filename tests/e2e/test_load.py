"""Many clients at once: everything is answered and recorded, few fsyncs serve many events, nobody is left waiting."""

import re

import pytest

import daemon

CROWDS = (127, 128, 129, 256, 512, 1000, 4000)  # around the 128 events that an event loop takes at once, and far beyond


def check_all_there(one, report, seed, members):
    """As many rows as answers, each event once and with its own members."""
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
    # -D: the daemon stays the child of the test, and strace steps aside. A traced process cannot look for leaks.
    one.start(["strace", "-D", "-f", "-e", "trace=fsync,fdatasync", *map(str, options)],
              {"ASAN_OPTIONS": "detect_leaks=0"})


def test_two_hundred_clients(make_daemon):
    one = make_daemon().start()
    status, report = one.load(connections=200, total=20_000, members=3, seed=7)
    print(report)
    assert status == 0
    check_all_there(one, report, 7, 3)


def test_new_connection_for_each_event(make_daemon):
    one = make_daemon().start()
    status, report = one.load(connections=16, total=400, seed=8, new_connection=True)
    print(report)
    assert status == 0
    check_all_there(one, report, 8, 3)


def test_few_fsyncs_for_many_events(make_daemon):
    one = make_daemon()
    counted = one.directory / "fsyncs"
    start_traced(one, "-c", "-o", counted)
    status, report = one.load(connections=200, total=8_000, members=3, seed=9)
    assert status == 0
    check_all_there(one, report, 9, 3)
    one.stop()
    text = daemon.eventually(lambda: counted.exists() and counted.read_text(), "the summary of strace")
    fsyncs = sum(int(calls) for calls in re.findall(r"(?m)^(?:\s*[\d.]+){3}\s+(\d+)\s.*\bf(?:data)?sync$", text))
    print(f"{fsyncs} fsyncs for {report['requests']} events")
    assert 8_000 / 200 <= fsyncs < 8_000 / 4, text


def test_one_client_waits_for_the_disk(make_daemon):
    """With nobody else there is nothing to wait together with: each answer has an fsync of its own behind it."""
    one = make_daemon()
    counted = one.directory / "fsyncs"
    start_traced(one, "-o", counted)
    begun = counted.read_text().count("sync(")
    status, _ = one.load(connections=1, total=50)
    assert status == 0
    assert counted.read_text().count("sync(") - begun >= 50


@pytest.mark.timing
@pytest.mark.parametrize("threads", [1, 2])
def test_crowds_that_send_at_the_same_instant(make_daemon, threads):
    one = make_daemon({"listen": {"threads": threads},
                       "limits": {"connections": 4096, "connections_per_address": 4096}}).start()
    status, report = one.load(connections=32, total=8_000)
    assert status == 0, report
    per_second = report["rate_per_second"]
    for crowd in CROWDS:
        rounds = max(5, min(40, 8_000 // crowd))
        status, report = one.load(connections=crowd, rounds=rounds, timeout=10)
        explained_ms = crowd / per_second * 1000
        print(f"threads {threads}, {crowd} connections, {rounds} rounds: median {report['median_round_ms']:.0f} ms, "
              f"longest {report['longest_round_ms']:.0f} ms; {explained_ms:.0f} ms explained by the throughput")
        assert status == 0, report
        assert report["by_status"] == {"200": crowd * rounds}
        assert report["median_round_ms"] < 5 * explained_ms + 50, report
        assert report["longest_round_ms"] < min(20 * explained_ms + 500, 10_000), report
