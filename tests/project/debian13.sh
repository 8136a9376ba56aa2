#!/bin/sh
# Builds the project on Debian 13 in a chroot and runs tests there, above all the end-to-end tests, because Debian 13
# has libmicrohttpd 1.0. The installed system stays in build/debian13-tree for the next run. Requires root and
# debootstrap. With the argument --build, only builds. Other arguments are passed to ctest instead of
# the usual selection of tests.
set -eu
cd "$(dirname "$0")/../.."
. conf/packages.sh
. tests/project/debian-tree.sh

skip() {
    echo "debian13.sh: $*" >&2
    exit 77
}
[ "$(id -u)" -eq 0 ] || skip "root is required"
command -v debootstrap >/dev/null || skip "debootstrap is required"
unshare --mount --pid --net --fork true 2>/dev/null || skip "namespaces cannot be created here"

# shellcheck disable=SC2154 # from conf/packages.sh
packages="$build_packages curl sqlite3 libcmocka-dev python3-pytest openssl strace jq postgresql iproute2
    patroni python3-etcd etcd-server pgbouncer haproxy faketime"
tree=$PWD/build/debian13-tree
if [ "$(cat "$tree.packages" 2>/dev/null)" != "$packages" ]; then
    mkdir -p build
    rm -rf --one-file-system "$tree" "$tree.packages"
    tree_make trixie "$tree"
    # shellcheck disable=SC2086 # a list of words
    tree_install "$tree" $packages
    echo "$packages" >"$tree.packages"
fi
mkdir -p "$tree/src"

# Tests that hardly depend on Debian's release and take long are left out: those with the label `fault`, most of those
# with `oom`, and some end-to-end tests. The test with the label debian13 runs them.
if [ "${1:-}" = --build ]; then
    shift
elif [ $# -gt 0 ]; then
    set -- -- "$@"
else
    set -- -- -j $((3 * $(nproc))) \
        -R '^(base|callback|command|deliver|forward|http|outbound|status|store|fuzz-replay|e2e)-|^oom-http$' \
        -E '^(base-log_.*|store-retention|e2e-(backup|check|commands|deliver_(re.*|state|trouble)|export|forward_trouble|log))$'
fi
exec unshare --mount --pid --net --fork --kill-child sh -euc '
    . tests/project/debian-tree.sh
    tree=$1
    shift
    mount --make-rprivate /
    tree_mount "$tree"
    mount --bind . "$tree/src"
    chroot "$tree" ip link set lo up
    # The selected tests do not run valgrind, so a mere name satisfies CMake. They need no debugging information.
    # `|| exit` keeps the shell as the first process, which chroot would replace otherwise. The shell reaps orphans, for
    # whose end Patroni waits; ctest would not.
    chroot "$tree" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
        sh /src/tests/project/build.sh debian13 dev -DVALGRIND=valgrind -DCMAKE_C_FLAGS_RELWITHDEBINFO=-O2 "$@" || exit' \
    sh "$tree" "$@"
