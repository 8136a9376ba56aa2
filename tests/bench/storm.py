"""Measures the latency of established callers while many other clients open a new connection for each request."""

import json
import subprocess
import time

import workloads

STORM_CLIENTS = 300
LEAST_TOTAL = 600  # requests of the storm and of the callers in the run that finds out how fast the server is
LEAST_MARGIN, MARGIN = 1.1, 1.6  # the storm has to last so many times as long as the work of the callers
ATTEMPTS = 4
WARM_UP_S = 0.3


class Load:
    """A load generator that waits at its gate."""

    def __init__(self, server, total, options):
        self.server = server
        self.process = subprocess.Popen(server.load_words(next(workloads.seeds), total, options),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert "connections" in self.process.stdout.readline(), server.name

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def report(self):
        found = json.loads(self.process.stdout.readline())
        self.process.stdin.close()
        if self.process.wait() != 0:
            raise SystemExit(f"{self.server.name}: some requests were not answered OK in the storm: {found}")
        self.server.acknowledged_events += found["ok"]
        self.server.acknowledged_members += found["ok"] * 3
        return found


def run_both(server, storm_total, callers_total, callers):
    """Returns the reports of the callers and of the storm."""
    storm = Load(server, storm_total, {"connections": STORM_CLIENTS, "new_connection": True})
    established = Load(server, callers_total, {"connections": callers})
    storm.go()
    time.sleep(WARM_UP_S)
    established.go()
    return established.report(), storm.report()


def run(server, seconds, callers):
    """Returns figures of the callers, of a run in which the storm lasts longer than they work."""
    storm_total = callers_total = LEAST_TOTAL
    for _ in range(ATTEMPTS):
        established, storm = run_both(server, storm_total, callers_total, callers)
        work_s = established["seconds"]
        if work_s >= seconds / 2 and storm["seconds"] >= LEAST_MARGIN * (work_s + WARM_UP_S):
            return {"rate": established["rate_per_second"], "p50_us": established["p50_us"],
                    "p99_us": established["p99_us"], "p999_us": established["p999_us"],
                    "max_us": established["max_us"], "new_per_second": storm["rate_per_second"]}
        callers_total = max(LEAST_TOTAL, int(established["rate_per_second"] * seconds))
        storm_total = max(LEAST_TOTAL, int(storm["rate_per_second"] * (seconds + WARM_UP_S) * MARGIN))
    raise SystemExit(f"{server.name}: the storm ended before the callers in {ATTEMPTS} attempts")
