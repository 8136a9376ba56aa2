#!/bin/sh
# Builds and runs every test. A second run reuses the build of the first one. The output ends with ctest's summary.
set -eu
cd "$(dirname "$0")/.."
. conf/packages.sh

# shellcheck disable=SC2086 # a list of words
install_packages $build_packages curl sqlite3 ca-certificates \
    libcmocka-dev python3-pytest openssl strace valgrind clang clang-format clang-tidy cppcheck \
    shellcheck systemd jq postgresql mandoc faketime

# extract PACKAGE PATH puts one program of the package into build/. The packages prometheus and nginx would also start
# servers. If the download fails, the tests that need the program are skipped.
extract() {
    program=${2##*/}
    [ ! -x "build/$program/$program" ] && ! command -v "$program" >/dev/null && command -v apt-get >/dev/null || return 0
    mkdir -p "build/$program"
    (cd "build/$program" && apt-get download -qq "$1" >/dev/null &&
        dpkg-deb --fsys-tarfile "$1"_*.deb | tar -xf - --transform 's,.*/,,' "$2") ||
        echo "$program: download failed; the tests that need it are skipped" >&2
    rm -f "build/$program/$1"_*.deb
}
extract prometheus ./usr/bin/promtool
extract nginx ./usr/sbin/nginx

cmake --preset dev >/dev/null
cmake --build --preset dev
exec ctest --test-dir build/dev --output-on-failure --no-tests=error -j 2
