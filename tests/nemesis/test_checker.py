"""The checker finds each fault in the events and the stores that is put into a good history by hand."""

import json
import time

import pytest

import checker
from changes import Cases, call_of, delivery_of, first, insert_after, last_rows, of_type, remove, remove_event, rows_of
from example import content, digest, good_history
from history import History, read

CASES = Cases()
broken, broken_run = CASES.broken, CASES.broken_run


# Events and the stores

@broken("acknowledged-lost")
def event_is_lost(lines):
    remove_event(lines, 8)


@broken("acknowledged-lost")
def event_without_time_is_lost(lines):
    remove_event(lines, 3)


@broken("acknowledged-lost", retention=True)
def event_is_lost_although_retention_deletes(lines):
    remove_event(lines, 8)


@broken(None, retention=True)
def event_was_taken_and_deleted_before_any_snapshot(lines):
    remove_event(lines, 8, "store_row")


@broken(None)
def event_with_unknown_outcome_is_not_recorded(lines):
    remove_event(lines, 4)


@broken_run("recorded-twice")
def event_is_doubled(run):
    run.record("b", content(8))


@broken_run("recorded-twice")
def event_without_time_is_doubled(run):
    run.record("a", content(3, with_time=False))


@broken_run(None)
def event_without_time_comes_again_after_the_repeat_window(run):
    run.invoke("no_time", content(3, with_time=False))
    run.now += 400
    run.record("a", content(3, with_time=False))
    run.answer()


@broken_run(None)
def event_is_recorded_by_both_receivers(run):
    row = content(8, client_ip="10.9.9.9")
    run.event("a", row, "repeat")


@broken_run("recorded-twice")
def event_that_was_sent_once_is_in_both_stores(run):
    run.record("a", content(8))


@broken_run("recorded-twice")
def event_without_time_that_was_sent_once_is_in_both_stores(run):
    run.record("b", content(3, with_time=False))


@broken("recorded-twice")
def id_occurs_twice(lines):
    insert_after(lines, last_rows(lines, "b")[2])


def change_everywhere(lines, number, **fields):
    uid = rows_of(lines, number)[0]["uid"]
    for line in lines:
        if line.get("uid") == uid and "row" in line:
            line["row"] |= fields


@broken("recorded-torn")
def member_is_missing(lines):
    change_everywhere(lines, 8, members=digest("member-8-0"))


@broken("recorded-torn")
def count_of_members_is_wrong(lines):
    change_everywhere(lines, 8, member_count=2)


@broken("recorded-torn")
def event_with_unknown_outcome_is_torn(lines):
    change_everywhere(lines, 4, name="group")


@broken("recorded-address")
def address_is_wrong(lines):
    change_everywhere(lines, 8, remote_address="127.0.0.1")


@broken_run("recorded-address")
def address_is_mixed_from_two_attempts(run):
    run.invoke("event", content(30))
    run.unknown()
    run.invoke("event", content(30, remote_address="127.0.0.3", client_ip="10.1.1.1"), attempt=2)
    run.record("a", content(30, remote_address="127.0.0.3"))
    run.answer(attempt=2)


@broken_run(None)
def second_attempt_is_recorded(run):
    run.invoke("event", content(30))
    run.unknown()
    run.invoke("event", content(30, remote_address="127.0.0.3"), attempt=2)
    run.record("a", content(30, remote_address="127.0.0.3"))
    run.answer(attempt=2)


@broken_run("recorded-forged")
def row_is_forged(run):
    run.record("b", content(50))


@broken_run("recorded-refused")
def refused_event_is_recorded(run):
    run.invoke("event", content(30), allowed=[(403, 120114)])
    run.record("b", content(30))
    run.answer(403, 120114)


@broken("unavailable-lost")
def refused_event_is_not_in_the_log(lines):
    remove(lines, of_type(lines, "crit_line"))


@broken("unavailable-lost")
def log_has_another_body(lines):
    first(lines, "crit_line")["digest"] = digest("another body")


@broken_run(None)
def overload_keeps_nothing(run):
    run.invoke("event", content(30))
    run.answer(503, 120007)


@broken_run(None)
def event_that_was_answered_503_is_recorded(run):
    run.invoke("event", content(30))
    run.record("a", content(30))
    run.answer(503, 120301)


@broken("rejected-lost")
def body_that_is_not_an_event_is_lost(lines):
    remove(lines, of_type(lines, "rejected_row", receiver="b"))


@broken("conflict-lost")
def conflict_is_lost(lines):
    remove(lines, of_type(lines, "rejected_row", receiver="a"))


@broken("conflict-lost", retention=True)
def conflict_is_lost_although_retention_deletes(lines):
    remove(lines, of_type(lines, "rejected_row", receiver="a"))


@broken_run("rejected-forged")
def kept_body_is_torn(run):
    run.reject("a", "not JSON", digest("half of a body"))


@broken("rejected-lost")
def kept_body_vanishes(lines):
    last = of_type(lines, "snapshot", receiver="b")[-1]["snapshot"]
    remove(lines, of_type(lines, "rejected_row", snapshot=last))


@broken("id-reused")
def id_of_a_kept_body_is_reused(lines):
    last = of_type(lines, "snapshot", receiver="b")[-1]["snapshot"]
    first(lines, "rejected_row", snapshot=last)["digest"] = first(lines, "rejected_row", receiver="a")["digest"]


@broken_run(None)
def conflict_wins_in_the_other_store(run):
    run.event("b", content(6, group="same", name="another"), "conflict")
    run.snapshot("b", "clock")


@broken("row-changed")
def conflict_replaces_the_event(lines):
    last_rows(lines, "a")[1]["row"]["name"] = "another name"
    first(lines, "destination_row", uid=last_rows(lines, "a")[1]["uid"])["row"]["name"] = "another name"
    uid = last_rows(lines, "a")[1]["uid"]
    assert any(line["row"]["name"] == "group 1" for line in of_type(lines, "store_row", uid=uid))


# Answers

@broken("answer-unexpected")
def answer_is_not_allowed(lines):
    next(line for line in of_type(lines, "answer") if line["code"] == 120201)["code"] = 120202


@broken_run("answer-unexpected")
def answer_has_no_valid_form(run):
    run.invoke("event", content(30), honest=False)
    run.answer(None, None)


@broken_run("answer-unexpected")
def valid_signature_is_refused(run):
    run.invoke("event", content(30), honest=False)
    run.answer(403, 120114)


@broken_run(None)
def token_is_removed_while_a_call_is_under_way(run):
    run.invoke("event", content(30), honest=False)
    run.add("tokens_removed")
    run.answer(403, 120114)


@broken("answer-unexpected")
def time_is_called_stale_although_no_clock_was_changed(lines):
    lines.remove(of_type(lines, "clock")[0])


@broken("honest-slow")
def honest_call_is_slow(lines):
    call_of(lines, 1)["latency_s"] = 2.5


@broken("honest-not-answered")
def honest_call_has_no_answer(lines):
    call_of(lines, 1).update(type="unknown", error="timeout")


@broken("honest-not-answered")
def honest_call_is_answered_503(lines):
    call_of(lines, 1).update(status=503, code=120007)


@broken("honest-slow")
def honest_call_at_the_end_is_slow(lines):
    call_of(lines, 11)["latency_s"] = 2.5


@broken(None)
def call_just_before_the_faults_is_slow(lines):
    first(lines, "phase", name="faults")["at"] = call_of(lines, 2, "invoke")["at"] + 2
    call_of(lines, 2)["latency_s"] = 2.5


@broken("history")
def quiet_phase_has_no_honest_call(lines):
    for number in (1, 2, 3):
        call_of(lines, number, "invoke")["honest"] = False
    first(lines, "invoke", kind="repeat")["honest"] = False


# The stores over time, and the destination

@broken("destination-missing")
def event_is_missing_in_the_destination(lines):
    remove_event(lines, 8, "destination_row")


@broken("destination-twice")
def event_is_doubled_in_the_destination(lines):
    insert_after(lines, first(lines, "destination_row"))


@broken("destination-differs")
def event_is_torn_in_the_destination(lines):
    first(lines, "destination_row")["row"]["members"] = digest("")


@broken("destination-forged")
def event_is_forged_in_the_destination(lines):
    line = first(lines, "destination_row")
    insert_after(lines, line, uid="f" * 64, row=line["row"] | {"group_id": "forged"})


@broken("destination-forged")
def destination_names_a_receiver_that_does_not_have_the_event(lines):
    first(lines, "destination_row", uid=rows_of(lines, 8)[0]["uid"])["receiver"] = "a"


@broken("destination-forged", retention=True)
def event_is_forged_in_the_destination_although_retention_deletes(lines):
    line = first(lines, "destination_row")
    insert_after(lines, line, uid="f" * 64, row=line["row"] | {"group_id": "forged"})


@broken_run("id-reused", retention=True)
def id_is_reused(run):
    run.event("b", content(40))
    run.deliver("b", run.ids["b"])
    run.snapshot("b", "clock")
    del run.rows["b"][run.ids["b"]]
    run.ids["b"] -= 1
    run.event("b", content(41))


@broken_run("id-not-growing")
def new_row_has_a_lower_id(run):
    """Either attempt may have recorded the event, so the order of the calls does not tell the order of the ids."""
    run.ids["b"] = 10
    run.event("b", content(40))
    run.snapshot("b", "clock")
    run.ids["b"] = 5
    run.invoke("event", content(41))
    run.unknown()
    run.invoke("event", content(41), attempt=2)
    run.record("b", content(41))
    run.answer(attempt=2)
    run.ids["b"] = 11


@broken_run("id-order")
def ids_are_not_in_the_order_of_the_calls(run):
    run.ids["b"] = 10
    run.event("b", content(40))
    run.ids["b"] = 5
    run.event("b", content(41))
    run.ids["b"] = 11


@broken("row-lost")
def event_vanishes(lines):
    remove(lines, [last_rows(lines, "b")[2]])


@broken("restore-lost")
def restore_loses_an_event(lines):
    restored = first(lines, "snapshot", moment="restore")["snapshot"]
    remove(lines, [first(lines, "store_row", snapshot=restored, id=1)])


@broken("backup-incomplete")
def backup_lacks_an_event(lines):
    backup = first(lines, "snapshot", moment="backup")["snapshot"]
    remove(lines, [first(lines, "store_row", snapshot=backup, id=2)])


@broken(None, retention=True, deleted=(1, 2, 3))
def retention_deletes_what_was_taken(lines):
    pass


@broken("deleted-untaken", retention=True, deleted=(1,))
def event_is_deleted_before_it_was_delivered(lines):
    at = first(lines, "snapshot", receiver="a", moment="final")["at"]
    delivery_of(lines, 1)["arrived_s"] = delivery_of(lines, 1)["ended_s"] = at + 1


# The history as a whole

@broken("history")
def run_has_no_end(lines):
    remove(lines, of_type(lines, "phase", name="end"))


@broken("history")
def fault_has_no_end(lines):
    remove(lines, of_type(lines, "fault", name="clock step", phase="end"))


@broken("history")
def answer_has_no_call(lines):
    insert_after(lines, call_of(lines, 1), op=1000)


@pytest.mark.parametrize("judge", CASES.all)
def test_change_is_noticed(judge):
    judge()


def test_empty_history_is_not_good():
    assert {violation.rule for violation in checker.check([])} == {"history"}


def test_history_is_read_as_it_was_recorded(tmp_path):
    history = History(tmp_path / "history")
    history.record("note", text="Ünïcödé \ud800\n")
    history.record("note", text="second")
    history.close()
    history.record("note", text="dropped")
    with (tmp_path / "history").open("a") as file:
        file.write('{"at":1')
    lines = read(tmp_path / "history")
    assert [line["text"] for line in lines] == ["Ünïcödé \ud800\n", "second"]
    assert 0 <= lines[0]["at"] <= lines[1]["at"] <= history.seconds()


def test_command_prints_violations_and_summary(tmp_path, capsys):
    path, lines = tmp_path / "history", good_history()
    for expected in (0, 1):
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert checker.main(path) == expected
        assert "unknown outcomes: 2\n" in (text := capsys.readouterr().out)
        assert ("destination-missing: id" in text) == bool(expected)
        remove(lines, of_type(lines, "destination_row"))


def test_large_history_is_checked_in_time():
    def record_many(run):
        for number in range(100, 2600):
            run.event("ab"[number % 2], content(number, group=f"group {number % 3}"))

    lines = good_history(also=record_many)
    start = time.process_time()
    assert checker.check(lines) == []
    assert len(lines) > 15_000 and time.process_time() - start < 2
