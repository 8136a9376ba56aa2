# package.sh runs this script in the booted Debian, in which the package is installed but not configured.
cd /test || exit 1
config=/etc/imcallbackd/imcallbackd.conf
query='SdkAppid=1400000001&CallbackCommand=Group.CallbackAfterGroupDestroyed'

# If a step fails, the end of the journal is shown.
trap '[ $? -eq 0 ] || journalctl --no-pager -u "imcallbackd*" | tail -n 30 >&2' EXIT

fail() {
    echo "package-inside.sh: $*" >&2
    exit 1
}

step() {
    echo "== $*"
}

is_running_as() { # the service's process is $1
    [ "$(systemctl show -P MainPID imcallbackd)" = "$1" ]
}

post() {
    curl -sS --max-time 20 --cacert certificate/certificate.pem --data-binary @documented.json \
        "https://localhost/?$query&$(imcallbackd sign -c "$config")" | grep -q '"OK"' || fail "no OK"
}

install_secrets() {
    install -m 0644 certificate/certificate.pem /etc/imcallbackd/certificate.pem
    install -g imcallbackd -m 0640 certificate/key.pem /etc/imcallbackd/key.pem
    echo the-token | install -g imcallbackd -m 0640 /dev/stdin /etc/imcallbackd/token
}

count_groups() {
    sqlite3 -readonly /var/lib/imcallbackd/callbacks.db 'SELECT count(*) FROM destroyed_group'
}

# Sends callbacks on new connections, 8 at a time, until stop_load.
start_load() {
    : >load.on
    (while [ -e load.on ]; do
        ./imcallbackd-load --port 443 --app 1400000001 --token the-token --ca certificate/certificate.pem \
            --connections 8 --total 100 --new-connection --timeout 30 --seed "$(date +%s%N | tail -c 9)" || exit
    done >load.reports) &
    load=$!
}

stop_load() {
    rm load.on
    wait "$load" || fail "a callback was refused or not answered: $(tail -n 1 load.reports)"
    echo "$(wc -l <load.reports) times 100 connections"
}

deadline=$(($(date +%s) + 120))
until systemctl is-system-running 2>/dev/null | grep -qx -e running -e degraded; do
    [ "$(date +%s)" -lt "$deadline" ] || fail "systemd does not finish starting"
    sleep 1
done

step "installed: user, directories, nothing started"
[ "$(stat -c %a:%U:%G /etc/imcallbackd)" = 750:root:imcallbackd ] || fail "/etc/imcallbackd"
[ "$(stat -c %a:%U:%G /var/lib/imcallbackd)" = 750:imcallbackd:imcallbackd ] || fail "/var/lib/imcallbackd"
! systemctl is-enabled imcallbackd.service imcallbackd.socket imcallbackd-admin.socket || fail "units are enabled"

step "configured as README.md describes, and started"
imcallbackd certificate --host localhost --host 127.0.0.1 --out certificate
install_secrets
runuser -u imcallbackd -- imcallbackd check -c "$config" >/dev/null
systemctl enable --now imcallbackd
systemctl is-active imcallbackd.socket imcallbackd-admin.socket
post

step "a reload uses a new certificate; a reload with an error fails and changes nothing"
before=$(systemctl show -P MainPID imcallbackd)
rm -r certificate
imcallbackd certificate --host localhost --host 127.0.0.1 --out certificate
RENEWED_LINEAGE=/test/lineage
mkdir "$RENEWED_LINEAGE"
cp certificate/certificate.pem "$RENEWED_LINEAGE/fullchain.pem"
cp certificate/key.pem "$RENEWED_LINEAGE/privkey.pem"
RENEWED_LINEAGE=$RENEWED_LINEAGE /usr/share/imcallbackd/certbot-hook.sh
post
cp "$config" good
echo 'unknown = 1' >>"$config"
! systemctl reload imcallbackd || fail "a reload with an error succeeded"
is_running_as "$before" || fail "a reload ended the service"

step "an upgrade to a version that rejects the configuration leaves the old version running"
dpkg -i next.deb 2>&1 | tee output
grep -q "not restarted" output && grep -q "unknown" output || fail "the upgrade does not say so"
is_running_as "$before" || fail "the upgrade ended the service"
cat good >"$config"
post

step "restarts and an upgrade under load refuse no callback"
start_load
for _ in $(seq 20); do
    systemctl restart imcallbackd
done
before=$(systemctl show -P MainPID imcallbackd)
dpkg -i first.deb next.deb
! is_running_as "$before" || fail "the upgrade did not restart the service"
stop_load
post

step "systemd restarts the service after a crash and after a hang"
systemctl kill -s KILL imcallbackd
post
systemctl kill -s STOP imcallbackd
deadline=$(($(date +%s) + 180))
until systemctl show -P NRestarts imcallbackd | grep -qx 2; do
    [ "$(date +%s)" -lt "$deadline" ] || fail "the watchdog does not restart the service"
    sleep 1
done
post

step "members of the group can read the database"
[ "$(sqlite3 -readonly /var/lib/imcallbackd/callbacks.db 'PRAGMA integrity_check')" = ok ] || fail "the database"

step "removed: the service is stopped, configuration and database remain"
apt-get remove -qq -y imcallbackd
! systemctl is-active imcallbackd.service imcallbackd.socket imcallbackd-admin.socket || fail "still active"
[ -e "$config" ] && [ -e /var/lib/imcallbackd/callbacks.db ] || fail "something is missing"

step "installed again: enabled as before"
dpkg -i first.deb
systemctl is-enabled imcallbackd.service imcallbackd.socket imcallbackd-admin.socket
systemctl start imcallbackd
post

step "purged: the configuration is gone; database and keys remain, as a message says"
apt-get purge -qq -y imcallbackd 2>&1 | tee output
grep -q "/var/lib/imcallbackd: kept, because it is not empty" output || fail "the purge does not say what remains"
[ ! -e "$config" ] && [ -e /var/lib/imcallbackd/callbacks.db ] && [ -e /etc/imcallbackd/key.pem ] ||
    fail "the purge leaves the wrong files"
[ -z "$(find /etc/systemd /lib/systemd/system /usr/lib/systemd/system -name 'imcallbackd*')" ] || fail "units remain"

step "purged without database and keys: nothing remains"
rm -r /var/lib/imcallbackd /etc/imcallbackd
dpkg -i first.deb
apt-get purge -qq -y imcallbackd
[ ! -e /var/lib/imcallbackd ] && [ ! -e /etc/imcallbackd ] || fail "directories remain"

if [ -e first-release.deb ]; then
    step "a store of the first release is taken over by this one, and taken back, also after a crash"
    dpkg -i first-release.deb
    install_secrets
    systemctl enable --now imcallbackd
    post
    start_load
    for package in first.deb first-release.deb first.deb; do
        dpkg -i --force-downgrade "$package"
    done
    stop_load
    groups=$(count_groups)
    for package in first-release.deb first.deb; do
        systemctl kill -s KILL imcallbackd
        dpkg -i --force-downgrade "$package"
        post # the event was recorded before
        [ "$(count_groups)" = "$groups" ] || fail "$package: $(count_groups) of $groups groups"
    done
    imcallbackd --version | grep -qx "$(dpkg-deb -f first.deb Version | sed 's/^\(.*\)-1$/imcallbackd \1/')" ||
        fail "the new version does not run"
fi
echo "== passed"
