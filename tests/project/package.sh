#!/bin/sh
# Boots a minimal Debian with systemd in namespaces and runs package-inside.sh there, which tests the installed package.
# Requires root, debootstrap, and cgroup2 on the host. SUITE=trixie selects a release other than Debian 12; PACKAGE=FILE
# then names the package that was built for that release. TREE=DIR copies a tree that `debootstrap --variant=minbase`
# made, instead of making one.
set -eu
cd "$(dirname "$0")/../.."
. tests/project/debian-tree.sh

[ "$(id -u)" -eq 0 ] && command -v debootstrap >/dev/null || {
    echo "package.sh: root and debootstrap are required" >&2
    exit 77
}
cgroups=$(findmnt -n -o TARGET -t cgroup2 | head -n 1)
[ -n "$cgroups" ] || { echo "package.sh: cgroup2 is required" >&2; exit 77; }

work=$(mktemp -d)
tree=$work/tree
cgroup=$cgroups/imcallbackd-package-$$
machine=
finish() {
    [ -z "$machine" ] || { kill -KILL "$machine" && wait "$machine" || true; }
    # A cgroup can be removed only when the killed processes are gone.
    while [ -d "$cgroup" ] && ! find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null; do
        sleep 1
    done
    rm -rf --one-file-system "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

if [ -z "${PACKAGE:-}" ]; then
    cmake --preset release -B build/package >/dev/null
    cmake --build build/package
    (cd build/package && rm -f ./*.deb && cpack >/dev/null)
    PACKAGE=$(echo build/package/*.deb)
fi

if [ -n "${TREE:-}" ]; then
    cp -a "$TREE" "$tree"
else
    tree_make "${SUITE:-bookworm}" "$tree"
fi
mkdir "$tree/test"
# Without PACKAGE, the first release is built, too, if the history has it.
first_release=8f4432aa9b20d7fbf4dc52295c5a118e79bd0fd1
if [ "$PACKAGE" = "$(echo build/package/*.deb)" ] && git cat-file -e "$first_release^{commit}" 2>/dev/null; then
    mkdir "$work/first-release"
    git archive "$first_release" | tar -x -C "$work/first-release"
    (cd "$work/first-release" && cmake --preset release >/dev/null && cmake --build --preset release)
    (cd "$work/first-release/build/release" && cpack >/dev/null)
    cp "$work"/first-release/build/release/*.deb "$tree/test/first-release.deb"
fi
cp tests/project/package-inside.sh tests/samples/documented.json "${IMCALLBACKD_LOAD:?}" "$tree/test/"
cp "$PACKAGE" "$tree/test/first.deb"
# The next version differs only in its number.
dpkg-deb -R "$PACKAGE" "$work/next"
sed -i 's/^Version: .*/&.1/' "$work/next/DEBIAN/control"
dpkg-deb -b "$work/next" "$tree/test/next.deb" >/dev/null

# All packages that the tests need are installed now, because the booted system has no network.
tree_install "$tree" dbus curl sqlite3 /test/first.deb

mkdir "$cgroup"
cat >"$work/boot" <<'BOOT'
set -eu
. tests/project/debian-tree.sh
mount --make-rprivate /
mount --bind "$1" "$1"
tree_mount "$1"
mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
cd "$1"
mkdir -p old
pivot_root . old
umount -l old
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
BOOT
sh -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' sh "$cgroup" \
    unshare --pid --mount --cgroup --net --uts --ipc --fork --kill-child sh "$work/boot" "$tree" &
machine=$!
deadline=$(($(date +%s) + 60))
until init=$(pgrep -P "$machine" systemd); do
    [ "$(date +%s)" -lt "$deadline" ] || { echo "package.sh: systemd does not start" >&2; exit 1; }
done
nsenter -t "$init" -p -m -n -u -i -C -r -w -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -eu /test/package-inside.sh
