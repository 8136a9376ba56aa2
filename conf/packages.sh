# Installs packages on Debian and Ubuntu. conf/quickstart.sh, tests/run.sh and tests/bench/bench.sh source this file.

# shellcheck disable=SC2034 # used by the scripts that source this file
build_packages="cmake ninja-build gcc libc6-dev pkg-config libmicrohttpd-dev libgnutls28-dev libssl-dev libcjson-dev
    libsqlite3-dev libinih-dev libsystemd-dev libpq-dev libcurl4-openssl-dev dpkg-dev file"

# Installs those of the named packages that are missing.
install_packages() {
    if ! command -v dpkg-query >/dev/null; then
        echo "This system is neither Debian nor Ubuntu. Install the equivalents of these packages: $*" >&2
        return
    fi
    missing=
    for package; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    sudo=
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    echo "Installing$missing"
    $sudo apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
}
