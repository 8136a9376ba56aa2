#!/bin/sh
# Builds and runs every test. A second run reuses the build of the first one. The output ends with ctest's summary.
set -eu
cd "$(dirname "$0")/.."
. conf/packages.sh

# shellcheck disable=SC2086 # a list of words
install_packages $build_packages curl sqlite3 ca-certificates \
    libcmocka-dev python3-pytest openssl strace valgrind clang clang-format clang-tidy cppcheck \
    shellcheck systemd jq postgresql mandoc

# promtool checks metrics and alerts. The package prometheus would also start a server, so this script extracts only the
# program from the package (a download of 19 MB). If the download fails, the tests that need promtool are skipped.
promtool=build/promtool/promtool
if [ ! -x $promtool ] && ! command -v promtool >/dev/null && command -v apt-get >/dev/null; then
    mkdir -p build/promtool
    (cd build/promtool && apt-get download -qq prometheus >/dev/null &&
        dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xf - --strip-components=3 ./usr/bin/promtool) ||
        echo "promtool: download failed; the tests that need it are skipped" >&2
    rm -f build/promtool/prometheus_*.deb
fi

cmake --preset dev >/dev/null
cmake --build --preset dev
exec ctest --test-dir build/dev --output-on-failure --no-tests=error -j 2
