#!/bin/sh
# Installs and builds what bench.py needs, and runs it: `sh tests/bench/bench.sh --help`.
set -eu
cd "$(dirname "$0")/../.."
. conf/packages.sh

# shellcheck disable=SC2086 # a list of words
install_packages $build_packages libcmocka-dev python3-pytest valgrind openssl strace linux-perf golang-go \
    golang-github-mattn-go-sqlite3-dev python3-fastapi uvicorn python3-uvloop python3-httptools nghttp2-client

# The package nginx would start a server on port 80, so only the program is extracted from it. The module echo lets nginx
# answer after a delay.
extract() {
    [ -e "build/bench/${2##*/}" ] && return
    mkdir -p build/bench
    (cd build/bench && apt-get download -qq "$1" >/dev/null &&
        dpkg-deb --fsys-tarfile "$1"_*.deb | tar -xf - --transform 's,.*/,,' "$2")
    rm -f build/bench/"$1"_*.deb
}
extract nginx ./usr/sbin/nginx
extract libnginx-mod-http-echo ./usr/lib/nginx/modules/ngx_http_echo_module.so

cmake --preset release >/dev/null
cmake --build --preset release
cmake --preset dev >/dev/null
cmake --build --preset dev --target imcallbackd-load imcallbackd-bench-writer
GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE=$PWD/build/bench/go-cache GOFLAGS=-buildvcs=false \
    go build -tags libsqlite3 -o build/bench/receiver-go tests/bench/receiver.go

exec /usr/bin/python3 -B tests/bench/bench.py "$@"
