"""The documents match the tree: every link leads somewhere, and every path, function and type that they name exists.
Every command in the documents for contributors works. Those that take long run in a reduced form: `ctest` lists its
selection, `cmake` must have the preset, pytest only collects a test that needs another preset or valgrind, and a script
must have the options that it gets. test_operators.py checks the documents for operators."""

import functools
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess

import pytest
import test_tree

TOP = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ["IMCALLBACKD"])
BUILD = BINARY.parent  # of the preset dev, or of the build that runs this test
CONTRIBUTORS = [TOP / name for name in ("src/README.md", "src/callback/README.md", "tests/README.md",
                                        ".github/CONTRIBUTING.md", ".github/SECURITY.md")]
DOCUMENTS = [*test_tree.READMES, *CONTRIBUTORS]
FOLDERS = ("src/", "include/", "tests/", "conf/", "systemd/", ".github/", ".ci/")
# Maps each header in the library tables of test_tree.py to the name that the documents use.
LIBRARY_NAMES = {"microhttpd.h": "libmicrohttpd", "gnutls/": "GnuTLS", "sqlite3.h": "SQLite", "cjson/": "cJSON",
                 "ini.h": "inih", "systemd/": "libsystemd", "openssl/": "libcrypto", "libpq-fe.h": "libpq",
                 "curl/": "libcurl"}
PRESETS = {preset["name"] for preset in json.loads((TOP / "CMakePresets.json").read_text())["configurePresets"]
           if not preset.get("hidden")}


def name(path):
    return str(path.relative_to(TOP))


def run(words, **options):
    return subprocess.run(words, cwd=TOP, capture_output=True, text=True, timeout=120, **options)


def prose(document):
    """Returns the text without its blocks of code."""
    return re.sub(r"(?ms)^ *```.*?^ *```$", "", document.read_text())


def commands(document):
    """Returns every command line in the blocks for the shell, with the variables that it sets."""
    found = []
    for block in re.findall(r"(?ms)^ *```sh\n(.*?)^ *```$", document.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            if line.strip():
                found.append(" ".join(line.split()))
    return found


COMMANDS = sorted({line for document in CONTRIBUTORS for line in commands(document)})


# Commands

def option(words, wanted):
    return words[words.index(wanted) + 1]


def check_ctest(words):
    """Checks that the selection is not empty. All presets except fuzz have the tests of this build. For the preset
    fuzz, checks only that the label exists."""
    directory = option(words, "--test-dir")
    preset = directory.removeprefix("build/")
    assert preset in PRESETS, words
    if preset == "fuzz":
        label = option(words, "-L").strip("^$")
        assert f"LABELS {label} " in (TOP / "tests/CMakeLists.txt").read_text(), words
        return
    done = run(["ctest", "-N", *[str(BUILD) if word == directory else word for word in words[1:] if word != "-V"]])
    assert done.returncode == 0 and int(re.search(r"Total Tests: (\d+)", done.stdout)[1]) > 0, done


def check_cmake(words):
    assert option(words, "--preset") in PRESETS, words


def check_pytest(words, environment):
    """Runs the test with this build. A test that uses another preset or valgrind, or whose wrapper is missing, is only
    collected."""
    collect = False
    for variable in ("IMCALLBACKD", "IMCALLBACKD_LOAD"):
        preset, path = re.fullmatch(r"\$PWD/build/(\w+)/(.*)", environment[variable]).groups()
        assert preset in PRESETS
        collect = collect or preset != "dev"
        environment[variable] = str(BUILD / path)
    wrapper = environment.get("IMCALLBACKD_WRAPPER", "").replace("build/dev", str(BUILD)).split()
    environment |= {"IMCALLBACKD_WRAPPER": " ".join(wrapper)} if wrapper else {}
    if wrapper and (wrapper[0] == "valgrind" or not shutil.which(wrapper[0])):
        collect = True
    words = [word for word in words if word != "--pdb"] + ["--collect-only"] * collect
    done = run(words, env=os.environ | environment)
    assert done.returncode == 0, done.stdout


def check_script(words):
    """Checks that the script has the options and the rows that the command names."""
    script, arguments = TOP / words[1], words[2:]
    text = script.read_text()
    for argument in arguments:
        assert argument.isdigit() or "," in argument or f'"{argument}"' in text, f"{words} has {argument}"


def check_program(words):
    """Runs a program of the build under a debugger or a checker. Skips the test if this tool is not installed."""
    if not shutil.which(words[0]):
        pytest.skip(f"{words[0]} is not installed")
    done = run([str(BUILD / word.removeprefix("build/dev/")) if word.startswith("build/dev/") else word
                for word in words])
    assert done.returncode == 0 or "exited normally" in done.stdout, done


def check_format(words):
    program, *arguments = words
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    arguments = ["--dry-run" if word == "-i" else str(BUILD) if word == "build/dev" else word for word in arguments]
    assert run([program, *arguments]).returncode == 0


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: re.sub(r"\S+=(\$PWD/\S+|'.*?')\s*", "", line)[:60])
def test_command_works(line):
    words = shlex.split(line)
    environment = {}
    while re.match(r"[A-Z_]+=", words[0]):
        variable, _, environment[variable] = words.pop(0).partition("=")
    program = pathlib.Path(words[0]).name
    if program == "ctest":
        check_ctest(words)
    elif program == "cmake":
        check_cmake(words)
    elif program == "python3" and "pytest" in words:
        check_pytest(words, environment)
    elif program == "python3":
        check_script(words)
    elif words[:2] == ["sh", "tests/project/debian13.sh"]:
        check_ctest(["ctest", "--test-dir", "build/dev", *words[2:]])
    elif program == "sh":
        assert words[1:] == ["tests/run.sh"]  # runs this test
    elif program in ("clang-format", "clang-tidy"):
        check_format(words)
    else:
        check_program(words)


# Commands that start with `ctest --test-dir`, in sentences and tables

def test_commands_in_prose_select_tests():
    found = {line for document in CONTRIBUTORS for line in re.findall(r"`(ctest --test-dir [^`]+)`", prose(document))}
    assert len(found) > 5
    for line in found:
        check_ctest(shlex.split(" ".join(line.split())))


# Names

def spans(document):
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(document))]


def exists(path):
    """Returns whether the tree has this path; words in capitals stand for any name."""
    pattern = re.sub(r"(?<![A-Za-z.])[A-Z]{2,}(?![A-Za-z.]*\.md)|(?<=_)[A-Z]{2,}", "*", path.rstrip("/"))
    return any(TOP.glob(pattern)) if "*" in pattern else (TOP / path).exists()


@functools.cache
def sources():
    paths = [path for folder in ("src", "include", "tests") for path in (TOP / folder).rglob("*")
             if path.suffix in (".c", ".h", ".py")]
    return "\n".join(path.read_text() for path in paths)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_names_exist(document):
    missing = []
    for span in spans(document):
        if span.startswith(FOLDERS) and not re.search(r"[ <>]", span):
            found = exists(span)
        elif call := re.fullmatch(r"(\w+)\(\)", span):
            found = re.search(rf"\b{call[1].replace('NAME', '[a-z]+')}\(", sources())
        elif kind := re.fullmatch(r"(?:struct|enum) (\w+)", span):
            found = kind[1] == "thing" or re.search(rf"\b{span} {{", sources())
        else:
            continue
        if not found:
            missing.append(span)
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_public_headers_exist(document):
    for header in re.findall(r"`((?:base|callback|store|http|outbound|forward|deliver|command)/\w+\.h)`", document.read_text()):
        assert (TOP / "include/imcallbackd" / header).exists(), header


# Links

def anchors(document):
    """Returns the anchors that code hosts derive from headings."""
    headings = re.findall(r"(?m)^#+ (.*)$", prose(document))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)]+)\)", prose(document)):
        assert not target.startswith("http"), f"{target}: nothing checks it"
        path, _, anchor = target.partition("#")
        linked = (document.parent / path).resolve() if path else document
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


# Tables

def rows(document, heading):
    """Returns the cells of the first table after a heading."""
    text = document.read_text().partition(f"\n{heading}\n")[2]
    table = re.search(r"(?m)(?:^\|.*\n)+", text)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_modules_may_include_what_the_table_says():
    table = {cells[0].strip("`"): cells[2] for cells in rows(TOP / "src/README.md", "## Modules")}
    assert set(table) == set(test_tree.MODULES)
    for module, text in table.items():
        libraries = {library for header, library in LIBRARY_NAMES.items() if module in test_tree.LIBRARIES[header]}
        assert {library for library in LIBRARY_NAMES.values() if library in text} == libraries, module
        named = set(re.findall(r"`(\w+)(?:/\w+\.h)?`", text)) & set(test_tree.MODULES) - {module, "command"}
        assert named == test_tree.MODULES[module] | ({"callback"} if module in ("store", "outbound", "forward") else set()) \
            or "all modules" in text, module


def test_every_suite_is_in_the_table():
    shown = run(["ctest", "-N", "--test-dir", BUILD]).stdout
    tests = set(re.findall(r"Test +#\d+: (\S+)", shown))
    patterns = [re.sub(r"\\?\*|MODULE", ".*", pattern) for cells in rows(TOP / "tests/README.md", "## The suites")
                for pattern in re.findall(r"`([^`]+)`", cells[1])]
    assert {test for test in tests if not any(re.fullmatch(pattern, test) for pattern in patterns)} == set()
    column = " ".join(cells[2] for cells in rows(TOP / "tests/README.md", "## The suites"))
    labels = set(re.findall(r"`([a-z-]+)`", column))
    printed = run(["ctest", "--print-labels", "--test-dir", BUILD]).stdout
    assert labels == set(re.findall(r"(?m)^  ([a-z-]+)$", printed))
