"""The documents for operators, README.md, README.zh-CN.md and the manual pages, match the program and each other. Each
example in them has a test that runs the example. The commands in their sentences have the options that they use, and
name units, pages and files that exist."""

import functools
import os
import pathlib
import re
import shlex
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "e2e"))

from documents import PAGES, READMES, example, examples, literal, read  # noqa: E402
from processes import check_run  # noqa: E402

MAX_README_LINES = 220
NAMES = [path.name for path in (*READMES, *PAGES)]
# The words that identify an example, and the file that runs it. This file contains the words.
TESTED = {
    "README.md": {
        **dict.fromkeys(("conf/quickstart.sh", "sign -c conf/quickstart.conf", "cpack", "certbot certonly", "/dev/stdin",
                         "sudoedit", "signed=$(sudo", "chgrp", "usermod"), "e2e/test_readme.py"),
        "The groups that were disbanded last": "e2e/test_readme.py",
        "[deliver]": "e2e/test_manual_deliver.py",
        "imcallbackd-deliver": "e2e/test_manual_deliver.py",
        "docker compose": "project/test_operators.py",
    },
    "imcallbackd.8": {
        "jsonb NOT NULL": "e2e/test_manual_data.py",
        "jsonb_array_elements_text": "e2e/test_manual_data.py",
        "_bulk": "e2e/test_manual_data.py",
    },
    "imcallbackd-operations.7": {
        **dict.fromkeys(("systemctl disable", "fullchain.pem", "ListenStream=", "scrape_configs", "CREATE USER",
                         "forward-password"), "e2e/test_manual_operations.py"),
        "imcallbackd backup": "e2e/test_manual_data.py",
        "$store/before/": "e2e/test_manual_data.py",
    },
    "imcallbackd-forward.8": dict.fromkeys(("[forward]", "USING (event_uid)", "--verify"), "e2e/test_forward.py"),
    "imcallbackd-deliver.8": dict.fromkeys(("ca_file =", "secret_file =", "openssl rand", "python3 handler.py",
                                            "--start-at now", "set_aside"), "e2e/test_manual_deliver.py"),
}
# Sections whose examples test_manual.py runs, all of them.
TESTED_SECTIONS = {"imcallbackd.8": ["Queries"], "imcallbackd.conf.5": ["EXAMPLES"],
                   "imcallbackd-operations.7": ["RECOVERING A REFUSED EVENT"]}
# The form of a request, which is not a command.
NOT_RUN = ("POST URL?",)


def in_section(name, heading):
    text = re.split(rf"(?m)^\.S[hs] {heading}$", read(name))[1]
    return literal(re.split(r"(?m)^\.S[hs] ", text)[0])


# Examples

@pytest.mark.parametrize("name", [name for name in NAMES if name != "README.zh-CN.md"])
def test_each_example_has_a_test(name):
    shown = [text for text in examples(name) if not text.startswith(NOT_RUN)]
    for heading in TESTED_SECTIONS.get(name, []):
        assert heading in (TOP / "tests/project/test_manual.py").read_text()
        for text in in_section(name, heading):
            shown.remove(text)
    for words, file in TESTED.get(name, {}).items():
        assert words in (TOP / "tests" / file).read_text(), (words, file)
        found = [text for text in shown if words in text]
        assert len(found) == 1, (words, found)
        shown.remove(found[0])
    assert shown == []


def test_examples_in_chinese_are_the_same():
    for language in ("sh", "ini", "sql"):
        assert examples("README.zh-CN.md", language) == examples("README.md", language) != []


def test_files_of_the_container_exist():
    (file,) = re.findall(r"docker compose -f (\S+)", example("README.md", "docker compose"))
    assert (TOP / file).exists()


# Commands in sentences

def sentences(name):
    """Returns the text of a document without its examples."""
    return re.sub(r"(?ms)^ *```.*?^ *```$|^\.Bd -literal.*?^\.Ed$", "", read(name))


def spans(name):
    """Returns the commands, names and values that stand in sentences and tables."""
    text = sentences(name)
    if name.endswith(".md"):
        return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    return [re.sub(r"( [.,;:])+$", "", line).replace("\\&", "") for line in re.findall(r"(?m)^\.[QD]l (.*)$", text)]


@functools.cache
def help_of(*words):
    return check_run(os.environ["IMCALLBACKD"], *words, "--help")


def check_program(words):
    if words[0] in ("--version", "--help"):
        return
    known = set(re.findall(r"(?m)^  imcallbackd ([a-z]+) ", help_of()))
    assert words[0] in known, words
    options = set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", help_of(words[0])))
    assert {word for word in words if word.startswith("-")} <= options, words


def check_units(words):
    units = [word.strip("'") for word in words if word.startswith("imcallbackd")]
    assert units or words == ["daemon-reload"], words
    for unit in units:
        assert unit == "imcallbackd*" or (TOP / "systemd" / unit).exists() or \
            (TOP / f"systemd/{unit}.service").exists(), words


def check_page(words):
    if words[0] == "-l":
        assert (TOP / words[1]).exists(), words
    else:
        assert words[0] in [path.stem for path in PAGES], words


def check_listener(words):
    port, path = re.fullmatch(r"localhost:(\d+)(/\w+)", words[0]).groups()
    assert f"#port = {port}\n" in (TOP / "conf/imcallbackd.conf").read_text()
    assert f'"{path}"' in (TOP / "src/http/admin.c").read_text() + (TOP / "src/command/monitor.c").read_text(), words


def check_script(words):
    text = (TOP / words[0]).read_text()
    assert all(word in text for word in words[1:]), words


# The programs that occur in sentences. Of those without a function, only the name is checked, because they need a cloud,
# a package source, root or a certificate authority.
PROGRAMS = {"imcallbackd": check_program, "systemctl": check_units, "journalctl": check_units, "man": check_page,
            "curl": check_listener, "sh": check_script,
            **dict.fromkeys(("apt-get", "certbot", "kill", "sqlite3", "ssh", "timedatectl", "ufw"))}
OTHER_UNITS = ("systemctl restart systemd-journald",)


@pytest.mark.parametrize("name", NAMES)
def test_commands_in_sentences_are_right(name):
    for span in spans(name):
        if span in OTHER_UNITS:
            continue
        with_sudo = span.startswith("sudo ")
        words = re.sub(r"^sudo (-[ug] \S+ )*", "", span)
        program, _, rest = words.partition(" ")
        if program not in PROGRAMS:
            assert not with_sudo, span
            continue
        if rest and PROGRAMS[program]:
            PROGRAMS[program](shlex.split(rest))


@pytest.mark.parametrize("name", NAMES)
def test_settings_in_sentences_have_a_key(name):
    keys = set(re.findall(r"(?m)^#?(\w+) = ", (TOP / "conf/imcallbackd.conf").read_text()))
    for span in spans(name):
        if found := re.fullmatch(r"(?:\[\w+\] )?(\w+) = \S+", span):
            assert found[1] in keys | {"key"}, span


# READMEs

def test_readme_is_a_front_door():
    assert len(read("README.md").splitlines()) <= MAX_README_LINES


@pytest.mark.parametrize("name", [path.name for path in READMES])
def test_readme_quotes_headings_of_the_manual(name):
    text = sentences(name)
    quoted = [(page, heading) for heading, page in re.findall(r'"([^"]+)"\s+in\s+`man ([\w.-]+)`', text)]
    quoted += re.findall(r'`man ([\w.-]+)` (?:的|中的) "([^"]+)"', text)
    assert len(quoted) >= 6
    for page, heading in quoted:
        (path,) = [path for path in PAGES if path.stem == page]
        assert re.search(rf"(?m)^\.(?:S[hs]|It) {re.escape(heading)}$", path.read_text()), (page, heading)


def test_chinese_table_has_each_error_code():
    source = (TOP / "src/callback/answer.c").read_text()
    codes = re.findall(r'\[ANSWER_\w+\] = \{(120\d+), (\d+), "(\w+)",', source)
    table = re.findall(r"(?m)^\| (\d+) \| `(\w+)` \| (\d+) \| [^|]+ \| [^|]+ \|$", read("README.zh-CN.md"))
    assert [(number, status, name) for number, name, status in table] == codes
