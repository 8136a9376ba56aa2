#!/bin/sh
# For `certbot --deploy-hook`: gives a renewed certificate and its key to the service, which takes them over without a
# restart. Fails, and certbot says so, when the service does not take them; it goes on with the old ones then.
set -eu

install -m 0644 "$RENEWED_LINEAGE/fullchain.pem" /etc/imcallbackd/certificate.pem
install -g imcallbackd -m 0640 "$RENEWED_LINEAGE/privkey.pem" /etc/imcallbackd/key.pem
systemctl try-reload-or-restart imcallbackd
