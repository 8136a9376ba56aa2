"""Rules on the rows of the stores over time, and on the destination."""

import collections

from index import Violation, content_of, differences, identity_of


def check_ids(index):
    """An id stands for one event, or for one rejected body, for ever."""
    for receiver in index.receivers:
        seen, bodies = {}, {}
        for snapshot in index.of_receiver(receiver):
            for id, line in snapshot.rejected.items():
                if bodies.setdefault(id, line["digest"]) != line["digest"]:
                    yield Violation("id-reused", f"id {id} of rejected_callback has the body {line['digest']} in "
                                                 f"{snapshot} and {bodies[id]} before")
            for id, line in snapshot.rows.items():
                uid, row = seen.setdefault(id, (line["uid"], line["row"]))
                if uid != line["uid"]:
                    yield Violation("id-reused", f"id {id} has the uid {line['uid']} in {snapshot} and {uid} before")
                elif row != line["row"]:
                    yield Violation("row-changed", f"id {id} uid {uid} has changed in {differences(row, line['row'])} "
                                                   f"in {snapshot}")


def check_growth(index):
    """A later snapshot has the rows of the earlier one, except what retention deleted, and new rows have higher ids."""
    for receiver in index.receivers:
        snapshots, known = index.of_receiver(receiver), set()
        for place, snapshot in enumerate(snapshots):
            before = next((each for each in reversed(snapshots[:place]) if each.at <= snapshot.since), None)
            if before:
                yield from _check_kept(index, before, snapshot)
                yield from _check_new(before, snapshot, known)
            known |= snapshot.rows.keys()


def _check_kept(index, before, snapshot):
    for id in sorted(before.rejected.keys() - snapshot.rejected.keys()):
        if not index.retention:
            yield Violation("rejected-lost", f"id {id} of rejected_callback is in {before}, but not in {snapshot}")
    for id in sorted(before.rows.keys() - snapshot.rows.keys()):
        uid = before.rows[id]["uid"]
        text = f"id {id} uid {uid} is in {before}, but not in {snapshot}"
        if not index.retention:
            yield Violation("restore-lost" if snapshot.moment == "restore" else "row-lost", text)
        elif not index.is_taken(snapshot.receiver, uid, id, snapshot.at):
            yield Violation("deleted-untaken", f"{text}; it was not in the destination and accepted before")


def _check_new(before, snapshot, known):
    newest = max(before.rows, default=0)
    for id in sorted(snapshot.rows.keys() - known):
        if id <= newest:
            yield Violation("id-not-growing", f"id {id} uid {snapshot.rows[id]['uid']} is new in {snapshot}, but "
                                              f"{before} has id {newest}")


def check_id_order(index):
    """If a call was answered before another one started, its event has the lower id. Only events with a single attempt
    are compared, because any attempt may have recorded the event."""
    single = {}
    for calls in index.attempts.values():
        if len(calls) == 1 and calls[0].acknowledged:
            single[calls[0].row] = calls[0]
    for receiver in index.receivers:
        latest = None  # the call with the latest beginning of all lower ids
        for id, line in sorted(index.stored[receiver].items()):
            call = single.pop(line["row"], None)
            if not call:
                continue
            if latest and call.end_at < latest.at:
                yield Violation("id-order", f"id {id} uid {line['uid']} of receiver {receiver} is from {call}, which "
                                            f"was answered before {latest} with a lower id")
            elif not latest or call.at > latest.at:
                latest = call


def check_backups(index):
    """A live backup has each row whose event was acknowledged before the backup started."""
    for receiver in index.receivers:
        for backup in index.of_receiver(receiver):
            if backup.moment == "backup":
                yield from _check_backup(index, receiver, backup)


def _check_backup(index, receiver, backup):
    for id, line in index.stored[receiver].items():
        calls = index.attempts.get(identity_of(line["row"]))
        if id in backup.rows or not calls or any(call.end_at >= backup.since for call in calls):
            continue
        if all(call.outcome == "answer" for call in calls) and not (
                index.retention and index.is_taken(receiver, line["uid"], id, backup.at)):
            yield Violation("backup-incomplete", f"id {id} uid {line['uid']} of {calls[0]} is not in {backup}")


def check_destination(index):
    """The destination has each event of the stores once, as the store of the receiver has it that the destination
    names, and nothing else. Retention may have deleted the event from this store before any snapshot."""
    stored = collections.defaultdict(dict)  # {uid: {receiver: row}}
    for receiver in index.receivers:
        for id, line in index.stored[receiver].items():
            stored[line["uid"]][receiver] = line["row"]
            if line["uid"] not in index.destination:
                yield Violation("destination-missing", f"id {id} uid {line['uid']} of receiver {receiver} is not in "
                                                       f"the destination")
    for uid, rows in index.destination.items():
        receiver, row = rows[0]
        if len(rows) > 1:
            yield Violation("destination-twice", f"uid {uid} occurs {len(rows)} times in the destination")
        elif receiver in stored[uid]:
            if row != stored[uid][receiver]:
                yield Violation("destination-differs", f"uid {uid} differs from the store of receiver {receiver} in "
                                                       f"{differences(row, stored[uid][receiver])}")
        elif not (index.retention and _was_sent(index, row)):
            yield Violation("destination-forged", f"uid {uid} is in the destination, but was never in the store of "
                                                  f"receiver {receiver}")


def _was_sent(index, row):
    """Returns whether a store may have had the row between two snapshots."""
    return any(content_of(call.row) == content_of(row) for call in index.attempts.get(identity_of(row), []))


RULES = [check_ids, check_growth, check_id_order, check_backups, check_destination]
