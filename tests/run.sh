#!/bin/sh
# Installs what the tests need, builds the preset dev and runs every test that does not need a special label. The last
# lines are ctest's summary.
set -eu
cd "$(dirname "$0")/.."
. conf/packages.sh

# shellcheck disable=SC2086 # a list of words
install_packages $build_packages curl sqlite3 ca-certificates \
    libcmocka-dev python3-pytest openssl strace valgrind clang clang-format clang-tidy cppcheck \
    shellcheck systemd jq postgresql mandoc

# promtool checks metrics and alerts. Its package would start a server, so only the program is extracted from the
# package (19 MB). Without it, the tests that need promtool are skipped.
promtool=build/promtool/promtool
if [ ! -x $promtool ] && ! command -v promtool >/dev/null && command -v apt-get >/dev/null; then
    mkdir -p build/promtool
    (cd build/promtool && apt-get download -qq prometheus >/dev/null &&
        dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xf - --strip-components=3 ./usr/bin/promtool) ||
        echo "run.sh: promtool cannot be downloaded; the tests that need it are skipped" >&2
    rm -f build/promtool/prometheus_*.deb
fi

cmake --preset dev >/dev/null
cmake --build --preset dev
exec ctest --test-dir build/dev --output-on-failure --no-tests=error -j 2
