"""Changes single comparisons, bounds and error paths in a copy of the tree, which the tests must notice.

At least 95 % of the changes must be noticed, or explained in mutants.explained. Each test runs once with coverage
counters. Then the tests that execute a changed line test the change, the quickest ones first, with AddressSanitizer. A
change is noticed if a test fails twice or hangs. One that does not compile is replaced by another one."""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
OUT = TOP / "build" / "mutants"
TREE = OUT / "tree"
COUNTING, STRICT = OUT / "coverage", OUT / "asan"  # the builds: one that counts executions, one that tests the changes
MAP = OUT / "tests.json"
EXPLAINED = pathlib.Path(__file__).with_suffix(".explained")
ENOUGH = 95  # percent
LABELS = r"^(unit|oom|fault|fuzz-replay|e2e)$"
# These tests measure time or fail at random moments, so they would say little about a change.
UNFIT = r"^(base-log_slow_reader|e2e-(load|kill|kill_points|endurance|silence|readme|watchdog))$"
# A report of a sanitizer must not look like an expected failure. pytest stops at the first failure.
ENVIRONMENT = dict(os.environ, PYTEST_ADDOPTS="-x -m 'not timing and not without_coverage'",
                   ASAN_OPTIONS="exitcode=99", UBSAN_OPTIONS="exitcode=99")

# Patterns and their replacements. The patterns apply to the result of code_of(), and rely on the blanks that
# clang-format puts around each binary operator.
COMPARISONS = [(r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "), (r" == ", " != "),
               (r" != ", " == "), (r" && ", " || "), (r" \|\| ", " && "), (r"(?<=if \()!", "")]
BOUNDS = [(r" \+ 1\b", ""), (r" - 1\b", ""), (r"(?<=[<>=!]= |.[<>] )\d+\b", lambda found: str(int(found[0]) + 1))]
ERROR_PATHS = [(r"return -E[A-Z]+;", "return 0;"), (r"return r;", "return 0;"), (r"return false;", "return true;"),
               (r"return true;", "return false;"), (r"goto \w+;", ";"), (r"if \((?=(?:r|code|length|fd)\b[^|&]*\)$)",
               "if (0 && "), (r"return code;", "return SQLITE_OK;")]


@dataclasses.dataclass(frozen=True)
class Change:
    """Replaces original[start:end] in a file."""
    file: str
    original: str
    start: int
    end: int
    replacement: str

    def text(self):
        return self.original[:self.start] + self.replacement + self.original[self.end:]

    def line(self):
        return self.original.count("\n", 0, self.start) + 1

    def key(self):
        """Names the change in mutants.explained: the file, and the line after the change."""
        return f"{self.file}: {self.text().splitlines()[self.line() - 1].strip()}"


def code_of(text):
    """Replaces comments, literals, directives and assertions with as many tildes, so that positions stay valid."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'|^#(?:\\\n|[^\n])*|' \
              r"\b(?:_Static_)?assert\([^;]*;"
    return re.sub(pattern, lambda found: re.sub(r"[^\n]", "~", found[0]), text, flags=re.S | re.M)


def changes_of(kind):
    """Returns every possible change of a kind. The files without_*.c are not part of this build."""
    changes = []
    for path in sorted(TREE.glob("src/*/*.c")):
        text = path.read_text()
        code = code_of(text) if not path.name.startswith("without_") else ""
        for pattern, replacement in kind:
            for found in re.finditer(pattern, code, flags=re.M):
                changes.append(Change(str(path.relative_to(TREE)), text, *found.span(),
                                      replacement(found) if callable(replacement) else replacement))
    return changes


def drawn(seed, kinds):
    """Yields all changes in an order that the seed determines; the kinds alternate."""
    generator = random.Random(seed)
    for kind in kinds:
        generator.shuffle(kind)
    while any(kinds):
        yield from [kind.pop() for kind in kinds if kind]


def explanations(kinds):
    """Reads the pairs of lines of mutants.explained: a change, and after two blanks the reason."""
    lines = [line for line in EXPLAINED.read_text().splitlines() if line and not line.startswith("#")]
    reasons = {key: reason.strip() for key, reason in zip(lines[::2], lines[1::2])}
    stale = set(reasons) - {change.key() for kind in kinds for change in kind}
    if stale or not all(line.startswith("  ") for line in lines[1::2]):
        sys.exit(f"{EXPLAINED}: these changes do not exist: {sorted(stale)}; update the file")
    return reasons


def run(words, log, deadline, **environment):
    """Runs a program. Returns whether it succeeds, or None if it takes more than `deadline` seconds. Kills what is left
    of its process group."""
    with subprocess.Popen([str(word) for word in words], cwd=TREE, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                          start_new_session=True, env=ENVIRONMENT | environment) as process:
        try:
            return process.wait(deadline) == 0
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def compiles(build, log, *targets):
    return run(["ninja", "-j", jobs(), "-C", build, *targets], log, 1200)


def jobs():
    return len(os.sched_getaffinity(0))


def ctest(build, log, deadline, *arguments, **environment):
    return run(["ctest", "--test-dir", build, "--output-on-failure", *arguments], log, deadline, **environment)


def failed():
    """Returns the names of the tests that failed in the last run of ctest."""
    with contextlib.suppress(FileNotFoundError):
        return re.findall(r"(?m)^\d+:(.*)$", (STRICT / "Testing/Temporary/LastTestsFailed.log").read_text())
    return []


def counted(test, log):
    """Runs a test in the build with counters. Returns its duration in seconds and the lines that it executes:
    {file: [line]}."""
    counters = OUT / "counters" / test
    started = time.monotonic()
    ctest(COUNTING, log, 900, "-R", f"^{test}$", GCOV_PREFIX=str(counters))
    seconds = time.monotonic() - started
    lines = {}
    found = sorted(counters.rglob("*.gcda"))
    for data in found:  # gcov looks for the file of the compiler beside the counters
        data.with_suffix(".gcno").symlink_to("/" / data.relative_to(counters).with_suffix(".gcno"))
    if found:
        shown = subprocess.run(["gcov", "--json-format", "--stdout", *found], cwd=counters, check=True,
                               stdout=subprocess.PIPE, stderr=log).stdout
        for document in filter(None, shown.split(b"\n")):
            for file in json.loads(document)["files"]:
                path = pathlib.Path(file["file"])
                if path.is_relative_to(TREE / "src"):
                    lines[str(path.relative_to(TREE))] = [
                        line["line_number"] for line in file["lines"] if line["count"] > 0]
    shutil.rmtree(counters, ignore_errors=True)
    return {"seconds": seconds, "lines": lines}


def prepare(log):
    """Copies the files that git tracks, builds them twice, and finds out what each test executes."""
    for directory in (TREE, OUT / "counters"):
        shutil.rmtree(directory, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        (TREE / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / name, TREE / name)  # gets a new time, so ninja rebuilds everything
    for preset, build in (("coverage", COUNTING), ("asan", STRICT)):
        if not run(["cmake", "--preset", preset, "-DIMCALLBACKD_WERROR=OFF", "-B", build], log, 600) or \
                not compiles(build, log):
            sys.exit(f"the tree does not build: see {log.name}")
    known = subprocess.run(["ctest", "--test-dir", str(COUNTING), "-L", LABELS, "-E", UNFIT, "--show-only=json-v1"],
                           check=True, capture_output=True, text=True).stdout
    names = [test["name"] for test in json.loads(known)["tests"]]
    with concurrent.futures.ThreadPoolExecutor(jobs()) as pool:
        MAP.write_text(json.dumps(dict(zip(names, pool.map(lambda name: counted(name, log), names)))))


def waves(change, tests, limit):
    """Yields lists of the tests that execute the changed line, or its file if none executes the line, the quickest
    first and those of the module itself before: about 2 seconds of them, then 4, then 8, until `limit` seconds."""
    own = f"{pathlib.Path(change.file).parent.name}-"
    executed = {line for test in tests.values() for line in test["lines"].get(change.file, [])}
    line = max((line for line in executed if line <= change.line()), default=0)
    which = [name for name, test in tests.items() if line in test["lines"].get(change.file, [])]
    which = which or [name for name, test in tests.items() if change.file in test["lines"]]
    wave, seconds, size, total = [], 0, 2, 0
    for name in sorted(which, key=lambda name: tests[name]["seconds"] / (10 if name.startswith(own) else 1)):
        total += tests[name]["seconds"]
        if total > limit:
            break
        wave.append(name)
        seconds += tests[name]["seconds"]
        if seconds >= size:
            yield wave, seconds
            wave, seconds, size = [], 0, 2 * size
    if wave:
        yield wave, seconds


def target(test):
    return ("imcallbackd", "imcallbackd-load") if test.startswith("e2e-") else (test.replace("-replay-", "-"),)


def noticed_by(change, tests, limit, log):
    """Returns the name of a test that notices the change, or None."""
    for wave, seconds in waves(change, tests, limit):
        if not compiles(STRICT, log, *{name for test in wave for name in target(test)}):
            return "the linker"
        deadline = 30 + 8 * seconds
        passed = ctest(STRICT, log, deadline, "-j", jobs(), "--stop-on-failure", "-R", f"^({'|'.join(wave)})$")
        if passed is None:
            return f"a hang of one of {len(wave)} tests"
        if not passed and (by := failed()) and not ctest(STRICT, log, deadline, "--rerun-failed"):
            return (failed() or by)[0]
    return None


def judge(change, tests, trusted, limit, log):
    """Makes one change and undoes it. Returns a verdict, or None if the changed source does not compile. A test must
    pass without a change before it is trusted."""
    path = TREE / change.file
    try:
        path.write_text(change.text())
        if not compiles(STRICT, log, f"imcallbackd_{path.parent.name}"):
            return None
        by = noticed_by(change, tests, limit, log)
    finally:
        path.write_text(change.original)
    if by in tests and by not in trusted:
        if not compiles(STRICT, log, *target(by)):
            sys.exit(f"the tree does not build: see {log.name}")
        if not ctest(STRICT, log, 900, "-R", f"^{by}$"):
            print(f"{by} fails without a change and is left out", flush=True)
            del tests[by]
            return judge(change, tests, trusted, limit, log)
        trusted.add(by)
    return f"noticed by {by}" if by else "SURVIVES"


def numbers(text):
    """Reads numbers and ranges: 3,12,40-50."""
    ranges = [part.split("-") for part in text.split(",")]
    return {number for part in ranges for number in range(int(part[0]), int(part[-1]) + 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31), help="draws the changes; it is printed")
    parser.add_argument("--count", type=int, default=300, help="how many changes")
    parser.add_argument("--limit", type=int, default=300, help="how many seconds of tests for one change")
    parser.add_argument("--only", type=numbers, help="numbers, such as 3,12,40-50: repeats these changes of the seed")
    parser.add_argument("--again", action="store_true", help="uses the builds and the knowledge of the last run")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    OUT.mkdir(parents=True, exist_ok=True)
    counts = {"noticed": 0, "explained": 0, "SURVIVES": 0}
    with (OUT / "log").open("w") as log:
        if not given.again:
            prepare(log)
        tests = json.loads(MAP.read_text())
        kinds = [changes_of(kind) for kind in (COMPARISONS, BOUNDS, ERROR_PATHS)]
        reasons, trusted = explanations(kinds), set()
        for number, change in enumerate(drawn(given.seed, kinds)):
            if sum(counts.values()) == (len(given.only) if given.only else given.count):
                break
            if number not in (given.only or {number}):
                continue
            started = time.monotonic()
            verdict = "explained" if change.key() in reasons else judge(
                change, tests, trusted, given.limit, log)
            if verdict:
                counts[verdict.split()[0]] += 1
                print(f"{number:4} {time.monotonic() - started:4.0f} s  {change.file}:{change.line()}: "
                      f"'{change.original[change.start:change.end].strip()}' -> '{change.replacement.strip()}' in: "
                      f"{change.key().partition(': ')[2][:90]}: {verdict}", flush=True)
    percent = 100 - 100 * counts["SURVIVES"] / sum(counts.values())
    print(f"{counts}: {percent:.1f} % are noticed or explained")
    return int(percent < ENOUGH)


if __name__ == "__main__":
    sys.exit(main())
