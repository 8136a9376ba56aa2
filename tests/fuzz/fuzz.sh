#!/bin/sh
# Usage: sh fuzz.sh BINARY NAME. Fuzzes one target for FUZZ_SECONDS, by default 60. libFuzzer writes an input that fails
# into the working directory.
set -eu
binary=$1 name=$2
here=$(dirname "$0")
case $name in
body | request) max_len=65536 ;;
*) max_len=16384 ;;
esac

# Freed memory counts towards -rss_limit_mb while it is in AddressSanitizer's quarantine, so the quarantine is small.
export ASAN_OPTIONS="${ASAN_OPTIONS:-quarantine_size_mb=32}"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
set -- "$here/corpus/$name"
[ ! -d "$here/regressions/$name" ] || set -- "$@" "$here/regressions/$name"
"$binary" "-dict=$here/$name.dict" "-max_total_time=${FUZZ_SECONDS:-60}" -timeout=5 -rss_limit_mb=1024 \
    "-max_len=$max_len" "-artifact_prefix=$name-" -print_final_stats=1 "$scratch" "$@"
