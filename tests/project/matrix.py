"""Runs the matrix of compilers, sanitizers and analyzers, each row of which must produce no report.

The output of a row's tools is in build/matrix/ROW.log. False positives are suppressed in the source, in .clang-tidy, in
cppcheck.suppressions, or in ANALYZER_IS_WRONG below. No sanitizer needs a suppression: GnuTLS and libmicrohttpd are not
instrumented, but they lock with pthread mutexes, which ThreadSanitizer observes."""

import argparse
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

PROJECT = pathlib.Path(__file__).resolve().parent
TOP = PROJECT.parents[1]
OUT = TOP / "build" / "matrix"

UNIT = ("-L", "^(unit|oom|fuzz-replay)$")
ALL = ("-L", "^(unit|fault|oom|e2e|fuzz-replay)$", "-E", "^e2e-readme$")  # e2e-readme builds the project itself
THREADED = ("-L", "^(unit|oom|e2e|fuzz-replay)$", "-E", "^e2e-readme$")  # faults occur in forked processes

# False positives of gcc 12's analyzer, by module. The analyzer assumes that error_set() can return 0, that the old
# pointer stays in use after realloc(), and that tsearch() does not keep the key.
ANALYZER_IS_WRONG = {"command": ["-Wno-analyzer-malloc-leak"], "store": ["-Wno-analyzer-null-argument"],
                     "http": ["-Wno-analyzer-malloc-leak"]}

# The minimum percentage of branches that the tests must take, by module. The lines of assertions do not count, because
# no test can make an assertion fail.
COVERED = {"base": 95, "callback": 95, "store": 85, "http": 85, "command": 85, "outbound": 85,
           "forward": 85, "deliver": 80}
ASSERTION = r"\s*assert\("


class LeftOut(Exception):
    """The row cannot run on this machine."""


def needs(program, version=""):
    """Skips the row if the program is missing or is not of the given version, because other versions of an analyzer
    report other faults."""
    if not shutil.which(program):
        raise LeftOut(f"{program} is not installed")
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    if version and not re.search(rf"\b{re.escape(version)}\b", shown):
        raise LeftOut(f"{program} {version} is needed")


def run(log, *command, **environment):
    """Runs a program, whose output goes to the log. Returns 1 if the program fails, otherwise 0."""
    words = [str(word) for word in command]
    log.write(f"$ {shlex.join(words)}\n")
    log.flush()
    return int(subprocess.run(words, cwd=TOP, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                              env=os.environ | environment).returncode != 0)


def reports_of(directory, log):
    """Copies the reports that sanitizers or valgrind left in the directory into the log and returns their number."""
    found = [path for path in sorted(directory.iterdir()) if path.stat().st_size > 0]
    for path in found:
        log.write(path.read_text(errors="replace"))
    return len(found)


def report_directory(name):
    directory = OUT / f"{name}.reports"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    return directory


def without(*markers):
    """Returns the environment in which pytest omits the tests with these markers (see tests/e2e/conftest.py)."""
    return {"PYTEST_ADDOPTS": "-m 'not " + " and not ".join(markers) + "'"}


def build(preset, *options, tests=ALL, **environment):
    """Returns the function of a row that builds the preset, with warnings as errors, and runs the tests. Sanitizers
    write to files, so that no test can swallow a report."""
    def row(name, log):
        directory = report_directory(name)
        to_file = f"log_path={directory}/report:print_stacktrace=1"
        failed = run(log, "sh", PROJECT / "build.sh", f"matrix/{name}", preset, *options, "--", *tests, **environment,
                     ASAN_OPTIONS=f"{to_file}:detect_stack_use_after_return=1:strict_string_checks=1",
                     UBSAN_OPTIONS=to_file, TSAN_OPTIONS=f"{to_file}:second_deadlock_stack=1")
        return reports_of(directory, log) + failed
    return row


def valgrind(name, log):
    """Runs the daemon and its services under valgrind, which detects reads of uninitialized memory, also in the libraries.

    Only definite leaks are reported: SQLite keeps pointers into the middle of its blocks, and valgrind reports such a
    block as "possibly lost".
    """
    needs("valgrind")
    directory = report_directory(name)
    wrapper = ["valgrind", "-q", f"--log-file={directory}/%p", "--leak-check=full", "--show-leak-kinds=definite",
               "--errors-for-leak-kinds=definite", "--error-exitcode=99"]
    failed = run(log, "sh", PROJECT / "build.sh", f"matrix/{name}", "dev")
    failed += run(log, "/usr/bin/python3", "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider",
                  *[f"tests/e2e/test_{test}.py" for test in ("answers", "bodies", "deliver", "framing", "reload", "tls")],
                  **without("timing"), IMCALLBACKD=str(OUT / name / "imcallbackd"),
                  IMCALLBACKD_LOAD=str(OUT / name / "tests" / "imcallbackd-load"),
                  IMCALLBACKD_WRAPPER=shlex.join(wrapper), IMCALLBACKD_SERVICE_WRAPPER=shlex.join(wrapper))
    return reports_of(directory, log) + failed


def compile_commands(log):
    """Runs cmake, and returns the entries of compile_commands.json by source file, all of which exist."""
    if run(log, "cmake", "--preset", "dev", "-B", OUT / "commands") or run(
            log, "cmake", "--build", OUT / "commands", "--target", "generated_sources"):
        raise LeftOut("cmake fails")
    entries = json.loads((OUT / "commands" / "compile_commands.json").read_text())
    return {os.path.relpath(entry["file"], TOP): entry for entry in entries}


def each_source(log, commands):
    """Runs the commands, at most one per processor at a time. Logs those that fail, and returns their number."""
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
            commands.append([*words, "-fanalyzer", *ANALYZER_IS_WRONG.get(source.split("/")[1], [])])
    return each_source(log, commands)


def cppcheck(_, log):
    needs("cppcheck", "2.10")
    compile_commands(log)
    return run(log, "cppcheck", "--quiet", "-j", os.cpu_count(), f"--project={OUT}/commands/compile_commands.json",
               "--enable=warning,performance,portability,style", "--library=posix,gnu,openssl,sqlite3",
               f"--suppressions-list={PROJECT}/cppcheck.suppressions", "--error-exitcode=1")


def shellcheck(_, log):
    needs("shellcheck")
    scripts = [path for folder in ("conf", "tests") for path in sorted((TOP / folder).rglob("*.sh"))]
    return run(log, "shellcheck", "--shell=sh", "--severity=warning", "--external-sources", *scripts)


def coverage(name, log):
    """Measures branch coverage by module. The log lists the lines with a branch that no test takes."""
    needs("gcovr")
    directory, report = OUT / name, OUT / "coverage.json"
    for counters in directory.rglob("*.gcda"):
        counters.unlink()
    failed = run(log, "sh", PROJECT / "build.sh", f"matrix/{name}", "coverage", "--", *ALL,
                 **without("without_coverage"))
    failed += run(log, "gcovr", "--root", TOP, "--filter", "src/", "--object-directory", directory, directory,
                  "--exclude-lines-by-pattern", ASSERTION, "--json", report)
    for module, percent in COVERED.items():
        failed += run(log, "gcovr", "--root", TOP, "--add-tracefile", report, "--filter", f"src/{module}/",
                      "--branches", "--fail-under-branch", percent)
    return failed


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
    "gcc-asan": build("asan", **without("timing")),
    "clang-asan": build("asan", CLANG, **without("timing")),
    "gcc-tsan": build("tsan", tests=THREADED, **without("timing", "thread_count")),
    "clang-tsan": build("tsan", CLANG, tests=THREADED, **without("timing", "thread_count")),
    "valgrind": valgrind,
    "coverage": coverage,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"which rows; without a name all of {', '.join(ROWS)}")
    failed = 0
    OUT.mkdir(parents=True, exist_ok=True)
    for name in parser.parse_args().rows or ROWS:
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
    sys.exit(main())
