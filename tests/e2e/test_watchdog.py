"""The daemon notifies the watchdog while the writer makes progress, however slowly, but not while the disk hangs."""

import threading

import daemon
from daemon import event

WATCHDOG = {"WATCHDOG_USEC": "1000000"}
HANGS = "the watchdog is not notified"


def received(one):
    """Returns the notifications since the previous call."""
    messages = []
    one.notify.settimeout(0)
    try:
        while True:
            messages.append(one.notify.recv(4096).decode())
    except BlockingIOError:
        return messages


def test_an_idle_daemon_notifies_the_watchdog(make_daemon):
    one = make_daemon().start(environment=WATCHDOG)
    for _ in range(3):
        one.wait_notified("WATCHDOG=1")


def test_sends_no_notification_without_a_watchdog(one):
    assert one.post().status == 200
    one.reload()
    assert received(one) == []


def test_waiting_for_a_lock_counts_as_progress(make_daemon):
    one = make_daemon({"limits": {"store_wait": "60s"}}).start(environment=WATCHDOG)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(one.post()))
    with one.locked():
        waiting.start()
        daemon.eventually(lambda: "cannot be recorded" in one.log, "a failed commit")
        received(one)
        for _ in range(4):
            one.wait_notified("WATCHDOG=1")
        assert answers == []
    waiting.join()
    assert answers[0].status == 200 and HANGS not in one.log


def test_stops_notifying_while_the_disk_hangs(fresh):
    # The 20th fdatasync, which comes after the start, takes 12 s.
    fresh.start(["strace", "-D", "-f", "-q", "-o", fresh.directory / "trace", "-e", "trace=fdatasync", "-e",
               "inject=fdatasync:delay_enter=12000000:when=20"], WATCHDOG | {"ASAN_OPTIONS": "detect_leaks=0"})
    fresh.wait_notified("WATCHDOG=1")
    answers = []
    sending = threading.Thread(target=lambda: answers.extend(fresh.post(event(GroupId=f"@TGS#{i}")) for i in range(20)))
    sending.start()
    daemon.eventually(lambda: HANGS in fresh.log, "the line about the disk", 60)
    lines = fresh.log.count(HANGS)
    received(fresh)
    daemon.eventually(lambda: fresh.log.count(HANGS) >= lines + 3, "three more lines")
    assert received(fresh) == []
    sending.join()
    assert [answer.status for answer in answers] == [200] * 20
    fresh.wait_notified("WATCHDOG=1")
