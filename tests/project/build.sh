#!/bin/sh
# build.sh NAME PRESET [OPTION...] [-- CTEST-ARGUMENT...]
# Builds the preset with further cmake options in build/NAME. With `--`, runs the tests that the arguments select.
set -eu
cd "$(dirname "$0")/../.."
directory=build/$1
preset=$2
shift 2
options=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    options="$options $1"
    shift
done

# shellcheck disable=SC2086 # a list of words
cmake --preset "$preset" -B "$directory" $options >/dev/null
cmake --build "$directory"
[ $# -eq 0 ] || { shift && exec ctest --test-dir "$directory" --output-on-failure --no-tests=error "$@"; }
