#!/bin/sh
# Installs and builds what bench.py needs, and runs it: `sh tests/bench/bench.sh --help`.
set -eu
cd "$(dirname "$0")/../.."
. conf/packages.sh

# shellcheck disable=SC2086 # a list of words
install_packages $build_packages libcmocka-dev python3-pytest valgrind openssl strace linux-perf golang-go \
    golang-github-mattn-go-sqlite3-dev python3-fastapi uvicorn python3-uvloop python3-httptools nghttp2-client \
    postgresql

extract_program nginx nginx build/bench
extract_program haproxy haproxy build/bench
extract_program h2o h2o build/bench
# The package redis-server contains only a link to this program, which is the server if its name says so.
extract_program redis-tools redis-check-rdb build/bench
ln -sf redis-check-rdb build/bench/redis-server
# nginx needs this module to answer after a delay.
if ! [ -e build/bench/ngx_http_echo_module.so ]; then
    (cd build/bench && apt-get download -qq libnginx-mod-http-echo >/dev/null &&
        dpkg-deb --fsys-tarfile libnginx-mod-http-echo_*.deb |
        tar -xf - --transform 's,.*/,,' ./usr/lib/nginx/modules/ngx_http_echo_module.so)
    rm -f build/bench/libnginx-mod-http-echo_*.deb
fi

cmake --preset release >/dev/null
cmake --build --preset release
cmake --preset dev >/dev/null
cmake --build --preset dev --target imcallbackd-load imcallbackd-bench-writer imcallbackd-bench-rivals
GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE=$PWD/build/bench/go-cache GOFLAGS=-buildvcs=false \
    go build -tags libsqlite3 -o build/bench/receiver-go tests/bench/receiver.go

exec /usr/bin/python3 -B tests/bench/bench.py "$@"
