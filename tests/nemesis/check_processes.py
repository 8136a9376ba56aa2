"""Rules on the processes, the texts that they write, and their counters."""

import collections
import signal

from index import FOREVER_S, Intervals, Violation

OURS = ("receiver", "forward", "deliver")
CRASHES = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE, -signal.SIGSYS, 66, 99}
FAULT_S = 30  # how long after the beginning of a fault a process may end with a failure
STORE = {"forward", "deliver"}  # the services that read the configuration and the store of a receiver
START_S = 3  # how long a process may need until it handles signals
MORE_MEMORY = 16 << 20
MORE_DESCRIPTORS = 20
MORE_THREADS = 1
NOTES = ("the client failed", "did not end within")
ACCEPTED = ("recorded", "repeated", "conflict", "acknowledged", "url_check")


def check_exits(index):
    """A process ends when it is asked to, or with a failure while a fault of a part that it needs is under way. SIGTERM
    or, at a reload, SIGHUP may end a process that has not set up its signals yet."""
    started, faulty = {}, {}
    for line in index.lines["process"]:
        if line["name"] not in faulty:
            needed = _needed_by(line["name"])
            faulty[line["name"]] = Intervals((fault.begin, max(fault.end, fault.begin + FAULT_S))
                                             for fault in index.faults if fault.target in needed)
        if line["event"] == "start":
            started[line["name"]] = line["at"]
            continue
        early = line["at"] - started.get(line["name"], -FOREVER_S) < START_S
        if early and (line["status"], line["asked"]) in ((-signal.SIGTERM, "TERM"), (-signal.SIGHUP, None)):
            continue
        if problem := _problem_of_exit(line, faulty[line["name"]].overlap(line["at"], line["at"])):
            yield Violation("process-exit", f"{line['name']} (pid {line['pid']}) {problem}: status {line['status']}, "
                                            f"asked {line['asked']}, at {line['at']:.3f} s")


def _needed_by(process):
    """Returns the targets of the faults that may make the process fail. A service needs its disk, and its receiver the
    configuration and the store of all three."""
    service, _, receiver = process.partition("-")
    if service in STORE:
        return {process, f"receiver-{receiver}"}
    return {process, *(() if service in ("receiver", "haproxy", "endpoint") else ("destination", "etcd"))}


def _problem_of_exit(line, in_fault):
    status, asked, ours = line["status"], line["asked"], line["name"].startswith(OURS)
    if status in CRASHES:
        return "crashed"
    if status == -signal.SIGKILL and asked == "KILL":
        return None
    if status < 0 and (ours or not asked or -status != getattr(signal, f"SIG{asked}")):
        return "was ended by a signal"
    if status > 0 and not in_fault and asked != "KILL":
        return "failed without a fault"
    if status == 0 and not asked and not in_fault:
        return "ended without a reason"
    return None


def check_nemesis(index):
    """The nemesis itself causes and ends each fault, and its clients work."""
    for text in index.failures:
        yield Violation("nemesis", text)
    for line in index.lines["note"]:
        if any(words in line["text"] for words in NOTES):
            yield Violation("nemesis", f"{line['text']}, at {line['at']:.3f} s")


def check_texts(index):
    """No log, page or metric has a secret in it, and each log and at least one page was searched."""
    for line in index.lines["text"]:
        if line["secrets"]:
            yield Violation("secret", f"{line['source']} contains {', '.join(line['secrets'])}")
        if line.get("reports"):
            yield Violation("report", f"{line['source']} contains {', '.join(line['reports'])}")
    sources = {line["source"] for line in index.lines["text"]}
    for log in sorted({f"{process}.log" for process in _services(index)} - sources):
        yield Violation("history", f"{log} was not searched for secrets")
    if not any(source.endswith(" pages") and source != "0 pages" for source in sources):
        yield Violation("history", "no page was searched for secrets")


def _services(index):
    return [f"{service}-{receiver}" for service in OURS for receiver in index.receivers]


def check_samples(index):
    """Memory, descriptors and threads return to the level that they had before the faults."""
    found = {(line["process"], line["moment"]): line for line in index.lines["sample"]}
    for process in sorted({*_services(index), *(process for process, _ in found)}):
        quiet, final = found.get((process, "quiet")), found.get((process, "final"))
        if not quiet or not final:
            yield Violation("history", f"{process} has no sample of one of the moments quiet and final")
            continue
        for name, factor, more in (("rss_bytes", 1.5, MORE_MEMORY), ("descriptors", 1, MORE_DESCRIPTORS),
                                   ("threads", 1, MORE_THREADS)):
            before, after = quiet[name], final[name]
            if after > before * factor + more:
                yield Violation("leak", f"{process} has {name} {after} at the end and had {before} before the faults")


class Final:
    """The counters of the phase "final": their growth in all receivers, forwarders and senders together."""

    def __init__(self, index):
        self.begin = self._of_moment(index, "final_begin")
        self.end = self._of_moment(index, "final_end")
        at = [line["at"] for line in [*self.begin.values(), *self.end.values()]]
        first, last = min(at, default=0), max(at, default=0)
        self.calls = [call for call in index.calls if first <= call.at and call.end_at <= last]
        self.open = [call for call in index.calls if call.at <= last and first < call.end_at
                     and (call.at < first or call.end_at > last or call.outcome != "answer")]
        self.complete = set(index.receivers) == self.begin.keys() == self.end.keys()

    @staticmethod
    def _of_moment(index, moment):
        return {line["receiver"]: line for line in index.lines["counters"] if line["moment"] == moment}

    def grown(self, name):
        return sum(self.end[receiver]["metrics"].get(name, 0) - self.begin[receiver]["metrics"].get(name, 0)
                   for receiver in self.begin)

    def results(self, *results):
        return sum(self.grown(f'imcallbackd_callbacks_total{{result="{result}"}}') for result in results)

    def causes(self):
        """Returns {(cause, code): growth} according to status.json."""
        found = collections.Counter()
        for sign, lines in ((1, self.end), (-1, self.begin)):
            for line in lines.values():
                for each in line["status"]["rejected_since_start"]:
                    found[each["cause"], each["error_code"]] += sign * each["count"]
        return found


def check_counters(index):
    """Counters, page, stores and answers agree on the phase in which nothing disturbs them."""
    final = Final(index)
    if not final.complete:
        yield Violation("history", "a receiver has no counters of the moment final_begin or final_end")
        return
    yield from _check_pages(index)
    for what, counted, expected in [*_expected_of_answers(final), *_expected_of_stores(index, final)]:
        if not expected <= counted <= expected + len(final.open):
            yield Violation("counters", f"{what}: counted {counted:g}, expected {expected} in the phase final")


def _check_pages(index):
    """The page of a receiver has the same totals as its metrics."""
    for line in index.lines["counters"]:
        for name, total in line["status"]["callbacks_since_start"].items():
            metric = line["metrics"].get(f'imcallbackd_callbacks_total{{result="{name}"}}')
            if not name.startswith("last_") and metric != total:
                yield Violation("counters", f"receiver {line['receiver']} at {line['moment']}: {name} is {total} on "
                                            f"the page and {metric} in the metrics")


def _expected_of_answers(final):
    codes = collections.Counter(call.code for call in final.calls)
    events = sum(call.acknowledged and call.row is not None for call in final.calls)
    yield "acknowledged events", final.results("recorded", "repeated", "conflict"), events
    yield "accepted calls", final.results(*ACCEPTED), codes[0]
    causes = final.causes()
    for (cause, code), counted in causes.items():
        yield f"calls refused for {cause} on the page", counted, codes[code]
        yield (f"calls refused for {cause} in the metrics",
               final.grown(f'imcallbackd_rejected_total{{cause="{cause}"}}'), codes[code])
    rejected = sum(codes.values()) - codes[0] - codes[None]
    yield "refused and failed calls", final.results("refused", "set_aside", "failed"), rejected


def _expected_of_stores(index, final):
    """Retention deletes no row of the phase "final", because no fault steps the clock after it."""
    rows = members = 0
    for receiver, end in final.end.items():
        stored = index.final(receiver).rows if index.final(receiver) else {}
        new = [line for id, line in stored.items() if final.begin[receiver]["newest_id"] < id <= end["newest_id"]]
        rows += len(new)
        members += sum(line["row"][7] or 0 for line in new)
        yield f"newest id of receiver {receiver}", end["newest_id"], max(stored, default=0)
    yield "recorded events", final.results("recorded"), rows
    yield "shipped events", final.grown('imcallbackd_forward_shipped_total{kind="event"}'), rows
    yield "events that an application accepted", final.grown("imcallbackd_deliver_accepted_total"), rows
    yield "recorded members", final.grown("imcallbackd_members_recorded_total"), members


RULES = [check_exits, check_nemesis, check_texts, check_samples, check_counters]
