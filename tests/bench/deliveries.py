"""Measures `imcallbackd deliver`: how many events per second it sends to an nginx that answers after a delay, and how
much processor time it takes for one event. Both are compared with h2load, which sends the same bodies to the same
nginx. Also measures by how much a catch-up delays the receiver's callbacks."""

import json
import pathlib
import re
import resource
import signal
import statistics
import subprocess
import time

import servers
import workloads
from monitoring import metrics
from processes import check_run, cpu_seconds, eventually, free_port

IN_FLIGHT = (1, 8, 64)
DELAYS_MS = (0, 1, 5, 20)
MEMBERS = 3
EVENTS = 150_000
WARM_UP_S = 0.5
CALLBACKS = 3000  # in one run of the load generator
LEAST_SHARE, MOST_P99 = 0.5, 1.5  # targets: relative to h2load's rate, and to the p99 without a catch-up
ANSWER = '{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}'
MODULE = servers.BUILD / "ngx_http_echo_module.so"


class Application(servers.Nginx):
    """Runs nginx as the application that receives the events. The path of a URL is the delay of the answer in
    milliseconds. If http2 is true, nginx offers HTTP/2."""

    name = "application"

    def __init__(self, directory, http2=False):
        super().__init__(directory, "ecdsa")
        self.http2 = http2

    def command(self):
        words = super().command()
        config = pathlib.Path(words[2])
        delays = "".join(f"location = /{ms} {{ echo_read_request_body; echo_sleep {ms / 1000}; echo -n '{ANSWER}'; }}\n"
                         for ms in DELAYS_MS if ms)
        at_once = f"return 200 '{ANSWER}';"
        text = config.read_text().replace(at_once, f"{delays}location = /0 {{ {at_once} }}")
        config.write_text(f"load_module {MODULE};\n" + (text.replace(" ssl;", " ssl http2;") if self.http2 else text))
        return words

    def url(self, delay_ms):
        return f"https://127.0.0.1:{self.port}/{delay_ms}"


class Deliverer:
    """Runs `imcallbackd deliver`, which starts with a new state."""

    def __init__(self, directory, database, application, in_flight, delay_ms):
        self.port = free_port()
        config, state = directory / "deliver.conf", directory / "deliver-state"
        for path in directory.glob(state.name + "*"):
            path.unlink()
        daemon = servers.Daemon(directory, "ecdsa", database)
        daemon.command()  # writes the token and the configuration to which [deliver] is added
        config.write_text(pathlib.Path(daemon.command()[-1]).read_text() + (
            f"[deliver]\nurl = {application.url(delay_ms)}\nca_file = {application.certificate}\n"
            f"in_flight = {in_flight}\nstate_file = {state}\nadmin_port = {self.port}\n"))
        log = (directory / "deliver.log").open("a")
        self.process = subprocess.Popen([servers.DAEMON, "deliver", "-c", config], stdin=subprocess.DEVNULL,
                                        stdout=log, stderr=log)
        eventually(lambda: self.accepted(), f"accepted events; see {log.name}", servers.START_DEADLINE_S)

    def accepted(self):
        try:
            return metrics(self.port)["imcallbackd_deliver_accepted_total"]
        except OSError:
            assert self.process.poll() is None, "deliver does not run"
            return 0

    def sample(self):
        return self.accepted(), cpu_seconds(self.process.pid), time.monotonic()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def run_deliver(directory, database, application, in_flight, delay_ms, seconds):
    """Returns the events per second, and the processor time of one event in µs."""
    one = Deliverer(directory, database, application, in_flight, delay_ms)
    time.sleep(WARM_UP_S)
    before = one.sample()
    time.sleep(seconds)
    after = one.sample()
    one.stop()
    if after[0] >= EVENTS:
        raise SystemExit("deliver: the store has too few events for this benchmark")
    events, cpu_s, duration_s = (new - old for new, old in zip(after, before))
    return {"rate": events / duration_s, "cpu_us": cpu_s * 1e6 / events}


def duration(seconds):
    return f"{round(seconds * 1000)}ms"


def run_h2load(body, application, in_flight, delay_ms, seconds):
    """Returns the figures of run_deliver for h2load, which keeps as many connections busy as deliver does, or with
    HTTP/2 as many streams of one connection."""
    query = ("SdkAppid=1400000001&CallbackCommand=Group.CallbackAfterGroupDestroyed&contenttype=json"
             f"&ClientIP=127.0.0.1&OptPlatform=RESTAPI&RequestTime=1795780384&Sign={'0' * 64}")
    shape = ["-c", "1", "-m", in_flight] if application.http2 else ["--h1", "-c", in_flight]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    text = check_run("h2load", *shape, "-t", "1", "-D", duration(seconds), "--warm-up-time", duration(WARM_UP_S), "-d", body, "-H",
                     "content-type: application/json", "-H", f"webhook-id: {'0' * 64}", "-H",
                     "webhook-timestamp: 1795780384", f"{application.url(delay_ms)}?{query}", timeout=seconds + 60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rate = float(re.search(r"finished in .*, ([\d.]+) req/s", text)[1])
    succeeded = int(re.search(r"(\d+) succeeded", text)[1])
    return {"rate": rate, "cpu_us": cpu_s * 1e6 / (succeeded + rate * WARM_UP_S)}


def export_body(database, directory):
    """Creates a file with a body like those that deliver sends, and returns the path of the file."""
    body = {"CallbackCommand": "Group.CallbackAfterGroupDestroyed", "EventTime": "1700000000000", "GroupId":
            "load-100000000-100000", "Type": "Public", "Owner_Account": "owner", "Operator_Account": "administrator",
            "Name": "load", "MemberList": [{"Member_Account": f"member-100000-{each}"} for each in range(MEMBERS)]}
    path = directory / "body.json"
    path.write_text(json.dumps(body, separators=(",", ":")))
    return path


def measure_callbacks(directory, database, application, rounds):
    """Returns the p99 latencies of callbacks on one connection in µs, by round, without and with a catch-up."""
    receiver = servers.Daemon(directory, "ecdsa", database)
    receiver.start()
    found = {"without": [], "with": []}
    try:
        workloads.run_load(receiver, CALLBACKS, {"connections": 1})
        for _ in range(rounds):
            found["without"].append(workloads.run_load(receiver, CALLBACKS, {"connections": 1})["p99_us"])
            one = Deliverer(directory, database, application, 8, 1)
            found["with"].append(workloads.run_load(receiver, CALLBACKS, {"connections": 1})["p99_us"])
            one.stop()
    finally:
        receiver.stop()
    return found


def measure(directory, rounds, seconds):
    """Returns {"rows": {name: {"deliver": [figures], "h2load": [figures]}},
    "callbacks": {"without": [µs], "with": [µs]}}."""
    database = directory / "deliver.db"
    check_run(servers.WRITER, database, next(workloads.seeds), EVENTS, MEMBERS, 128, timeout=3600)
    body = export_body(database, directory)
    found = {"rows": {}}
    for http2 in (False, True):
        place = directory / f"application-{'h2' if http2 else 'h1'}"
        place.mkdir()
        servers.make_certificates(place)
        application = Application(place, http2).start()
        try:
            for in_flight in IN_FLIGHT if not http2 else IN_FLIGHT[-1:]:
                for delay_ms in DELAYS_MS:
                    name = f"{in_flight} in flight, {delay_ms} ms" + (", HTTP/2" if http2 else "")
                    row = found["rows"][name] = {"deliver": [], "h2load": []}
                    for _ in range(rounds):
                        row["deliver"].append(run_deliver(place, database, application, in_flight, delay_ms, seconds))
                        row["h2load"].append(run_h2load(body, application, in_flight, delay_ms, seconds))
            if not http2:
                found["callbacks"] = measure_callbacks(place, database, application, rounds)
        finally:
            application.stop()
    return found


def ratio(row, figure):
    return statistics.median(one[figure] / other[figure] for one, other in zip(row["deliver"], row["h2load"]))


def targets(found):
    """Returns the targets in the form that report.targets() uses."""
    rows = [(f"deliver, {name}: rate / h2load", ratio(row, "rate"), ">=", LEAST_SHARE)
            for name, row in found["rows"].items()]
    p99 = statistics.median(b / a for a, b in zip(found["callbacks"]["without"], found["callbacks"]["with"]))
    rows.append(("callbacks: p99 during a catch-up / without", p99, "<=", MOST_P99))
    return [{"what": what, "figure": figure, "target": f"{direction} {target}", "stretch": None,
             "verdict": "met" if (figure >= target if direction == ">=" else figure <= target) else "MISSED"}
            for what, figure, direction, target in rows]


def show(found):
    print(f"{'deliver':30} {'events/s':>10} {'h2load/s':>10} {'ratio':>6} {'CPU µs':>8} {'h2load µs':>10}")
    for name, row in found["rows"].items():
        rate, cpu_us = ({who: statistics.median(one[figure] for one in row[who]) for who in row}
                        for figure in ("rate", "cpu_us"))
        print(f"{name:30} {rate['deliver']:10.0f} {rate['h2load']:10.0f} {ratio(row, 'rate'):6.2f} "
              f"{cpu_us['deliver']:8.1f} {cpu_us['h2load']:10.1f}")
    for name, figures in found["callbacks"].items():
        print(f"p99 of callbacks {name} a catch-up: {statistics.median(figures):.0f} µs")
