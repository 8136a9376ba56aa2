"""The matrix of compilers, sanitizers and analyzers. Each row must bring 0 reports.

    python3 tests/project/matrix.py              every row: a long while
    python3 tests/project/matrix.py tidy tsan    these rows

One line a row; what its tools said lies in build/matrix/ROW.log. Exit status 1 when a row has a report. ctest knows it
all as the label `matrix` (ctest --test-dir build/dev -C matrix -L matrix), and the short rows, in every run, as
project-static.

A row that finds more than there is to find says so in the place nearest to it: .clang-tidy, cppcheck.suppressions,
ANALYZER_IS_WRONG below. No sanitizer needs a suppression: TSan sees GnuTLS and libmicrohttpd without instrumentation,
but what they lock they lock with pthread mutexes, which it does see.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time

import coverage_report

PROJECT = pathlib.Path(__file__).resolve().parent
TOP = PROJECT.parents[1]
OUT = TOP / "build" / "matrix"

UNIT = ("-L", "^(unit|oom|fuzz-replay)$")
ALL = ("-L", "^(unit|fault|oom|e2e|fuzz-replay)$", "-E", "^e2e-readme$")  # what README shows is a build of its own
THREADED = ("-L", "^(unit|oom|e2e|fuzz-replay)$", "-E", "^e2e-readme$")  # the faults strike in forked processes
# Another user, or a limit on files, keeps the counters from being written, and the program says so.
CANNOT_COUNT = ("group_member_reads", "None-limited", "cannot_be_made_durable")
# These measure time, of which the tools take their share.
SLOW = ("crowds_that_send_at_the_same_instant", "delayed_acknowledgement")
# This counts threads, of which TSan has one of its own.
THREADS = ("thread_that_cannot_be_started",)

# What gcc 12's analyzer takes for a fault. It does not know that error_set() never returns 0, nor that a pointer which
# grew by realloc() replaces the old one.
ANALYZER_IS_WRONG = {
    "src/command/config.c": ["-Wno-analyzer-malloc-leak"],
    "src/command/config_read.c": ["-Wno-analyzer-malloc-leak"],
    "src/store/database.c": ["-Wno-analyzer-null-argument"],
}


class LeftOut(Exception):
    """The row cannot be run here."""


def needs(program, version):
    """Other versions of an analyzer find other things."""
    if not shutil.which(program):
        raise LeftOut(f"{program} is not installed")
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    if not re.search(rf"\b{re.escape(version)}\b", shown):
        raise LeftOut(f"{program} {version} is needed")


def run(log, *command, **environment):
    """Runs a program into the log; 1 when it fails."""
    words = [str(word) for word in command]
    log.write(f"$ {shlex.join(words)}\n")
    log.flush()
    return int(subprocess.run(words, cwd=TOP, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                              env=os.environ | environment).returncode != 0)


def reports_of(directory, log):
    """How many reports sanitizers or valgrind have left there; their text goes into the log."""
    found = [path for path in sorted(directory.iterdir()) if path.stat().st_size > 0]
    for path in found:
        log.write(path.read_text(errors="replace"))
    return len(found)


def report_directory(name):
    directory = OUT / f"{name}.reports"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    return directory


def without(*tests):
    """The environment in which pytest leaves these out."""
    return {"PYTEST_ADDOPTS": "-k 'not " + " and not ".join(tests) + "'"}


def build(preset, *options, tests=ALL, **environment):
    """A build with its tests, without warnings. Sanitizers write into files, so that no test can swallow a report."""
    def row(name, log):
        directory = report_directory(name)
        to_file = f"log_path={directory}/report:print_stacktrace=1"
        failed = run(log, "sh", PROJECT / "build.sh", f"matrix/{name}", preset, *options, "--", *tests, **environment,
                     ASAN_OPTIONS=f"{to_file}:detect_stack_use_after_return=1:strict_string_checks=1",
                     UBSAN_OPTIONS=to_file, TSAN_OPTIONS=f"{to_file}:second_deadlock_stack=1")
        return reports_of(directory, log) + failed
    return row


def valgrind(name, log):
    """The daemon under valgrind, which sees reads of memory that was never written, in the libraries too."""
    directory = report_directory(name)
    failed = run(log, "sh", PROJECT / "build.sh", f"matrix/{name}", "dev")
    failed += run(log, "/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider",
                  "-k", "not delayed_acknowledgement",  # measures time
                  *[f"tests/e2e/test_{test}.py" for test in ("answers", "bodies", "framing", "reload", "tls")],
                  IMCALLBACKD=str(PROJECT / "valgrind.sh"), PYTHONDONTWRITEBYTECODE="1",
                  IMCALLBACKD_LOAD=str(OUT / name / "tests" / "imcallbackd-load"),
                  VALGRIND_PROGRAM=str(OUT / name / "imcallbackd"), VALGRIND_REPORTS=str(directory))
    return reports_of(directory, log) + failed


def compile_commands(log):
    """What is compiled and how, one entry a source."""
    if run(log, "cmake", "--preset", "dev", "-B", OUT / "commands"):
        raise LeftOut("cmake fails")
    entries = json.loads((OUT / "commands" / "compile_commands.json").read_text())
    return {os.path.relpath(entry["file"], TOP): entry for entry in entries}


def each_source(log, commands):
    """Runs a command for each source, as many at a time as there are processors."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        done = list(pool.map(lambda words: subprocess.run(words, cwd=TOP, capture_output=True, text=True), commands))
    for one in done:
        if one.returncode != 0:
            log.write(one.stdout + one.stderr)
    return sum(one.returncode != 0 for one in done)


def tidy(_, log):
    needs("clang-tidy", "14.0.6")
    return each_source(log, [["clang-tidy", "--quiet", "-p", OUT / "commands", source]
                             for source in compile_commands(log)])


def analyzer(_, log):
    needs("gcc", "12.2.0")
    commands = []
    for source, entry in compile_commands(log).items():
        if source.startswith("src/"):
            words = shlex.split(entry["command"])
            words[words.index("-o") + 1] = "/dev/null"
            commands.append([*words, "-fanalyzer", *ANALYZER_IS_WRONG.get(source, [])])
    return each_source(log, commands)


def cppcheck(_, log):
    needs("cppcheck", "2.10")
    compile_commands(log)
    return run(log, "cppcheck", "--quiet", "-j", os.cpu_count(), f"--project={OUT}/commands/compile_commands.json",
               "--enable=warning,performance,portability,style", "--library=posix,gnu,openssl,sqlite3",
               f"--suppressions-list={PROJECT}/cppcheck.suppressions", "--error-exitcode=1")


def shellcheck(_, log):
    if not shutil.which("shellcheck"):
        raise LeftOut("shellcheck is not installed")
    scripts = [path for folder in ("conf", "tests") for path in sorted((TOP / folder).rglob("*.sh"))]
    return run(log, "shellcheck", "--shell=sh", "--severity=warning", "--external-sources", *scripts)


def coverage(name, log):
    if not shutil.which("gcovr"):
        raise LeftOut("gcovr is not installed")
    directory = OUT / name
    for counters in directory.rglob("*.gcda"):
        counters.unlink()
    failed = run(log, "sh", PROJECT / "build.sh", f"matrix/{name}", "coverage", "--", *ALL, **without(*CANNOT_COUNT))
    report = OUT / "coverage.json"
    failed += run(log, "gcovr", "--root", TOP, "--filter", "src/", "--object-directory", directory, directory,
                  "--exclude-lines-by-pattern", coverage_report.ASSERT, "--json", report)
    return failed + coverage_report.judge(json.loads(report.read_text()), TOP, log)


CLANG = "-DCMAKE_C_COMPILER=clang"
UNOPTIMIZED, MOST_OPTIMIZED = "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_BUILD_TYPE=Release"  # -O0, -O3
FORTIFY = "-DCMAKE_C_FLAGS=-Wp,-U_FORTIFY_SOURCE,-D_FORTIFY_SOURCE=3"
LINK_TIME = "-DCMAKE_INTERPROCEDURAL_OPTIMIZATION=ON"

ROWS = {
    "shellcheck": shellcheck,
    "cppcheck": cppcheck,
    "analyzer": analyzer,
    "tidy": tidy,
    "gcc-O0": build("dev", UNOPTIMIZED, tests=UNIT),
    "gcc-O3": build("dev", MOST_OPTIMIZED, tests=UNIT),
    "gcc-fortify": build("dev", FORTIFY),
    "gcc-release": build("dev", LINK_TIME, tests=UNIT),
    "clang-O0": build("dev", CLANG, UNOPTIMIZED, tests=UNIT),
    "clang-O3": build("dev", CLANG, MOST_OPTIMIZED, tests=UNIT),
    "clang-fortify": build("dev", CLANG, FORTIFY, tests=UNIT),
    "gcc-asan": build("asan", **without(*SLOW)),
    "clang-asan": build("asan", CLANG, **without(*SLOW)),
    "gcc-tsan": build("tsan", tests=THREADED, **without(*SLOW, *THREADS)),
    "clang-tsan": build("tsan", CLANG, tests=THREADED, **without(*SLOW, *THREADS)),
    "valgrind": valgrind,
    "coverage": coverage,
}


def main(names):
    failed = 0
    OUT.mkdir(parents=True, exist_ok=True)
    for name in names or ROWS:
        begin = time.monotonic()
        path = OUT / f"{name}.log"
        with path.open("w+", errors="replace") as log:
            try:
                reports = ROWS[name](name, log)
                verdict = f"{reports} reports"
            except LeftOut as why:
                reports, verdict = 0, f"left out: {why}"
        failed += reports > 0
        print(f"{name:14} {verdict:16} {time.monotonic() - begin:4.0f} s{f'  {path}' if reports else ''}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
