"""The tree itself: what lies at the top, how long files and functions are, which module includes what, the format."""

import pathlib
import re
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
MAY_BE_AT_THE_TOP = {"src", "include", "tests", "conf", "systemd", "CMakeLists.txt", "CMakePresets.json", "README.md",
                     "LICENSE", "build"}
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
CLANG_FORMAT = "14"  # others format some things in another way

# The headers of a library begin with one of these, and these modules may include them.
LIBRARIES = {
    "microhttpd.h": {"http"}, "gnutls/": {"http"}, "sqlite3.h": {"store"}, "cjson/": {"callback"}, "ini.h": {"command"},
    "systemd/": {"base", "command"}, "openssl/": {"callback", "command", "forward", "http"},
    "libpq-fe.h": {"forward"},
}
# The modules whose headers a module may include, besides its own. Of the callback's, the store and those that read from it
# take the plain event alone; of the store's, the forwarder takes the reader and the note on what was shipped.
MODULES = {
    "base": set(), "callback": {"base"}, "store": {"base"}, "http": {"base"},
    "forward": {"base", "store"}, "command": {"base", "callback", "store", "http", "forward"},
}
EVENT = "imcallbackd/callback/event.h"


def files(*suffixes, under=("src", "include", "tests", "conf", "systemd")):
    found = [path for folder in under for path in sorted((TOP / folder).rglob("*")) if path.suffix in suffixes]
    assert found
    return found


def name(path):
    return str(path.relative_to(TOP))


def includes(path):
    return re.findall(r'(?m)^#include [<"]([^>"]+)[>"]', path.read_text())


def test_top_level():
    visible = {path.name for path in TOP.iterdir() if not path.name.startswith(".")}
    assert visible <= MAY_BE_AT_THE_TOP
    assert visible >= MAY_BE_AT_THE_TOP - {"build"}


def test_file_length():
    long = {name(path): lines for path in files(".c", ".h", ".py", ".sh", ".txt", ".conf", ".service", ".socket")
            if (lines := path.read_text().count("\n")) > MAX_FILE_LINES}
    assert long == {}


def test_function_length():
    found = 0
    for path in files(".c", ".h"):
        lines = path.read_text().split("\n")
        begin = None
        for number, line in enumerate(lines, 1):
            if line == "{":
                begin = number
            elif line == "}" and begin:
                found += 1
                length = number - begin + 1
                assert length <= MAX_FUNCTION_LINES, f"{name(path)}:{begin} has a function of {length} lines"
                begin = None
    assert found > 100


def test_text_form():
    for path in files(".c", ".h", ".py", ".sh", ".conf", ".service", ".socket") + [TOP / "README.md"]:
        text = path.read_text()
        assert text.endswith("\n") and not text.endswith("\n\n"), name(path)
        assert "\t" not in text and "\r" not in text and not re.search(r" $", text, re.MULTILINE), name(path)


def test_nothing_is_left_to_do():
    for path in files(".c", ".h", ".sh", ".conf", ".service", ".socket") + [TOP / "README.md"]:
        assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", path.read_text()), name(path)


@pytest.mark.parametrize("module", MODULES)
def test_rooms_include_what_they_may(module):
    for path in files(".c", ".h", under=(f"src/{module}", f"include/imcallbackd/{module}")):
        for header in includes(path):
            if header.startswith("imcallbackd/") and not (module == "store" and header == EVENT):
                assert header.split("/")[1] in MODULES[module] | {module}, f"{name(path)} includes {header}"
            for library, modules in LIBRARIES.items():
                assert module in modules or not header.startswith(library), f"{name(path)} includes {header}"


def test_clang_format():
    version = subprocess.run(["clang-format", "--version"], capture_output=True, text=True, check=True).stdout
    if not re.search(rf"version {CLANG_FORMAT}\.", version):
        pytest.skip(f"clang-format {CLANG_FORMAT} is needed; this is {version.strip()}")
    done = subprocess.run(["clang-format", "--dry-run", "-Werror", *files(".c", ".h")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", files(".sh"), ids=name)
def test_shell_scripts_are_read(script):
    assert subprocess.run(["sh", "-n", script]).returncode == 0
