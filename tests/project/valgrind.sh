#!/bin/sh
# Stands in for the daemon: runs VALGRIND_PROGRAM under valgrind, which writes what it finds into VALGRIND_REPORTS.
# "Possibly lost" is what SQLite points into the middle of.
exec valgrind -q --log-file="$VALGRIND_REPORTS/%p" --leak-check=full --show-leak-kinds=definite \
    --errors-for-leak-kinds=definite --error-exitcode=99 "$VALGRIND_PROGRAM" "$@"
