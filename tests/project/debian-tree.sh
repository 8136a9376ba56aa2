# Defines functions that install Debian into a directory, called a tree. package.sh and debian13.sh source this file.

# Prints the mirror from which this machine installs its own Debian, or Debian's default mirror.
debian_mirror() (
    # shellcheck disable=SC1091 # not a file of the project
    . /etc/os-release
    mirror=
    [ "$ID" != debian ] || mirror=$(apt-get update --print-uris 2>/dev/null |
        sed -n "s,^'\(https\?://[^']*\)/dists/$VERSION_CODENAME/main/.*,\1,p" | head -n 1)
    echo "${mirror:-http://deb.debian.org/debian}"
)

# tree_make SUITE DIRECTORY: installs a minimal Debian system. Exits with status 77, which skips the test, if
# debootstrap fails, for example because the mirror cannot be reached or does not have the suite.
tree_make() {
    name=${0##*/}
    mirror=$(debian_mirror)
    proxy=
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    if ! http_proxy=${http_proxy:-$proxy} debootstrap --variant=minbase --include=ca-certificates "$1" "$2" "$mirror" \
        >"$2.log" 2>&1; then
        tail -n 5 "$2.log" >&2
        echo "$name: debootstrap cannot install $1 from $mirror: see the lines above" >&2
        exit 77
    fi
    rm "$2.log"
}

# tree_install DIRECTORY PACKAGE...: installs packages, with this machine's proxy and name servers. Their services do not
# start, because the processes would outlive the installation.
tree_install() {
    cp /etc/resolv.conf "$1/etc/"
    apt-config dump | grep -E '^Acquire::(https?::Proxy|Check-)' >"$1/etc/apt/apt.conf.d/99host" || true
    echo force-unsafe-io >"$1/etc/dpkg/dpkg.cfg.d/unsafe-io"
    unshare --mount sh -euc '
        tree=$1
        shift
        mount --make-rprivate /
        mount -t proc proc "$tree/proc"
        printf "#!/bin/sh\nexit 101\n" >"$tree/usr/sbin/policy-rc.d"
        chmod +x "$tree/usr/sbin/policy-rc.d"
        chroot "$tree" apt-get update -qq
        DEBIAN_FRONTEND=noninteractive chroot "$tree" apt-get install -qq -y --no-install-recommends "$@" >/dev/null
        rm "$tree/usr/sbin/policy-rc.d"
        chroot "$tree" apt-get clean' sh "$@"
}

# tree_mount DIRECTORY: mounts the file systems and devices that a running system has. The caller must be in a mount
# namespace of its own, without propagation of mounts.
tree_mount() {
    mount -t proc proc "$1/proc"
    mount -o bind,ro "$1/proc/sys" "$1/proc/sys"
    mount -t sysfs -o ro sysfs "$1/sys"
    mount -t tmpfs -o mode=755 tmpfs "$1/dev"
    for name in null zero full random urandom tty; do
        : >"$1/dev/$name"
        mount --bind "/dev/$name" "$1/dev/$name"
    done
    mkdir -m 1777 "$1/dev/shm"
    mkdir "$1/dev/pts"
    mount -t devpts -o newinstance,ptmxmode=666 devpts "$1/dev/pts"
    ln -s pts/ptmx "$1/dev/ptmx"
    ln -s /proc/self/fd "$1/dev/fd"
    ln -s fd/0 "$1/dev/stdin"
    ln -s fd/1 "$1/dev/stdout"
    ln -s fd/2 "$1/dev/stderr"
    mount -t tmpfs -o mode=755 tmpfs "$1/run"
    mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
}
