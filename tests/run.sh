#!/bin/sh
# Builds and runs the tests: the quick ones, or all with --full. A second run reuses the build of the first one. The
# output ends with ctest's summary.
set -eu
cd "$(dirname "$0")/.."
. conf/packages.sh

packages="curl sqlite3 ca-certificates libcmocka-dev python3-pytest openssl strace clang-format systemd jq postgresql
    mandoc"
selection="-LE ^full$"
if [ "${1:-}" = --full ] && [ $# -eq 1 ]; then
    packages="$packages clang clang-tidy cppcheck shellcheck valgrind"
    selection=
elif [ $# -gt 0 ]; then
    echo "usage: sh tests/run.sh [--full]" >&2
    exit 2
fi
# shellcheck disable=SC2086 # lists of words
install_packages $build_packages $packages

# promtool checks metrics and alerts. The package prometheus would also start a server, so this extracts the program
# from it (a download of 19 MB). If the download fails, the tests that need promtool are skipped.
get_promtool() {
    mkdir -p build/promtool
    (cd build/promtool && apt-get download -qq prometheus >/dev/null &&
        dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xf - --strip-components=3 ./usr/bin/promtool) ||
        echo "promtool: download failed; the tests that need it are skipped" >&2
    rm -f build/promtool/prometheus_*.deb
}
if [ ! -x build/promtool/promtool ] && ! command -v promtool >/dev/null && command -v apt-get >/dev/null; then
    get_promtool &
fi

cmake --preset dev >/dev/null
cmake --build --preset dev
wait
# Each processor has three slots; tests/CMakeLists.txt says how many slots a test takes.
# shellcheck disable=SC2086 # no word, or two
exec ctest --test-dir build/dev --output-on-failure --no-tests=error -j $((3 * $(nproc))) $selection
