#!/bin/sh
# build.sh NAME PRESET [OPTION...] [-- CTEST-ARGUMENT...]
# Builds the preset with further cmake options in build/NAME. With options --target=NAME, builds only these targets.
# With `--`, runs the tests that the arguments select.
set -eu
cd "$(dirname "$0")/../.."
directory=build/$1
preset=$2
shift 2
options=
targets=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in
    --target=*) targets="$targets $1" ;;
    *) options="$options $1" ;;
    esac
    shift
done

# shellcheck disable=SC2086 # lists of words
cmake --preset "$preset" -B "$directory" $options >/dev/null
# shellcheck disable=SC2086
cmake --build "$directory" $targets
[ $# -eq 0 ] || { shift && exec ctest --test-dir "$directory" --output-on-failure --no-tests=error "$@"; }
