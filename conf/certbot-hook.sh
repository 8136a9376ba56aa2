#!/bin/sh
# Runs as `certbot --deploy-hook`: installs the renewed certificate and its key, and reloads the service, which needs no
# restart. If the service rejects the files, it keeps using the old ones, and this script fails, so that certbot reports
# the error.
set -eu

install -m 0644 "$RENEWED_LINEAGE/fullchain.pem" /etc/imcallbackd/certificate.pem
install -g imcallbackd -m 0640 "$RENEWED_LINEAGE/privkey.pem" /etc/imcallbackd/key.pem
systemctl try-reload-or-restart imcallbackd
