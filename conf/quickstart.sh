#!/bin/sh
# Builds imcallbackd, creates a certificate, a token and a database under build/quickstart/, and starts the daemon in
# the foreground. A second run reuses the files of the first one.
set -eu
cd "$(dirname "$0")/.."
. conf/packages.sh

# shellcheck disable=SC2086 # a list of words
install_packages $build_packages curl sqlite3 ca-certificates

cmake --preset release >/dev/null
cmake --build --preset release

files=build/quickstart
mkdir -p "$files"
[ -e "$files/certificate.pem" ] || build/release/imcallbackd certificate --host localhost 127.0.0.1 --out "$files"
[ -s "$files/token" ] || (umask 077 && LC_ALL=C tr -dc A-Za-z0-9 </dev/urandom | head -c 32 >"$files/token")

# Quotes the path for the shell, because the path to this clone can contain spaces and quotes.
here="'$(pwd | sed "s/'/'\\\\''/g")'"
port=$(sed -n '/^\[listen]/,/^\[tls]/s/^port *= *//p' conf/quickstart.conf)
admin_port=$(sed -n '/^\[admin]/,$s/^port *= *//p' conf/quickstart.conf)
app=$(sed -n 's/^\[app \(.*\)\]$/\1/p' conf/quickstart.conf)
query="SdkAppid=$app&CallbackCommand=Group.CallbackAfterGroupDestroyed&contenttype=json&ClientIP=127.0.0.1"
query="$query&OptPlatform=RESTAPI&\$(cd $here && build/release/imcallbackd sign -c conf/quickstart.conf)"
sql="SELECT group_id, name, position, member_account FROM destroyed_group"
sql="$sql JOIN destroyed_group_member ON destroyed_group_id = id ORDER BY id, position"

cat <<END

In another terminal, send a callback as the service does:

curl --cacert $here/$files/certificate.pem --data-binary @$here/tests/samples/documented.json "https://127.0.0.1:$port/?$query"

show what was recorded:

sqlite3 -readonly -box $here/$files/callbacks.db '$sql'

and open the status page, which says whether callbacks arrive, and if not, why:

http://127.0.0.1:$admin_port/

Ctrl-C stops the daemon.

END
exec build/release/imcallbackd serve -c conf/quickstart.conf
