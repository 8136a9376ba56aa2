#!/bin/sh
# Installs the missing packages, then builds and runs the tests: the quick ones or, with --full, also those that take
# long. A second run reuses the build of the first one. The output ends with ctest's summary.
set -eu
cd "$(dirname "$0")/.."
. conf/packages.sh

packages="curl sqlite3 ca-certificates libcmocka-dev python3-pytest python3-yaml openssl strace clang-format systemd jq
    postgresql mandoc faketime"
selection="-LE ^full$"
cluster=''
if [ "${1:-}" = --full ] && [ $# -eq 1 ]; then
    # The service of Debian's patroni does not start as long as its configuration file is missing.
    packages="$packages clang clang-tidy cppcheck shellcheck valgrind debootstrap patroni spin"
    # Ubuntu has chromium only as a snap. There the tests in a browser are skipped.
    grep -qx ID=debian /etc/os-release && packages="$packages chromium chromium-driver python3-selenium fonts-dejavu-core"
    selection=''
    cluster="etcd pgbouncer"
elif [ $# -gt 0 ]; then
    echo "usage: sh tests/run.sh [--full]" >&2
    exit 2
fi
# shellcheck disable=SC2086 # lists of words
install_packages $build_packages $packages

# promtool checks metrics and alerts; nginx, haproxy and caddy run with the files of conf/proxy; forward ships through
# pgbouncer and to a cluster that needs etcd. If a download fails (19 MB for promtool, 12 MB for the proxies), the tests
# that need the program are skipped.
get_programs() {
    for program in promtool nginx haproxy caddy $cluster; do
        package=$program directory=build/programs
        case $program in
        promtool) package=prometheus directory=build/promtool ;;
        etcd) package=etcd-server ;;
        esac
        command -v $program >/dev/null || [ -x /usr/sbin/$program ] || extract_program $package $program $directory ||
            echo "$program: download failed; the tests that need it are skipped" >&2
    done
}
get_programs &

cmake --preset dev >/dev/null
cmake --build --preset dev
wait
# Each processor has three slots; tests/CMakeLists.txt says how many slots a test takes.
# shellcheck disable=SC2086 # no word, or two
exec ctest --test-dir build/dev --output-on-failure --no-tests=error -j $((3 * $(nproc))) $selection
