"""The checker finds nothing in a good history, and finds each fault that is put into it by hand, under the name of the
rule that it breaks and no other."""

import json
import time

import pytest

import checker
from example import content, digest, good_history
from history import History, read

IN_LINES, IN_RUN = [], []


def broken(rule, **options):
    """Registers a function that changes the lines of a good history in place. rule: the rule that the change breaks, or
    None; options: the arguments of good_history()."""
    return lambda function: IN_LINES.append(pytest.param(rule, function, options, id=function.__name__))


def broken_run(rule, **options):
    """Registers a function that does something with the Example while the faults are under way."""
    return lambda function: IN_RUN.append(pytest.param(rule, function, options, id=function.__name__))


def check_rules(lines, rule):
    found = checker.check(lines)
    assert {violation.rule for violation in found} == ({rule} if rule else set()), checker.report(found)
    assert not rule or checker.report(found) == checker.report(checker.check(json.loads(json.dumps(lines))))


@pytest.mark.parametrize("rule, change, options", IN_LINES)
def test_change_in_the_history_is_noticed(rule, change, options):
    lines = good_history(**options)
    check_rules(lines, None)
    change(lines)
    check_rules(lines, rule)


@pytest.mark.parametrize("rule, change, options", IN_RUN)
def test_change_in_the_run_is_noticed(rule, change, options):
    check_rules(good_history(also=change, **options), rule)


def of_type(lines, type, **fields):
    return [line for line in lines if line["type"] == type and fields.items() <= line.items()]


def first(lines, type, **fields):
    return of_type(lines, type, **fields)[0]


def place_of(lines, line):
    return next(place for place, each in enumerate(lines) if each is line)


def remove(lines, removed):
    lines[:] = [line for line in lines if not any(line is each for each in removed)]


def insert_after(lines, line, **fields):
    lines.insert(place_of(lines, line) + 1, json.loads(json.dumps(line)) | fields)


def rows_of(lines, number):
    """Returns the lines of all snapshots that have the event with this number."""
    return [line for line in of_type(lines, "store_row") if line["row"]["name"] == f"group {number}"]


def remove_event(lines, number, *types):
    """Removes the event from the lines of these types, by default from everything but the calls."""
    uid, types = rows_of(lines, number)[0]["uid"], types or ("store_row", "destination_row", "delivery")
    remove(lines, [line for line in lines if line["type"] in types and line["uid"] == uid])


def call_of(lines, number, type="answer"):
    op = next(line["op"] for line in of_type(lines, "invoke") if line["expect"] and
              line["expect"]["name"] == f"group {number}")
    return first(lines, type, op=op)


def delivery_of(lines, number):
    return first(lines, "delivery", uid=rows_of(lines, number)[0]["uid"])


def last_rows(lines, receiver):
    number = of_type(lines, "snapshot", receiver=receiver, moment="final")[0]["snapshot"]
    return {line["id"]: line for line in of_type(lines, "store_row", snapshot=number)}


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
def body_that_is_no_event_is_lost(lines):
    remove(lines, of_type(lines, "rejected_row", receiver="b"))


@broken("conflict-lost")
def conflict_is_lost(lines):
    remove(lines, of_type(lines, "rejected_row", receiver="a"))


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


@broken("answer-unexpected")
def time_is_called_stale_although_no_clock_was_changed(lines):
    for line in of_type(lines, "fault", name="clock"):
        line["name"] = "reload"


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
    first(lines, "phase", name="faults")["at"] = call_of(lines, 1, "invoke")["at"] + 2
    call_of(lines, 1)["latency_s"] = 2.5


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


# Deliveries

@broken("never-accepted")
def event_is_never_accepted(lines):
    delivery_of(lines, 8)["accepted"] = False


@broken(None)
def event_is_set_aside(lines):
    delivery_of(lines, 8)["accepted"] = False
    insert_after(lines, delivery_of(lines, 8), type="set_aside", receiver="b", id=rows_of(lines, 8)[0]["id"])


@broken("delivery-order")
def delivery_is_reordered(lines):
    earlier, later = delivery_of(lines, 6), delivery_of(lines, 7)
    for name in ("place", "end_place", "arrived_s", "ended_s"):
        earlier[name], later[name] = later[name], earlier[name]


@broken("delivery-order")
def delivery_comes_before_the_earlier_one_is_accepted(lines):
    earlier, later = delivery_of(lines, 6), delivery_of(lines, 7)
    insert_after(lines, later, uid=earlier["uid"], place=1001, end_place=1002)
    earlier["accepted"] = False


@broken("delivery-order")
def delivery_comes_again_after_a_later_one(lines):
    """The answer was lost in the fault that killed the receiver, so the repeat as such is allowed."""
    earlier, later = delivery_of(lines, 6), delivery_of(lines, 7)
    kill = first(lines, "fault", name="kill", phase="begin")
    earlier["arrived_s"] = earlier["ended_s"] = kill["at"]
    insert_after(lines, later, uid=earlier["uid"], place=1001, end_place=1002)


@broken("delivery-in-flight")
def deliveries_of_a_group_overlap(lines):
    """The earlier event is accepted at its first request. Its second request is in flight when the next event is
    sent."""
    earlier, later = delivery_of(lines, 6), delivery_of(lines, 7)
    kill = first(lines, "fault", name="kill", phase="begin")
    earlier["arrived_s"] = earlier["ended_s"] = kill["at"]
    insert_after(lines, earlier, place=earlier["end_place"] + 0.2, end_place=later["place"] + 0.5)


@broken("delivery-forged")
def delivery_is_forged(lines):
    insert_after(lines, delivery_of(lines, 8), uid="f" * 64, group="forged", place=1001, end_place=1002)


@broken("delivery-forged")
def event_is_delivered_to_the_wrong_endpoint(lines):
    insert_after(lines, delivery_of(lines, 8), endpoint="endpoint-a", place=1001, end_place=1002)


@broken("delivery-malformed")
def delivery_has_a_wrong_field(lines):
    delivery_of(lines, 8)["fields_ok"] = False


@broken("delivered-again")
def accepted_event_is_sent_again(lines):
    line = delivery_of(lines, 8)
    for each in of_type(lines, "process", name="endpoint-a", event="exit"):
        each["at"] = 1000
    line["arrived_s"] = line["ended_s"] = 500
    insert_after(lines, line, place=1001, end_place=1002)


# Processes, texts and counters

@broken("secret")
def log_has_a_secret(lines):
    first(lines, "text")["secrets"] = ["token"]


def last_exit(lines, name):
    return of_type(lines, "process", name=name, event="exit")[-1]


@broken("process-exit")
def process_crashes(lines):
    last_exit(lines, "receiver-b")["status"] = -11


@broken("process-exit")
def process_aborts_in_a_fault(lines):
    of_type(lines, "process", name="receiver-a", event="exit")[0]["status"] = -6


@broken("process-exit")
def sanitizer_reports(lines):
    last_exit(lines, "deliver-a")["status"] = 99


@broken("process-exit")
def process_is_killed_without_being_asked(lines):
    of_type(lines, "process", name="receiver-a", event="exit")[0]["asked"] = None


@broken("process-exit")
def process_fails_without_a_fault(lines):
    last_exit(lines, "deliver-a")["status"] = 1
    last_exit(lines, "deliver-a")["at"] += 100


@broken("process-exit")
def process_ends_by_itself(lines):
    last_exit(lines, "deliver-a")["asked"] = None
    last_exit(lines, "deliver-a")["at"] += 100


@broken("process-exit")
def receiver_is_ended_by_the_signal_that_it_handles(lines):
    last_exit(lines, "receiver-a")["status"] = -15


@broken(None)
def process_fails_in_a_fault(lines):
    first(lines, "process", name="receiver-a", event="exit").update(status=1, asked=None)


@broken("nemesis")
def fault_cannot_be_ended(lines):
    first(lines, "fault", name="kill", phase="end").update(phase="failed", note="Traceback")


@broken("nemesis")
def client_fails(lines):
    insert_after(lines, first(lines, "text"), type="note", text="the client failed: KeyError()")


@broken("leak")
def memory_leaks(lines):
    first(lines, "sample", moment="final", process="receiver-a")["rss_bytes"] = 60 << 20


@broken("leak")
def descriptors_leak(lines):
    first(lines, "sample", moment="final", process="deliver-a")["descriptors"] = 51


@broken("history")
def sample_is_missing(lines):
    remove(lines, of_type(lines, "sample", moment="final", process="deliver-a"))


def counters(lines, moment="final_end"):
    return first(lines, "counters", receiver="a", moment=moment)


@broken("counters")
def counter_is_too_high(lines):
    counters(lines)["metrics"]['imcallbackd_callbacks_total{result="recorded"}'] += 1
    counters(lines)["status"]["callbacks_since_start"]["recorded"] += 1


@broken("counters")
def page_differs_from_the_metrics(lines):
    counters(lines)["status"]["callbacks_since_start"]["repeated"] += 1


@broken("counters")
def refusal_is_counted_twice(lines):
    first(lines, "counters", receiver="b", moment="final_end")["status"]["rejected_since_start"][0]["count"] += 1


@broken("counters")
def members_are_not_counted(lines):
    counters(lines)["metrics"]["imcallbackd_members_recorded_total"] -= 1


@broken("counters")
def newest_id_is_wrong(lines):
    counters(lines)["newest_id"] += 1


@broken("history")
def counters_are_missing(lines):
    remove(lines, [counters(lines)])


# The history as a whole

@broken("history")
def run_has_no_end(lines):
    remove(lines, of_type(lines, "phase", name="end"))


@broken("history")
def answer_has_no_call(lines):
    insert_after(lines, call_of(lines, 1), op=1000)


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
