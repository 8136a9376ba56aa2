"""Rules on the requests that the endpoints of the applications received."""

import collections

from index import FOREVER_S, Intervals, Violation

JOURNAL_S = 1  # how late an endpoint may notice that the client has closed a connection; see tests/e2e/delivery.py
TROUBLE_S = 3  # how long a fault on the way to the endpoint may have an effect after its end
SLOW_S = 1  # the shortest time, as the endpoint sees it, after which deliver gives up; the timeout is 2 s
REPEAT_S = 10  # how long before or after an acceptance a fault may prevent deliver from keeping it


class Events:
    """The events of one receiver: what its stores ever had, by uid and by group."""

    def __init__(self, index, receiver):
        self.ids = collections.defaultdict(set)  # {uid: ids}; retention may have made room for a second id
        self.groups = collections.defaultdict(list)  # {(app, group): ids in order}
        for id, line in sorted(index.stored[receiver].items()):
            self.ids[line["uid"]].add(id)
            self.groups[line["row"][:2]].append(id)
        self.uids = {id: line["uid"] for id, line in index.stored[receiver].items()}

    def id_of(self, uid):
        """Returns the id, or None for an event that no snapshot has or that has several ids."""
        ids = self.ids.get(uid, ())
        return next(iter(ids)) if len(ids) == 1 else None


def check_requests(index):
    """Each request is well-formed and carries a recorded event. Retention may have deleted the event before any
    snapshot, and then neither its form nor, if the group is None, its group can be checked."""
    sent = {identity[:2] for identity in index.attempts}
    for receiver in index.receivers:
        events = Events(index, receiver)
        for line in index.deliveries[receiver]:
            if line["uid"] in events.ids:
                if not line["fields_ok"]:
                    yield Violation("delivery-malformed", f"{_text(line)} has a wrong field")
            elif not index.retention or line["group"] and (line["app"], line["group"]) not in sent:
                yield Violation("delivery-forged", f"{_text(line)} was never in the store of receiver {receiver}")


def check_accepted(index):
    """Each recorded event is accepted at least once, unless it was set aside. An event is set aside only if the
    application refused it."""
    for receiver in index.receivers:
        refusing = Intervals((fault.begin, fault.end) for fault in index.faults
                             if "refuses" in fault.name and fault.target == f"endpoint-{receiver}")
        refused = {line["uid"] for line in index.deliveries[receiver]
                   if not line["accepted"] and refusing.overlap(line["arrived_s"], line["arrived_s"])}
        for id, line in sorted(index.stored[receiver].items()):
            text = f"id {id} uid {line['uid']} of receiver {receiver}"
            if (receiver, id) in index.set_aside:
                if line["uid"] not in refused:
                    yield Violation("set-aside", f"{text} was set aside, but not refused")
            elif (receiver, line["uid"]) not in index.accepted_at:
                yield Violation("never-accepted", f"{text} was never accepted")


def check_order(index):
    """An event is sent only after all earlier events of its group were accepted, and never after a later one. A link
    that was stalled may pass on a request late that deliver has given up and repeated."""
    for receiver in index.receivers:
        events, lines = Events(index, receiver), index.deliveries[receiver]
        earlier = _last_acceptance_before(index, receiver, events, lines)
        troubled, latest = _trouble(index, receiver), {}
        for line in lines:
            id, group = events.id_of(line["uid"]), (line["app"], line["group"])
            if id is None:
                continue
            if latest.get(group, id) > id:
                if index.accepted_at.get((receiver, line["uid"]), FOREVER_S) < line["arrived_s"] and troubled.overlap(
                        line["arrived_s"], line["arrived_s"]):
                    continue
                yield Violation("delivery-order", f"{_text(line)} (id {id}) was sent after id {latest[group]}")
            elif (wait := earlier.get(id, (0, None)))[0] >= line["place"] and latest.get(group) != id:
                yield Violation("delivery-order", f"{_text(line)} (id {id}) was sent before id {wait[1]} of the group "
                                                  f"was accepted")
            latest[group] = max(latest.get(group, id), id)


def _last_acceptance_before(index, receiver, events, lines):
    """Returns {id: (place of the last acceptance among the earlier ids of the group, that id)}."""
    accepted = {}
    for line in lines:
        if line["accepted"]:
            accepted.setdefault(line["uid"], line["end_place"])
    found = {}
    for ids in events.groups.values():
        last = (0, None)
        for id in ids:
            found[id] = last
            if (receiver, id) not in index.set_aside and events.id_of(events.uids[id]) is not None:
                last = max(last, (accepted.get(events.uids[id], FOREVER_S), id))
    return found


def check_in_flight(index):
    """No two requests of a group are in flight at the same time."""
    for receiver in index.receivers:
        troubled, before = _trouble(index, receiver), {}
        for line in index.deliveries[receiver]:
            if line["group"] is None:
                continue
            last = before.get(group := (line["app"], line["group"]))
            before[group] = line
            if last and not _had_ended(last, line, troubled):
                yield Violation("delivery-in-flight", f"{_text(line)} was sent while {_text(last)} was in flight")


def _trouble(index, receiver):
    """Returns when the endpoint, or the link between deliver and the endpoint, may let the endpoint see the end of a
    request and the next request in any order."""
    return Intervals((fault.begin, fault.end + TROUBLE_S) for fault in index.faults if fault.target in (
        f"endpoint-{receiver}", f"deliver-{receiver}"))


def _had_ended(last, line, troubled):
    """If the client closed the connection or the endpoint was killed, the journal has the end late."""
    if last["end_place"] is None:
        return False
    late = last["how"] in ("closed", "killed") and last["ended_s"] - line["arrived_s"] < JOURNAL_S
    return last["end_place"] < line["place"] or late or troubled.overlap(last["arrived_s"], line["arrived_s"])


def check_repeats(index):
    """An event that was accepted is sent again only if a fault of deliver, of its disk, of the endpoint or of the link
    between them, or the end of deliver, may have hidden its answer. Before the phase "final", while the services catch
    up with the faults, the machine may also be so slow that deliver has given up waiting."""
    calm = index.times_of(["final"])
    for receiver in index.receivers:
        parts = f"deliver-{receiver}", f"endpoint-{receiver}"
        hidden = Intervals([(fault.begin - REPEAT_S, fault.end + REPEAT_S) for fault in index.faults
                            if fault.target in parts] +
                           [(line["at"] - REPEAT_S, line["at"] + REPEAT_S) for line in index.lines["process"]
                            if line["name"] in parts])
        events, accepted = Events(index, receiver), {}
        for line in index.deliveries[receiver]:
            first = accepted.get(line["uid"])
            slow = first and line["arrived_s"] - first["arrived_s"] > SLOW_S and not calm.overlap(
                first["arrived_s"], first["ended_s"])
            if first and events.id_of(line["uid"]) and not slow and not hidden.overlap(
                    first["arrived_s"], first["ended_s"]):
                yield Violation("delivered-again", f"{_text(line)} was sent although {_text(first)} was accepted "
                                                   f"without a fault")
            if line["accepted"]:
                accepted[line["uid"]] = line


def _text(line):
    return (f"request at place {line['place']} of endpoint {line['endpoint']}, uid {line['uid']} of group "
            f"{line['group']} (arrived at {line['arrived_s']:.3f} s, {line['how']})")


RULES = [check_requests, check_accepted, check_order, check_in_flight, check_repeats]
