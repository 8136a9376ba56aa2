#!/bin/sh
# Builds and runs every test. A second run reuses the build of the first one. The output ends with ctest's summary.
set -eu
cd "$(dirname "$0")/.."
. conf/packages.sh

# shellcheck disable=SC2086 # a list of words
install_packages $build_packages curl sqlite3 ca-certificates \
    libcmocka-dev python3-pytest openssl strace valgrind clang clang-format clang-tidy cppcheck \
    shellcheck systemd jq postgresql mandoc debootstrap

# promtool checks metrics and alerts, and the other programs run with the files of conf/proxy. If a download fails (19 MB
# for promtool, 12 MB for the others), the tests that need the program are skipped.
for program in promtool nginx haproxy caddy; do
    package=$program directory=build/proxies
    [ $program = promtool ] && package=prometheus directory=build/promtool
    command -v $program >/dev/null || [ -x /usr/sbin/$program ] || extract_program $package $program $directory ||
        echo "$program: download failed; the tests that need it are skipped" >&2
done

cmake --preset dev >/dev/null
cmake --build --preset dev
exec ctest --test-dir build/dev --output-on-failure --no-tests=error -j 2
