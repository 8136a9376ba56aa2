#!/bin/sh
# Runs every test. What is there from an earlier run is used again; ctest's own closing lines come last.
set -eu
cd "$(dirname "$0")/.."
. conf/packages.sh

# shellcheck disable=SC2086 # a list of words
install_packages $build_packages curl sqlite3 ca-certificates \
    libcmocka-dev python3-pytest openssl strace valgrind clang clang-format systemd

cmake --preset dev >/dev/null
cmake --build --preset dev
exec ctest --test-dir build/dev --output-on-failure --no-tests=error
