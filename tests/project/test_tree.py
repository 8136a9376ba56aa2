"""Checks the tree itself: where files are, how long files and functions are, includes, calls and wording.

No check reads a list of files, so a new file has to follow the rules without being registered here.
"""

import ast
import collections
import os
import pathlib
import re
import subprocess
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
MAY_BE_AT_THE_TOP = {"src", "include", "tests", "conf", "systemd", "CMakeLists.txt", "CMakePresets.json", "README.md",
                     "README.zh-CN.md", "LICENSE", "build"}
READMES = [TOP / "README.md", TOP / "README.zh-CN.md"]
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_OPENING_LINES = 5
CLANG_FORMAT = "14"  # other versions format some constructs differently

# The headers of a library start with the key. Only files that match the pattern may include these headers.
LIBRARIES = {
    "microhttpd.h": r"src/http/(mhd\w*|admin)\.[ch]", "gnutls/": "src/http/", "sqlite3.h": "src/store/",
    "cjson/": "src/callback/", "ini.h": "src/command/", "systemd/": "src/(base|command)/",
    "openssl/": "src/(callback|command|deliver|forward|http|outbound)/", "libpq-fe.h": "src/forward/", "curl/": r"src/deliver/(endpoint|failure)\.c",
}
# The modules whose headers a module may include, besides its own. Of the headers of the callback module, the store may
# include only EVENT, which declares the plain event.
MODULES = {
    "base": set(), "callback": {"base"}, "status": {"base", "callback"}, "store": {"base"}, "http": {"base"},
    "outbound": {"base", "store"}, "forward": {"base", "store", "outbound"},
    "deliver": {"base", "callback", "store", "outbound"},
    "command": {"base", "callback", "status", "store", "http", "outbound", "forward", "deliver"},
}
EVENT = "imcallbackd/callback/event.h"

# Words that CONTRIBUTING.md rules out. Two uses are allowed: "nobody" in quotes is a user, and the phrase with "anew"
# is in a comment of a schema that was released and cannot change.
RULED_OUT = re.compile(r'(?i)\b(whoever|anew(?! by the service once the group is gone)|(?<!")nobody|is\s+told|'
                       r"makes\s+sure\s+of|for\s+want\s+of)\b")


def files(*suffixes, under=("src", "include", "tests", "conf", "systemd")):
    found = [path for folder in under for path in sorted((TOP / folder).rglob("*")) if path.suffix in suffixes]
    assert found
    return found


def name(path):
    return str(path.relative_to(TOP))


def includes(path):
    return re.findall(r'(?m)^#include [<"]([^>"]+)[>"]', path.read_text())


# Form

def test_top_level():
    visible = {path.name for path in TOP.iterdir() if not path.name.startswith(".")}
    assert visible <= MAY_BE_AT_THE_TOP
    assert visible >= MAY_BE_AT_THE_TOP - {"build"}


def test_files_are_short():
    long = {name(path): lines for path in files(".c", ".h", ".py", ".sh", ".pml", ".txt", ".conf", ".service", ".socket")
            if (lines := path.read_text().count("\n")) > MAX_FILE_LINES}
    assert long == {}


def test_functions_are_short():
    found = 0
    for path in files(".c", ".h"):
        lines = path.read_text().split("\n")
        start = None
        for number, line in enumerate(lines, 1):
            if line == "{":
                start = number
            elif line == "}" and start:
                found += 1
                length = number - start + 1
                assert length <= MAX_FUNCTION_LINES, f"{name(path)}:{start} has a function of {length} lines"
                start = None
    assert found > 100


def test_text_has_no_stray_white_space():
    for path in files(".c", ".h", ".py", ".sh", ".pml", ".conf", ".service", ".socket") + READMES:
        text = path.read_text()
        assert text.endswith("\n") and not text.endswith("\n\n"), name(path)
        assert "\t" not in text and "\r" not in text and not re.search(r" $", text, re.MULTILINE), name(path)


def test_no_task_is_left_in_a_comment():
    for path in files(".c", ".h", ".sh", ".conf", ".service", ".socket") + READMES:
        assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", path.read_text()), name(path)


def opening_lines(path):
    """Returns the number of lines of the comment or docstring that opens the file."""
    text = path.read_text()
    if path.suffix == ".py":
        first = ast.parse(text).body[:1]
        if not ast.get_docstring(ast.parse(text)):
            return 0
        return first[0].end_lineno - first[0].lineno + 1
    marker = "#" if path.suffix == ".sh" else "//"
    lines = text.removeprefix("#!/bin/sh\n").split("\n")
    return next(number for number, line in enumerate(lines) if not line.startswith(marker))


def test_each_source_opens_with_a_comment():
    wrong = [f"{name(path)}: opens with {lines} lines of comment" for path in files(".c", ".h", ".py", ".sh", ".pml")
             if not 1 <= (lines := opening_lines(path)) <= MAX_OPENING_LINES]
    assert not wrong, "\n".join(wrong)


def test_words_that_are_ruled_out_stay_out():
    found = []
    paths = [path for folder in ("src", "include", "conf", "systemd", "tests", ".github")
             for path in sorted((TOP / folder).rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    for path in [*paths, *READMES]:
        if path in (pathlib.Path(__file__), TOP / ".github/CONTRIBUTING.md"):  # these files state the rule
            continue
        text = path.read_bytes().decode(errors="replace")
        found += [f"{name(path)}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
                  for match in RULED_OUT.finditer(text)]
    assert not found, "\n".join(found)


def test_clang_format():
    version = subprocess.run(["clang-format", "--version"], capture_output=True, text=True, check=True).stdout
    if not re.search(rf"version {CLANG_FORMAT}\.", version):
        pytest.skip(f"clang-format {CLANG_FORMAT} is needed; this is {version.strip()}")
    done = subprocess.run(["clang-format", "--dry-run", "-Werror", *files(".c", ".h")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", files(".sh"), ids=name)
def test_shell_scripts_parse(script):
    assert subprocess.run(["sh", "-n", script]).returncode == 0


def test_workflows_run_pinned_actions_with_least_rights():
    for path in sorted((TOP / ".github/workflows").iterdir()):
        text = path.read_text()
        for action in re.findall(r"(?m)^ *(?:- )?uses: (.*)$", text):
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), f"{name(path)}: {action}"
        assert re.findall(r"(?m)^permissions:.*$", text) == ["permissions: {}"], name(path)
        assert set(re.findall(r"(?m)^ +permissions:(.*)$", text)) <= {""}, f"{name(path)}: list the rights of the job"
        assert set(re.findall(r"(?m)^ {6}([\w-]+: (?:read|write))$", text)) <= {"contents: read"}, name(path)


def test_tests_that_run_on_demand_can_be_imported():
    """A campaign runs so rarely that a wrong import in it would stay unnoticed for long."""
    scripts = [*sorted((TOP / "tests/e2e").glob("*.py")), TOP / "tests/project/container_checks.py"]
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", *scripts],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# Structure

def cycles(graph):
    """Returns the strongly connected components of {node: nodes that it needs} with more than one node, sorted."""
    reached = {}
    for start in graph:
        found, waiting = set(), [start]
        while waiting:
            new = graph[waiting.pop()] - found
            found |= new
            waiting += new
        reached[start] = found
    components = {frozenset(other for other in reached[node] if node in reached[other]) for node in graph}
    return sorted(sorted(component) for component in components if len(component) > 1)


def test_cycles_are_found():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"e"}}) == [["b", "c"]]


def node(path):
    """Returns the node of a file. A header and its source file are one node, such as http/server."""
    relative = path.relative_to(TOP / ("src" if path.is_relative_to(TOP / "src") else "include/imcallbackd"))
    return str(relative.with_suffix(""))


def test_includes_have_no_cycle():
    sources = {path for path in files(".c", ".h", under=("src", "include"))}
    graph = {node(path): set() for path in sources}
    for path in sources:
        for header in includes(path):
            places = [folder / header for folder in (path.parent, TOP / "src", TOP / "include")]
            graph[node(path)] |= {node(place) for place in places if place in sources} - {node(path)}
    assert sum(map(len, graph.values())) > len(graph)
    assert not (found := cycles(graph)), found


@pytest.mark.parametrize("module", MODULES)
def test_calls_between_files_have_no_cycle(module):
    """A reference from one object file of the module's library to another counts, whether it is a call or not."""
    build = pathlib.Path(os.environ.get("IMCALLBACKD_BUILD") or pytest.skip("IMCALLBACKD_BUILD is not set"))
    if re.search(r"(?m)^CMAKE_INTERPROCEDURAL_OPTIMIZATION:\w+=ON$", (build / "CMakeCache.txt").read_text()):
        pytest.skip("object files for link-time optimization have no symbols that nm can read")
    listed = subprocess.run(["nm", "-A", "-P", "-g", build / f"src/libimcallbackd_{module}.a"], capture_output=True,
                            text=True, check=True).stdout
    symbols = re.findall(r"(?m)^\S+\[(\w+)\.c\.o\]: (\w+) ([A-Za-z])", listed)
    defined_in = {symbol: file for file, symbol, kind in symbols if kind not in "Uw"}
    graph = {file: set() for file, _, _ in symbols}
    for file, symbol, kind in symbols:
        if kind in "Uw" and symbol in defined_in:
            graph[file].add(defined_in[symbol])
    assert len(graph) > 1 and any(graph.values())
    assert not (found := cycles(graph)), found


@pytest.mark.parametrize("module", MODULES)
def test_modules_include_only_what_they_may(module):
    for path in files(".c", ".h", under=(f"src/{module}", f"include/imcallbackd/{module}")):
        place = name(path).replace("include/imcallbackd/", "src/")
        for header in includes(path):
            if header.startswith("imcallbackd/") and not (module == "store" and header == EVENT):
                assert header.split("/")[1] in MODULES[module] | {module}, f"{name(path)} includes {header}"
            for library, pattern in LIBRARIES.items():
                assert re.match(pattern, place) or not header.startswith(library), f"{name(path)} includes {header}"


def test_base_names_are_unique():
    """Only a source file and its own header may have the same base name."""
    found = collections.defaultdict(list)
    for path in files(".c", ".h", under=("src", "include")):
        found[path.stem].append(path)
    repeated = [" ".join(map(name, paths)) for paths in found.values()
                if len({node(path) for path in paths}) > 1 or len({path.suffix for path in paths}) < len(paths)]
    assert not repeated, "\n".join(repeated)
