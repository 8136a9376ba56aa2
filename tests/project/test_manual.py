"""The manual pages describe exactly what exists. The tests learn what exists from the program (its --help, `check`,
/metrics, the schema of its database) and from tables in the sources, such as those of the answers and of the keys.
The examples of the pages work."""

import contextlib
import os
import pathlib
import re
import shutil
import sqlite3
import sys
import urllib.request

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "e2e"))

import daemon  # noqa: E402
from documents import PAGES, literal  # noqa: E402

COMMAND_PAGE = TOP / "src/command/imcallbackd.8"
CONFIG_PAGE = TOP / "src/command/imcallbackd.conf.5"
FORWARD_PAGE = TOP / "src/command/imcallbackd-forward.8"
DELIVER_PAGE = TOP / "src/deliver/imcallbackd-deliver.8"
OPERATIONS_PAGE = TOP / "src/command/imcallbackd-operations.7"
# Maps the page of an outbound service to the source of its metrics.
OUTBOUND = {FORWARD_PAGE: TOP / "src/forward/progress.c", DELIVER_PAGE: TOP / "src/deliver/delivery_log.c"}
SAMPLE = TOP / "conf/imcallbackd.conf"
JOURNAL_PIECE = 48 * 1024  # the journal cuts longer lines into pieces of this size
# Commands and sections of the configuration that have a separate page.
ELSEWHERE = {"forward", "deliver"}


def sections(page, macro):
    """Returns {heading: text}. With the macro Sh, splits the page only at sections; with Ss, also at subsections."""
    pattern = r"(?m)^\.Sh (.*)$" if macro == "Sh" else r"(?m)^\.S[hs] (.*)$"
    parts = re.split(pattern, page.read_text())
    return {heading.replace(r"\&", ""): text for heading, text in zip(parts[1::2], parts[2::2])}


def items(text):
    """Returns the items of the lists: the words of each head, and the text after the head."""
    parts = re.split(r"(?m)^\.It (.*)$", text)
    return list(zip(parts[1::2], parts[2::2]))


def heads(text, macro):
    """Returns every name in the heads that start with this macro, such as the columns in `.It Va id , type`."""
    return [name for head, _ in items(text) if head.startswith(macro + " ")
            for name in head.removeprefix(macro + " ").split(" , ")]


def help_of(*words):
    done = daemon.run(daemon.BINARY, *words, "--help")
    assert done.returncode == 0, done
    return done.stdout


ADMIN_PORT = daemon.free_port()


@pytest.fixture(scope="module")
def running():
    """Starts a daemon that has an admin listener, and makes it record one event and reject one body."""
    with daemon.running({"admin": {"port": ADMIN_PORT}}) as one:
        assert [one.post(body).status for body in (None, b"{")] == [200, 400]
        yield one


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_is_well_formed_in_80_columns(page):
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is not installed")
    # The pages of other packages need not be installed here; the next test checks the references to this package.
    said = [line for line in daemon.run("mandoc", "-T", "lint", "-W", "all", page).stdout.splitlines()
            if "STYLE: referenced manual not found" not in line]
    assert said == []
    text = daemon.run("mandoc", "-T", "ascii", "-O", "width=80", page).stdout
    # A URL in an example cannot be broken into lines.
    assert [line for line in re.sub(".\b", "", text).splitlines() if len(line) > 80 and "://" not in line] == []


def test_references_between_pages_lead_somewhere():
    names = {tuple(page.name.rsplit(".", 1)) for page in PAGES}
    referenced = set()
    for page in PAGES:
        title = re.search(r"(?m)^\.Dt (\S+) (\d)$", page.read_text())
        assert (title[1].lower(), title[2]) == tuple(page.name.rsplit(".", 1))
        found = set(re.findall(r"(?m)^\.Xr (imcallbackd\S*) (\d)", page.read_text()))
        assert found <= names - {tuple(page.name.rsplit(".", 1))}, page.name
        referenced |= found
        # A reference to a section of another page is its heading, then "in", then the page.
        text = " ".join(page.read_text().split())
        for heading, name, section in re.findall(r"\b([A-Z][A-Z ]+[A-Z]) in \.Xr (imcallbackd\S*) (\d)", text):
            (target,) = [other for other in PAGES if other.name == f"{name}.{section}"]
            assert heading in sections(target, "Sh"), (page.name, heading, name)
    assert referenced == names


# Commands and options

def commands():
    return set(re.findall(r"(?m)^  imcallbackd ([a-z]+) ", help_of())) - ELSEWHERE


def test_page_describes_all_commands():
    described = sections(COMMAND_PAGE, "Ss")
    assert {name for name in described if re.fullmatch("[a-z]+", name)} == commands()
    synopsis = sections(COMMAND_PAGE, "Sh")["SYNOPSIS"]
    assert set(re.findall(r"(?m)^\.Ic (\w+)", synopsis)) == commands()


@pytest.mark.parametrize("command", sorted(commands()))
def test_page_describes_all_options(command):
    text = help_of(command)
    there = set(re.findall(r"(?m)^  (?:-\w, )?(--[a-z-]+|[A-Z]+)", text))
    described = {re.search(r"Fl (-[a-z-]+)|Ar (\w+)", head) for head, _ in items(sections(COMMAND_PAGE, "Ss")[command])}
    named = {f"-{found[1]}" if found[1] else found[2].upper() for found in described}
    if command != "certificate":
        named |= {"--config"}  # described once for all commands
    assert named == there
    assert "Fl c , Fl -config Ar file" in [head for head, _ in items(sections(COMMAND_PAGE, "Sh")["COMMANDS"])]
    synopsis = sections(COMMAND_PAGE, "Sh")["SYNOPSIS"].split(f".Ic {command}\n")[1].split(".Nm")[0]
    words = {f"--{option}" for option in re.findall(r"Fl -([a-z-]+)", synopsis)}
    assert words == {name for name in there if name.startswith("--")} - {"--config"}


# The configuration

def checked(directory, *lines):
    """Returns the result of `check` for a minimal configuration followed by these lines."""
    config = directory / "checked.conf"
    least = (f"[tls]\ncertificate = {directory}/certificate.pem\nprivate_key = {directory}/key.pem\n"
             f"[app 1]\n[store]\ndatabase = {directory}/checked.db\n")
    config.write_text(least + "".join(f"{line}\n" for line in lines))
    return daemon.run(daemon.BINARY, "check", "-c", config)


@pytest.fixture(scope="module")
def files(running):
    return running.directory


@pytest.fixture(scope="module")
def defaults(files):
    """Returns {(section, key): value} as `check` prints it for the minimal configuration. A key that is not set has the
    value None."""
    shown, section = {}, None
    for line in checked(files).stdout.splitlines():
        if found := re.fullmatch(r"\[(\w+).*\]", line):
            section = found[1]
        elif found := re.fullmatch(r"(?:(\w+) = (.*)|# (\w+) is not set)", line):
            shown[section, found[1] or found[3]] = found[2]
    assert len(shown) > 15
    return shown


def table(pattern):
    """Returns the (section, key) of each row in the table of config.c in which the pattern occurs after the key. Omits
    the sections in ELSEWHERE."""
    rows = re.findall(r"(?m)^    (?:KEY\((\w+), |APP_KEY\()(\w+), (.*)\),$", (TOP / "src/command/config.c").read_text())
    found = {(section or "app", key) for section, key, rest in rows if re.search(pattern, rest)}
    assert len(found) > 5
    return {place for place in found if place[0] not in ELSEWHERE}


def described_keys():
    """Returns {(section, key): text}"""
    return {(re.match(r"\w+", heading[1:])[0], head.split()[1]): " ".join(text.split())
            for heading, body in sections(CONFIG_PAGE, "Sh").items() if heading.startswith("[")
            for head, text in items(body)}


def test_page_describes_all_keys(defaults):
    assert set(described_keys()) == {place for place in defaults if place[0] not in ELSEWHERE}


def test_sample_has_all_keys_with_their_defaults(defaults):
    sample, section = {}, None
    for line in SAMPLE.read_text().splitlines():
        if found := re.fullmatch(r"\[(\w+).*\]", line):
            section = found[1]
        elif found := re.match(r"(#?)(\w+) = (.*)", line):
            sample[section, found[2]] = found[3] if found[1] else None
    assert set(sample) == set(defaults)
    for place, value in sample.items():
        if value and defaults[place] and place != ("store", "database"):
            assert value == defaults[place], place


def test_page_gives_defaults_and_keys_that_need_a_restart(defaults):
    fixed = table("NEEDS_RESTART")
    for place, text in described_keys().items():
        assert ("Changes with a restart only." in text) == (place in fixed), place
        found = re.search(r"Default: (\S+)\.(?: |$)|No default|Required\.", text)
        assert found, place
        if place == ("store", "database"):
            assert found[1] == re.search(r"(?m)^#database = (.*)", SAMPLE.read_text())[1]
        elif place[0] != "tls" or place[1] == "client_ca":
            assert found[1] == defaults[place], place


def units(text):
    """Converts a number of the configuration to its smallest unit. Returns the result and the name of this unit."""
    number, unit = re.fullmatch(r"(\d+)(\w*)", text).groups()
    ms = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
    size = {"": 1, "K": 1 << 10, "M": 1 << 20}
    return (int(number) * ms[unit], "ms") if unit in ms else (int(number) * size[unit], "")


def test_ranges_of_page_hold(files):
    ranges = {place: found.groups() for place, text in described_keys().items()
              if (found := re.search(r"Range: (\w+) to (\w+)\.", text))}
    assert set(ranges) == table(r"^CONFIG_(?:NUMBER|DURATION|RETENTION|SIZE)\b")
    for (section, key), (least, most) in ranges.items():
        place = {"app": "[app 2]\n", "store": ""}.get(section, f"[{section}]\n")
        for end, beyond in ((least, -1), (most, 1)):
            number, unit = units(end)
            assert checked(files, f"{place}{key} = {end}").returncode == 0, (section, key, end)
            if number + beyond >= 0:
                refused = checked(files, f"{place}{key} = {number + beyond}{unit}")
                assert refused.returncode == 1 and "out of range" in refused.stderr, (section, key, refused)


def test_example_configurations_are_accepted(files):
    shown = literal(sections(CONFIG_PAGE, "Sh")["EXAMPLES"])
    assert len(shown) >= 4
    shutil.copy(files / "certificate.pem", files / "client-ca.pem")
    for name in ("token", "token-1400000001", "token-1400000002"):
        (files / name).write_text("token\n")
        (files / name).chmod(0o600)
    for number, text in enumerate(shown):
        config = files / f"example-{number}.conf"
        database = "" if "[store]" in text else "[store]\n"
        place = f"{database}database = {files}/example.db\n"
        text = text.replace("[store]\n", f"[store]\n{place}") if not database else f"{text}{place}"
        config.write_text(text.replace("/etc/imcallbackd", str(files)))
        done = daemon.run(daemon.BINARY, "check", "-c", config)
        assert (done.returncode, done.stderr) == (0, ""), text


# Answers, metrics

def test_page_describes_all_answers():
    table = re.findall(r'\[ANSWER_\w+\] = \{(\d+), (\d+), "(\w+)",', (TOP / "src/callback/answer.c").read_text())
    assert len({number for number, _, _ in table}) == len(table) > 20
    there = [f"{number} {name} No (HTTP {status})" for number, status, name in table if number != "0"]
    answers = sections(COMMAND_PAGE, "Sh")["ANSWERS"]
    assert heads(answers, "Sy") == there
    assert all(len(text.split()) > 5 for _, text in items(answers))


def plain(text):
    """Returns the text of a page without its macros, on one line."""
    return re.sub(r" ([.,;:])(?= |$)", r"\1", " ".join(re.sub(r"(?m)^\.(?:Ic|Pa|Va|Xr|Sx|Ql) ", "", text).split()))


def test_answers_start_with_the_sentence_of_the_table():
    """ErrorInfo, the status page and the manual page have the sentences of the table in answer.c."""
    source = (TOP / "src/callback/answer.c").read_text()
    rows = re.findall(r'\[ANSWER_\w+\] = \{(\d+), \d+, "\w+",((?:\s*"[^"]*")+)\}', source)
    sentences = {number: "".join(re.findall(r'"([^"]*)"', text)) for number, text in rows if number != "0"}
    assert len(sentences) > 20
    for head, text in items(sections(COMMAND_PAGE, "Sh")["ANSWERS"]):
        if head.startswith("Sy "):
            sentence = sentences.pop(head.split()[1])
            assert plain(text).startswith(sentence), (head, sentence)
    assert sentences == {}


def test_page_describes_all_metrics(running):
    with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN_PORT}/metrics") as answer:
        text = answer.read().decode()
    there = re.findall(r"(?m)^# TYPE (\S+)", text)
    assert len(there) > 15
    described = sections(COMMAND_PAGE, "Sh")["MONITORING"]
    assert heads(described, "Va") == there
    for metric, part in zip(there, re.split(r"(?m)^\.It Va .*$", described)[1:]):
        labels = set(re.findall(rf'(?m)^{metric}{{(\w+)="(\w+)"', text))
        lines = re.findall(r"(?m)^\.(?:It )?Cm ([\w ,]+)", part)
        named = {name.strip() for line in lines for name in line.split(",")}
        if metric in ("imcallbackd_rejected_total", "imcallbackd_build_info"):
            continue  # test_page_describes_all_answers checks the causes; the version changes
        assert named == {value for _, value in labels}, metric
        assert all(f".Va {label}" in part for label, _ in labels), metric


# The pages of forward and deliver

@pytest.mark.parametrize("page", OUTBOUND, ids=lambda page: page.stem)
def test_page_of_an_outbound_service_is_complete(page, defaults):
    described, command = sections(page, "Sh"), page.stem.removeprefix("imcallbackd-")
    keys = {key for section, key in defaults if section == command}
    assert set(heads(described["CONFIGURATION"], "Ic")) == keys
    options = set(re.findall(r"(?m)^  (?:-\w, )?--([a-z-]+)", help_of(command)))
    assert set(re.findall(r"Fl -([a-z-]+)", described["SYNOPSIS"])) | {"config"} == options
    metrics = re.findall(rf'"(imcallbackd_{command}_\w+)"', OUTBOUND[page].read_text())
    assert set(heads(described["MONITORING"], "Va")) == set(metrics)


def test_page_of_deliver_gives_defaults_and_causes(defaults):
    described = sections(DELIVER_PAGE, "Sh")
    for head, text in items(described["CONFIGURATION"]):
        value = defaults["deliver", head.split()[1]]
        assert value is None or value in text.replace("\n", " "), head
    source = (TOP / "src/deliver/delivery_log.c").read_text()
    causes = re.search(r'"cause",\s+NULL,([^}]*)\)', source)[1]
    assert heads(described["FAILURES"], "Cm") == re.findall(r'"(\w+)"', causes)


def alerts():
    found = re.findall(r"(?m)^ *- alert: (\w+)$", (TOP / "conf/prometheus-alerts.yml").read_text())
    assert len(found) > 5
    return found


def test_page_describes_all_alerts():
    described = sections(OPERATIONS_PAGE, "Sh")["ALERTS AND THEIR REMEDIES"]
    assert heads(described, "Sy") == alerts()
    assert all(len(text.split()) > 10 for _, text in items(described))


# Each thing in one place

def all_heads(macro):
    """Returns the names in all heads of all pages that start with this macro."""
    return [name for page in PAGES for name in heads(page.read_text(), macro)]


def test_each_key_is_in_one_page(defaults):
    keys = [key for _, key in defaults]
    assert len(keys) > 30
    described = [head.split()[0] for head in all_heads("Ic")]
    assert {key: described.count(key) for key in keys} == {key: keys.count(key) for key in keys}


def test_each_metric_is_in_one_page(running):
    with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN_PORT}/metrics") as answer:
        metrics = re.findall(r"(?m)^# TYPE (\S+)", answer.read().decode())
    for source in OUTBOUND.values():
        metrics += re.findall(r'"(imcallbackd_(?:forward|deliver)_\w+)"', source.read_text())
    assert len(metrics) > 30
    described = [name for name in all_heads("Va") if re.match("imcallbackd_|process_", name)]
    assert sorted(described) == sorted(metrics)


def test_each_error_code_and_alert_is_in_one_page():
    text = "\n".join(page.read_text() for page in PAGES)
    codes = re.findall(r"\[ANSWER_\w+\] = \{(120\d+), ", (TOP / "src/callback/answer.c").read_text())
    assert len(codes) > 20
    for name in codes + alerts():
        assert len(re.findall(rf"\b{name}\b", text)) == 1, name
    assert set(re.findall(r"\b120\d\d\d\b", text)) == set(codes)
    assert set(re.findall(r"\bImcallbackd\w+", text)) == set(alerts())


def test_each_command_is_in_the_synopsis_of_one_page():
    """The tests of the pages compare the options of a synopsis with those of the program."""
    shown = [word for page in PAGES for synopsis in [sections(page, "Sh").get("SYNOPSIS", "")]
             for word in set(re.findall(r"(?m)^\.(?:Ic|Nm imcallbackd) ([a-z]+)$", synopsis))]
    assert sorted(shown) == sorted(commands() | ELSEWHERE)


# The database

def schema(running):
    """Returns {name: (kind, columns)} of each table and view that the daemon created."""
    with contextlib.closing(sqlite3.connect(f"file:{running.database}?mode=ro", uri=True)) as connection:
        kinds = dict(connection.execute("SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view')"
                                        " AND name NOT LIKE 'sqlite_%'"))
        return {name: (kind, [row[1] for row in connection.execute(f"PRAGMA table_info({name})")])
                for name, kind in kinds.items()}


def test_page_describes_the_schema(running):
    described = {}
    for heading, text in sections(COMMAND_PAGE, "Ss").items():
        if found := re.fullmatch(r"(Table|View) (\w+)", heading):
            described[found[2]] = (found[1].lower(), sorted(heads(text, "Va")))
    assert described == {name: (kind, sorted(columns)) for name, (kind, columns) in schema(running).items()}


def test_queries_of_page_work(running):
    shown = literal(sections(COMMAND_PAGE, "Ss")["Queries"])
    queries = [text for text in shown if text.startswith("SELECT")]
    assert len(queries) > 3
    for query in queries:
        assert len(running.sql(query.replace("@TGS#2J4SZEAEL", "@TGS#1"))) == 1, query
    (index,) = [text for text in shown if text not in queries]
    copy = running.directory / "copy.db"
    made = daemon.run(daemon.BINARY, "backup", "-c", running.config, copy)
    assert made.returncode == 0, made
    assert daemon.run("sqlite3", copy, index).returncode == 0


# Refused events, which only the journal has

AWKWARD = 'back\\slash "quoted" \n\t\u2028 张三'


def lose(one):
    """Makes the daemon refuse events. Returns their bodies, and the daemon's log as the journal would store it."""
    bodies = [daemon.event(GroupId="short", Name=AWKWARD), b"// a comment\n" + daemon.event(GroupId="commented"),
              daemon.event(GroupId="long", MemberList=[{"Member_Account": f"\\{number} 张"} for number in range(6000)])]
    assert len(bodies[-1]) > 3 * JOURNAL_PIECE
    with one.locked():
        for body in bodies:
            assert one.post(body, OptPlatform="i&OS", ClientIP="2001:db8::1").status == 503
    lines = [line.encode(errors="surrogateescape") for line in one.lines]
    pieces = [line[at:at + JOURNAL_PIECE] for line in lines for at in range(0, len(line), JOURNAL_PIECE)]
    return bodies, b"".join(re.sub(rb"^<\d>", b"", piece) + b"\n" for piece in pieces)


@pytest.mark.parametrize("log_format", ("text", "json"))
def test_refused_events_are_recovered_from_the_journal(log_format):
    find, send = literal(sections(OPERATIONS_PAGE, "Sh")["RECOVERING A REFUSED EVENT"])
    if log_format == "json":
        before, between, after = find.partition("perl -ne")
        find = f"{before}jq -r .message | {between}{after}"
    with daemon.running({"limits": {"store_wait": "0s"}, "log": {"format": log_format}}) as one:
        bodies, journal = lose(one)
        programs, work = one.directory / "programs", one.directory / "work"
        for directory in (programs, work):
            directory.mkdir()
        (one.directory / "journal").write_bytes(journal)
        (programs / "imcallbackd").symlink_to(daemon.BINARY)
        (programs / "journalctl").write_text(f"#!/bin/sh\nexec cat {one.directory}/journal\n")
        (programs / "journalctl").chmod(0o755)
        text = find + send
        for words, instead in {"/etc/imcallbackd": one.directory, "im.example.org": f"localhost:{one.port}"}.items():
            text = text.replace(words, str(instead))
        done = daemon.run("sh", "-e", "-c", text, cwd=work, env=os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}", "CURL_CA_BUNDLE": str(one.directory / "certificate.pem")})
        assert done.returncode == 0 and done.stdout.count('"OK"') == len(bodies), done
        assert [(work / f"{number}.json").read_bytes() for number in (1, 2, 3)] == bodies
        assert one.group_ids() == ["short", "commented", "long"]
        assert {(row["opt_platform"], row["client_ip"]) for row in one.groups()} == {("i&OS", "2001:db8::1")}
        assert one.groups("short")[0]["name"] == AWKWARD
