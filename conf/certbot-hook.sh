#!/bin/sh
# A hook for `certbot --deploy-hook`: installs a renewed certificate and its key and reloads the service, which needs no
# restart. If the service rejects the files, it keeps the old ones, and this script fails, which certbot reports.
set -eu

install -m 0644 "$RENEWED_LINEAGE/fullchain.pem" /etc/imcallbackd/certificate.pem
install -g imcallbackd -m 0640 "$RENEWED_LINEAGE/privkey.pem" /etc/imcallbackd/key.pem
systemctl try-reload-or-restart imcallbackd
