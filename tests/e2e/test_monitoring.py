"""The metrics, the alert rules and the dashboard fit together. Where promtool is installed, it checks the metrics and
the rules."""

import json
import pathlib
import re
import shutil

import pytest

import daemon
import monitoring

TOP = pathlib.Path(__file__).resolve().parents[2]
RULES = TOP / "conf" / "prometheus-alerts.yml"
DASHBOARD = TOP / "conf" / "grafana-dashboard.json"
FETCHED = TOP / "build" / "promtool" / "promtool"  # downloaded by run.sh
PROMTOOL = str(FETCHED) if FETCHED.exists() else shutil.which("promtool")
needs_promtool = pytest.mark.skipif(not PROMTOOL, reason="promtool is not installed")

# The alerts use these series. The values are those of one hour without any problem, so no alert may be firing.
GOOD = {
    'up{job="imcallbackd"}': "1x60",
    "imcallbackd_ready": "1x60",
    'imcallbackd_callbacks_total{result="failed"}': "3x60",
    'imcallbackd_rejected_total{cause="sign_wrong"}': "0+5x60",
    "imcallbackd_answer_seconds_count": "0+600x60",
    'imcallbackd_answer_seconds_bucket{le="1"}': "0+600x60",
    "imcallbackd_clock_skew_seconds": "-20x30 20x30",
    "imcallbackd_certificate_expiry_timestamp_seconds": str(15 * 86400) + "x60",
    "imcallbackd_store_disk_free_bytes": "10x60",
    "imcallbackd_store_disk_size_bytes": "100x60",
    "imcallbackd_forward_lag_seconds": "0x30 300x30",
    "imcallbackd_deliver_lag_seconds": "0x30 300x30",
    "imcallbackd_deliver_set_aside_total": "7x60",
}
# Each row has a series, the values that replace those in GOOD, and the alert that must be firing after one hour,
# without the prefix "Imcallbackd". None means that no alert may be firing.
WRONG = [
    ('up{job="imcallbackd"}', "1x59 0", None),  # a restart
    ('up{job="imcallbackd"}', "1x50 0x9", "Down"),
    ("imcallbackd_ready", "1x59 0", None),
    ("imcallbackd_ready", "1x50 0x9", "NotReady"),
    ('imcallbackd_callbacks_total{result="failed"}', "3x58 4x1", "NotRecorded"),
    ('imcallbackd_rejected_total{cause="sign_wrong"}', "0+5x30 150+60x30", "Rejects"),
    ('imcallbackd_answer_seconds_bucket{le="1"}', "0+599x60", "Slow"),
    ("imcallbackd_clock_skew_seconds", "0x58 1000x1", None),  # a replayed call
    ("imcallbackd_clock_skew_seconds", "0x30 21x30", "ClockSkew"),
    ("imcallbackd_clock_skew_seconds", "0x30 -21x30", "ClockSkew"),
    ("imcallbackd_certificate_expiry_timestamp_seconds", str(14 * 86400) + "x60", "CertificateExpires"),
    ("imcallbackd_store_disk_free_bytes", "10x30 9x30", "DiskAlmostFull"),
    ("imcallbackd_forward_lag_seconds", "0x55 301x5", None),  # not long enough
    ("imcallbackd_forward_lag_seconds", "0x30 301x30", "ForwardLags"),
    ("imcallbackd_deliver_lag_seconds", "0x55 301x5", None),  # not long enough
    ("imcallbackd_deliver_lag_seconds", "0x30 301x30", "DeliverLags"),
    ("imcallbackd_deliver_set_aside_total", "7x30 8x30", "DeliverSetAside"),
]


@pytest.fixture(scope="module")
def metrics():
    """Returns the text of /metrics after some callbacks."""
    port = daemon.free_port()
    with daemon.running({"admin": {"port": port}}) as one:
        assert [one.post(body).status for body in (None, None, b"{")] == [200, 200, 400]
        yield monitoring.ask(port, "/metrics")[2]


def names(metrics):
    """Returns {metric: type}, without the suffixes of histograms."""
    found = dict(re.findall(r"(?m)^# TYPE (\S+) (\w+)$", metrics))
    assert len(found) > 15
    return found


def names_in(text, metrics):
    """Returns the metrics that occur in the text, without the suffixes of histograms."""
    known = names(metrics)
    found = set(re.findall(r"\b(?:imcallbackd|process)_\w+", text))
    bare = {name: re.sub("_(bucket|sum|count)$", "", name) for name in found}
    return {bare[name] if known.get(bare[name]) == "histogram" else name for name in found}


def test_metrics_have_valid_names_and_help(metrics):
    for name, kind in names(metrics).items():
        assert name.startswith(("imcallbackd_", "process_"))
        assert name.endswith("_total") == (kind == "counter")
        assert re.search(rf"(?m)^# HELP {name} [A-Z0-9].*\.$", metrics), name


def of_outbound_services():
    """Returns the metrics of `forward` and `deliver`, which have listeners of their own."""
    return {name for file in ("forward/progress.c", "deliver/delivery_log.c")
            for name in re.findall(r'"(imcallbackd_\w+)"', (TOP / "src" / file).read_text())}


def test_alerts_name_metrics_that_exist(metrics):
    named = names_in(re.sub(r"(?m)^ *#.*$", "", RULES.read_text()), metrics)
    assert len(named) >= 8 and named <= set(names(metrics)) | of_outbound_services()


def test_dashboard_names_metrics_that_exist(metrics):
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [variable["query"] for variable in dashboard["templating"]["list"]]
    named = names_in("\n".join(queries), metrics)
    assert named <= set(names(metrics)) | of_outbound_services()
    # Every metric that the daemon itself defines must be on the dashboard, unlike the standard process_* metrics.
    assert {name for name in names(metrics) if name.startswith("imcallbackd_")} <= named
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


@needs_promtool
def test_promtool_reads_the_metrics(metrics):
    done = daemon.run(PROMTOOL, "check", "metrics", input=metrics)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_promtool
def test_promtool_reads_the_alerts():
    done = daemon.run(PROMTOOL, "check", "rules", RULES)
    assert done.returncode == 0, done


@needs_promtool
def test_each_alert_fires_for_its_problem_alone(tmp_path):
    cases = [({}, None)] + [({series: values}, alert) for series, values, alert in WRONG]
    assert {f"Imcallbackd{alert}" for _, alert in cases if alert} == set(
        re.findall(r"(?m)- alert: (\w+)$", RULES.read_text()))
    tests = [{
        "name": str(changed), "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in (GOOD | changed).items()],
        "promql_expr_test": [{
            "expr": 'count by (alertname) (ALERTS{alertstate="firing"})', "eval_time": "1h",
            "exp_samples": [{"labels": f'{{alertname="Imcallbackd{alert}"}}', "value": 1}] if alert else [],
        }],
    } for changed, alert in cases]
    path = tmp_path / "test.yml"  # JSON is YAML
    path.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = daemon.run(PROMTOOL, "test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr
