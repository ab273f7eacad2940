#!/bin/sh
# Pebble at directory.test:14000, with a certificate of an authority that nobody knows, for certificates of twenty days. It asks
# whose account it is.
set -eu
mkdir -p /etc/pebble
cd /etc/pebble
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj "/CN=Authority of the directory" \
    -addext "keyUsage=critical,keyCertSign" -keyout authority.key -out authority.pem
openssl req -x509 -CA authority.pem -CAkey authority.key -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
    -subj "/CN=directory.test" -addext "subjectAltName=DNS:directory.test" -addext "basicConstraints=critical,CA:FALSE" \
    -keyout directory.key -out directory.pem
cat > config.json <<'EOF'
{"pebble": {"listenAddress": "0.0.0.0:14000", "managementListenAddress": "0.0.0.0:15000", "certificate": "/etc/pebble/directory.pem",
 "privateKey": "/etc/pebble/directory.key", "httpPort": 80, "tlsPort": 443, "ocspResponderURL": "",
 "externalAccountBindingRequired": true, "externalAccountMACKeys": {"kid-1": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"},
 "certificateValidityPeriod": 1728000}}
EOF
systemd-run --quiet --unit=directory --setenv=PEBBLE_VA_NOSLEEP=1 --setenv=PEBBLE_WFE_NONCEREJECT=0 \
    "$(command -v pebble)" -config /etc/pebble/config.json
