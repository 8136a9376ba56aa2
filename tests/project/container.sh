#!/bin/sh
# Builds the image of conf/container with buildah, and runs it with podman and crun in a network namespace of its own.
# The base is a Debian 13 that debootstrap installs, in place of the registry's image. Requires root, buildah, podman,
# crun, debootstrap and ip. TREE=DIR uses a tree that already has the build packages. Prints the figures of the image.
set -eu
cd "$(dirname "$0")/../.."
. conf/packages.sh
. tests/project/debian-tree.sh

skip() {
    echo "container.sh: $*" >&2
    exit 77
}
[ "$(id -u)" -eq 0 ] || skip "root is required"
for program in buildah podman crun debootstrap ip; do
    command -v $program >/dev/null || skip "$program is required"
done
unshare --mount --pid --net --fork true 2>/dev/null || skip "namespaces cannot be created here"

tree=${TREE:-$PWD/build/container-tree}
# shellcheck disable=SC2154 # from conf/packages.sh
packages="$build_packages ca-certificates"
if [ -z "${TREE:-}" ] && [ "$(cat "$tree.packages" 2>/dev/null)" != "$packages" ]; then
    mkdir -p build
    rm -rf --one-file-system "$tree" "$tree.packages"
    tree_make trixie "$tree"
    # shellcheck disable=SC2086 # a list of words
    tree_install "$tree" $packages
    echo "$packages" >"$tree.packages"
fi

work=$(mktemp -d)
finish() {
    rm -rf --one-file-system "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM
cat >"$work/storage.conf" <<END
[storage]
driver = "overlay"
graphroot = "$work/storage"
runroot = "$work/run"
END
cat >"$work/containers.conf" <<END
[containers]
cgroups = "disabled"
log_driver = "k8s-file"
[engine]
runtime = "crun"
tmp_dir = "$work/tmp"
events_logger = "none"
END
export CONTAINERS_STORAGE_CONF="$work/storage.conf" CONTAINERS_CONF="$work/containers.conf"

# All processes and mounts end with the namespaces. The base has all packages, so the build needs no network.
unshare --mount --pid --net --fork --mount-proc --kill-child sh -euc '
    tree=$1
    ip link set lo up
    # crun does not support the mixture of both versions of cgroups, which some systems mount.
    umount --recursive --lazy /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    tar -C "$tree" --one-file-system --exclude=./src -cf - . | podman import --quiet - localhost/base >/dev/null
    buildah build --quiet --isolation chroot --format docker --from localhost/base --tag localhost/imcallbackd \
        --file conf/container/Containerfile . >/dev/null
    exec /usr/bin/python3 -m pytest -q -s -p no:cacheprovider tests/project/container_checks.py' sh "$tree"
