"""Changes single places of the source. The tests must detect 90 % of the changes.

A change alters one comparison, bound or error path of the modules base, callback and store in a copy of the tree. The
tests run from the quick ones, built with AddressSanitizer, to the slow ones until one fails or hangs. A change that
does not compile is replaced by another one. The exit status is 1 if the tests detect less than 90 %."""

import argparse
import contextlib
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
STRICT, FAST = OUT / "asan", OUT / "dev"  # the builds: one for the quick tests, one for the slow
MODULES = ("base", "callback", "store")
ENOUGH = 90  # percent

# Patterns and their replacements. The patterns apply to the result of code_of(), and rely on the blanks that
# clang-format puts around each binary operator.
COMPARISONS = [(r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "), (r" == ", " != "),
               (r" != ", " == "), (r" && ", " || "), (r" \|\| ", " && "), (r"(?<=if \()!", "")]
BOUNDS = [(r" \+ 1\b", ""), (r" - 1\b", ""), (r"(?<=[<>=!]= |.[<>] )\d+\b", lambda found: str(int(found[0]) + 1))]
ERROR_PATHS = [(r"return -E[A-Z]+;", "return 0;"), (r"return r;", "return 0;"), (r"return false;", "return true;"),
               (r"return true;", "return false;"), (r"goto \w+;", ";"), (r"if \((?=(?:r|code|length|fd)\b[^|&]*\)$)",
               "if (0 && "), (r"return code;", "return SQLITE_OK;")]

CTEST = ["ctest", "-j", str(os.cpu_count() + 1), "--stop-on-failure", "--output-on-failure"]
# Each change is tested with the unit tests of its module except the LENGTHY ones, then with the QUICK tests of all
# modules, and then with the SLOW tests of its module.
LENGTHY = r"^(base-log.*|store-retention)$"
QUICK = r"^(fuzz-replay-.*|oom-(base|callback|command)|e2e-(admin|answers|bodies|check|commands|framing|lifecycle|" \
        r"monitoring|manual_data|reload|samples|shortage))$"
SLOW = {"base": r"^(base-log.*|e2e-(gone|limits|log|memory|restart|tls))$", "callback": r"^e2e-(limits|memory|tls)$",
        "store": r"^(oom-store|store-retention|fault-.*|e2e-(backup|export|forward|kill|kill_points|restart))$"}


def code_of(text):
    """Replaces comments, literals, directives and assertions with as many tildes, so that positions stay valid."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'|^#(?:\\\n|[^\n])*|' \
              r"\b(?:_Static_)?assert\([^;]*;"
    return re.sub(pattern, lambda found: re.sub(r"[^\n]", "~", found[0]), text, flags=re.S | re.M)


def sources():
    return sorted(path.relative_to(TREE) for module in MODULES for path in (TREE / "src" / module).glob("*.c"))


def changes_of(kind):
    """Returns every possible change of a kind: [(file, start, end, replacement)]."""
    changes = []
    for file in sources():
        code = code_of((TREE / file).read_text())
        for pattern, replacement in kind:
            for found in re.finditer(pattern, code, flags=re.M):
                changes.append((file, *found.span(), replacement(found) if callable(replacement) else replacement))
    return changes


def drawn(seed):
    """Yields all changes in an order that the seed determines; the kinds alternate."""
    generator = random.Random(seed)
    kinds = [changes_of(kind) for kind in (COMPARISONS, BOUNDS, ERROR_PATHS)]
    for kind in kinds:
        generator.shuffle(kind)
    while any(kinds):
        yield from [kind.pop() for kind in kinds if kind]


def run(words, log, deadline):
    """Runs a program. Returns whether it succeeds in `deadline` seconds. Kills what is left of its process group."""
    with subprocess.Popen([str(word) for word in words], cwd=TREE, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                          start_new_session=True) as process:
        try:
            return process.wait(deadline) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def compiles(build, log, *targets):
    return run(["ninja", "-C", build, *targets], log, 600)


def passes(files, log):
    """Builds and runs the tests that exercise one of the files, until one fails or hangs. Returns whether all pass."""
    modules = {file.parts[1] for file in files}
    unit = {f"{module}-{path.stem.removeprefix('test_')}" for module in modules
            for path in (TREE / "tests" / "unit" / module).glob("test_*.c")}
    unit = {test for test in unit if not re.match(LENGTHY, test)}
    slow = {SLOW[module] for module in modules}
    stages = [(STRICT, unit, f"^({'|'.join(unit)})$", 120), (STRICT, (), QUICK, 600),
              (FAST, (), "|".join(sorted(slow)), 1200)]
    return all(compiles(build, log, *targets) and run([*CTEST, "--test-dir", build, "-R", which], log, deadline)
               for build, targets, which, deadline in stages)


def prepare(log):
    """Copies the files that git tracks, builds them and requires that the tests pass without a change."""
    shutil.rmtree(TREE, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        (TREE / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / name, TREE / name)  # gets a new time, so ninja rebuilds everything
    for preset, build in (("asan", STRICT), ("dev", FAST)):
        if not run(["cmake", "--preset", preset, "-DIMCALLBACKD_WERROR=OFF", "-B", build], log, 600):
            sys.exit(f"the tree does not build: see {log.name}")
    if not passes(sources(), log):
        sys.exit(f"the tests fail without a change: see {log.name}")


def judge(number, change, log):
    """Makes one change and undoes it. Returns whether a test detected the change, or None if the changed source does
    not compile."""
    file, start, end, replacement = change
    original = (TREE / file).read_text()
    started = time.monotonic()
    try:
        (TREE / file).write_text(original[:start] + replacement + original[end:])
        if not compiles(STRICT, log, f"imcallbackd_{file.parts[1]}"):
            return None
        noticed = not passes([file], log)
    finally:
        (TREE / file).write_text(original)
    line, word = original.count("\n", 0, start), "noticed" if noticed else "SURVIVES"
    print(f"{number:4} {word:8} {time.monotonic() - started:4.0f} s  {file}:{line + 1}: "
          f"'{original[start:end].strip()}' -> '{replacement.strip()}' in: {original.splitlines()[line].strip()[:90]}",
          flush=True)
    return noticed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31), help="draws the changes; it is printed")
    parser.add_argument("--count", type=int, default=200, help="how many changes")
    parser.add_argument("--only", type=lambda text: {int(number) for number in text.split(",")},
                        help="numbers with commas between: repeats these changes of the seed")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    OUT.mkdir(parents=True, exist_ok=True)
    verdicts = []
    with (OUT / "log").open("w") as log:
        prepare(log)
        for number, change in enumerate(drawn(given.seed)):
            verdict = judge(number, change, log) if number in (given.only or {number}) else None
            verdicts += [] if verdict is None else [verdict]
            if len(verdicts) == (len(given.only) if given.only else given.count):
                break
    percent = 100 * sum(verdicts) / len(verdicts)
    print(f"{sum(verdicts)} of {len(verdicts)} noticed: {percent:.1f} %")
    return int(percent < ENOUGH)


if __name__ == "__main__":
    sys.exit(main())
