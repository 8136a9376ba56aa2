"""The checker finds each fault in the deliveries, the processes and their counters that is put into a good history by
hand."""

import pytest

from changes import Cases, delivery_of, first, insert_after, of_type, remove, rows_of

CASES = Cases()
broken, broken_run = CASES.broken, CASES.broken_run


# Deliveries

@broken("never-accepted")
def event_is_never_accepted(lines):
    delivery_of(lines, 8)["accepted"] = False


@broken("set-aside")
def event_is_set_aside_although_it_was_not_refused(lines):
    delivery_of(lines, 8)["accepted"] = False
    insert_after(lines, delivery_of(lines, 8), type="set_aside", receiver="b", id=rows_of(lines, 8)[0]["id"])


@broken(None)
def refused_event_is_set_aside(lines):
    event_is_set_aside_although_it_was_not_refused(lines)
    for line in of_type(lines, "fault", name="clock step"):
        line.update(name="application refuses", target="endpoint-b")
    delivery_of(lines, 8)["arrived_s"] = delivery_of(lines, 8)["ended_s"] = line["at"]


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


def kill_deliver(lines):
    """Kills the process in the middle of the faults. Returns the time."""
    at = first(lines, "fault", name="kill", phase="begin")["at"]
    insert_after(lines, first(lines, "process", event="exit"), name="deliver-a", at=at)
    return at


def trouble_endpoint(lines, until):
    """Makes a fault of the endpoint last until this delivery arrives."""
    for line in of_type(lines, "fault", name="kill"):
        line["target"] = "endpoint-a"
    first(lines, "fault", name="kill", phase="end")["at"] = until["arrived_s"]


@broken("delivery-order")
def delivery_comes_while_the_endpoint_has_not_accepted_the_earlier_one(lines):
    earlier, later = delivery_of(lines, 6), delivery_of(lines, 7)
    trouble_endpoint(lines, later)
    earlier["end_place"] = later["place"] + 0.5


@broken(None)
def repeat_of_an_accepted_delivery_arrives_late_after_a_fault_of_the_link(lines):
    later = delivery_of(lines, 7)
    trouble_endpoint(lines, later)
    insert_after(lines, later, uid=delivery_of(lines, 6)["uid"], place=1001, end_place=1002)


@broken("delivery-order")
def delivery_comes_again_after_a_later_one(lines):
    """Deliver was killed before it kept the answer, so the repeat as such is allowed."""
    earlier, later = delivery_of(lines, 6), delivery_of(lines, 7)
    earlier["arrived_s"] = earlier["ended_s"] = kill_deliver(lines)
    insert_after(lines, later, uid=earlier["uid"], place=1001, end_place=1002)


@broken("delivery-in-flight")
def deliveries_of_a_group_overlap(lines):
    """The earlier event is accepted at its first request. Its second request is in flight when the next event is
    sent."""
    earlier, later = delivery_of(lines, 6), delivery_of(lines, 7)
    earlier["arrived_s"] = earlier["ended_s"] = kill_deliver(lines)
    insert_after(lines, earlier, place=earlier["end_place"] + 0.2, end_place=later["place"] + 0.5)


@broken("delivery-forged")
def delivery_is_forged(lines):
    insert_after(lines, delivery_of(lines, 8), uid="f" * 64, group="forged", place=1001, end_place=1002)


@broken("delivery-forged")
def event_is_delivered_to_the_wrong_endpoint(lines):
    insert_after(lines, delivery_of(lines, 8), endpoint="endpoint-a", place=1001, end_place=1002)


@broken("delivery-forged", retention=True)
def delivery_is_forged_although_retention_deletes(lines):
    insert_after(lines, delivery_of(lines, 8), uid="f" * 64, group="forged", place=1001, end_place=1002)


@broken(None, retention=True)
def deliveries_of_events_that_no_snapshot_has_overlap(lines):
    for number, place in ((6, 1001), (8, 1003)):
        insert_after(lines, delivery_of(lines, number), uid=f"{number}" * 64, group=None, place=place, end_place=1010)


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


@broken("delivered-again")
def accepted_event_is_sent_again_in_a_fault_of_another_part(lines):
    line = delivery_of(lines, 4)
    line["arrived_s"] = line["ended_s"] = first(lines, "fault", name="kill", phase="begin")["at"]
    insert_after(lines, line, place=1001, end_place=1002)


@broken("delivered-again")
def accepted_event_is_sent_again_late_without_a_fault(lines):
    line = delivery_of(lines, 11)
    line["arrived_s"] = line["ended_s"] = first(lines, "phase", name="final")["at"]
    insert_after(lines, line, place=1001, end_place=1002, arrived_s=line["arrived_s"] + 5)
    last_exit(lines, "deliver-b")["at"] += 100


@broken(None)
def accepted_event_is_sent_again_because_its_answer_was_late(lines):
    line = delivery_of(lines, 4)
    line["arrived_s"] = line["ended_s"] = first(lines, "fault", name="kill", phase="begin")["at"]
    insert_after(lines, line, place=1001, end_place=1002, arrived_s=line["arrived_s"] + 2)


@broken(None)
def accepted_event_is_sent_again_because_deliver_was_killed(lines):
    line = delivery_of(lines, 4)
    line["arrived_s"] = line["ended_s"] = kill_deliver(lines)
    insert_after(lines, line, place=1001, end_place=1002)


# Processes, texts and counters

@broken("secret")
def log_has_a_secret(lines):
    first(lines, "text")["secrets"] = ["token"]


@broken("report")
def sanitizer_reports_a_fault(lines):
    first(lines, "text")["reports"] = ["AddressSanitizer"]


@broken("history")
def log_is_not_searched(lines):
    remove(lines, of_type(lines, "text", source="deliver-b.log"))


@broken("history")
def no_page_is_searched(lines):
    first(lines, "text", source="12 pages")["source"] = "0 pages"


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


@broken_run("process-exit")
def receiver_is_ended_by_a_reload(run):
    run.now += 10
    run.process("receiver-b", "exit", -1)
    run.process("receiver-b", "start")


@broken("process-exit")
def receiver_is_ended_by_the_signal_that_it_handles(lines):
    last_exit(lines, "receiver-a")["status"] = -15


@broken_run(None)
def process_is_ended_before_it_handles_signals(run):
    run.process("forward-a", "start")
    run.process("forward-a", "exit", -15, "TERM")
    run.process("receiver-b", "start")
    run.process("receiver-b", "exit", -1)
    run.process("receiver-b", "start")


@broken(None)
def process_fails_in_a_fault(lines):
    first(lines, "process", name="receiver-a", event="exit").update(status=1, asked=None)


@broken_run("process-exit")
def process_fails_in_a_fault_of_another_part(run):
    run.process("receiver-b", "exit", 1)
    run.process("receiver-b", "start")


@broken_run(None)
def service_fails_in_a_fault_of_its_receiver(run):
    run.process("forward-a", "exit", 1)
    run.process("forward-a", "start")


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


@broken("leak")
def threads_leak(lines):
    first(lines, "sample", moment="final", process="deliver-a")["threads"] = 7


@broken("history")
def sample_is_missing(lines):
    remove(lines, of_type(lines, "sample", moment="final", process="deliver-a"))


@broken("history")
def process_has_no_samples(lines):
    remove(lines, of_type(lines, "sample", process="forward-b"))


def counters(lines, moment="final_end"):
    return first(lines, "counters", receiver="a", moment=moment)


@broken("counters")
def counter_is_too_high(lines):
    counters(lines)["metrics"]['imcallbackd_callbacks_total{result="recorded"}'] += 1
    counters(lines)["status"]["callbacks_since_start"]["recorded"] += 1


@broken("counters", retention=True)
def members_are_not_counted_although_retention_deletes(lines):
    counters(lines)["metrics"]["imcallbackd_members_recorded_total"] -= 1


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
def shipped_event_is_not_counted(lines):
    counters(lines)["metrics"]['imcallbackd_forward_shipped_total{kind="event"}'] -= 1


@broken("counters")
def accepted_event_is_counted_twice(lines):
    counters(lines)["metrics"]["imcallbackd_deliver_accepted_total"] += 1


@broken("counters")
def newest_id_is_wrong(lines):
    counters(lines)["newest_id"] += 1


@broken("history")
def counters_are_missing(lines):
    remove(lines, [counters(lines)])


@pytest.mark.parametrize("judge", CASES.all)
def test_change_is_noticed(judge):
    judge()
