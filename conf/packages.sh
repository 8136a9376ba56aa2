# Installs packages, and extracts programs from packages, on Debian and Ubuntu. conf/quickstart.sh and scripts in tests/
# source this file.

# shellcheck disable=SC2034 # used by the scripts that source this file
build_packages="cmake ninja-build gcc libc6-dev pkg-config libmicrohttpd-dev libgnutls28-dev libssl-dev libcjson-dev
    libsqlite3-dev libinih-dev libsystemd-dev libpq-dev libcurl4-openssl-dev dpkg-dev file"

# Installs those of the named packages that are missing. On a system without dpkg, only prints the names of all of them.
install_packages() (
    if ! command -v dpkg-query >/dev/null; then
        echo "This system is neither Debian nor Ubuntu. Install the equivalents of these packages: $*" >&2
        return
    fi
    missing=
    for name; do
        dpkg-query -W -f '${db:Status-Status}\n' "$name" 2>/dev/null | grep -qx installed || missing="$missing $name"
    done
    [ -n "$missing" ] || return 0
    sudo=
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    echo "Installing$missing"
    $sudo apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
)

# Extracts a program from its package into a directory, unless the directory has it already, and installs the libraries
# that the program lacks. Installing the package itself would also start a server, now and at each boot.
extract_program() {
    package=$1 program=$2 directory=$3
    [ -x "$directory/$program" ] && return
    mkdir -p "$directory"
    (
        cd "$directory"
        apt-get download -qq "$package" >/dev/null &&
            dpkg-deb --fsys-tarfile "$package"_*.deb | tar -xf - --strip-components=3 --wildcards "./usr/*bin/$program"
    ) || return
    if ldd "$directory/$program" | grep -q "not found"; then
        # shellcheck disable=SC2046 # a list of words
        install_packages $(dpkg-deb -f "$directory/$package"_*.deb Depends | tr , "\n" |
            sed -n "s/^ *\(lib[^ ]*\).*/\1/p")
    fi
    rm -f "$directory/$package"_*.deb
}
