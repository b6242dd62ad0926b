#!/bin/bash
# Run once by docker compose: Superset's own tables, its first user, and the dashboard if the bundle is there. Running it
# again changes no password and brings the charts up to date.
set -euo pipefail

SECRETS=${SECRETS:-/run/secrets}
superset db upgrade
superset init
# Fails where the user is there already, whose password is then whatever they made of it.
superset fab create-admin --username admin --firstname sluice --lastname admin --email admin@localhost \
    --password "$(cat "$SECRETS/superset_admin_password")" || true

BUNDLE=${BUNDLE:-/dashboards/superset}
[ -f "$BUNDLE/metadata.yaml" ] || { echo "no bundle in $BUNDLE: import dashboards by hand" && exit; }
umask 077
TEMPORARY=$(mktemp -d)
trap 'rm -rf "$TEMPORARY"' EXIT
cp -r "$BUNDLE" "$TEMPORARY/superset"
URI=${STORE_URI:-postgresql+psycopg2://sluice_reader:XXXXXXXXXX@postgres:5432/sluice}
sed -i "s|^sqlalchemy_uri:.*|sqlalchemy_uri: $URI\npassword: $(cat "$SECRETS/reader_password")|" \
    "$TEMPORARY/superset/databases/sluice.yaml"
(cd "$TEMPORARY" && python3 -m zipfile -c leads.zip superset)
superset import-dashboards -p "$TEMPORARY/leads.zip" -u admin
