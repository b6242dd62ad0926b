#!/bin/bash
# Run once by docker compose: the login that sluice uses, with what it needs and no more, and Kibana's. Running it again
# brings both up to date.
set -euo pipefail

SECRETS=${SECRETS:-/run/secrets}
URL=${URL:-http://elasticsearch:9200}

# Passwords reach curl by its standard input: the list of processes shows arguments. They are hexadecimal, so nothing in
# them is JSON's.
security() { # method, path, body
    curl -fsS -o /dev/null -X "$1" -H 'content-type: application/json' --config - "$URL/_security/$2" <<CONFIG
user = "elastic:$(cat "$SECRETS/elastic_password")"
data = "${3//\"/\\\"}"
CONFIG
}

security PUT role/sluice '{"cluster": ["monitor", "manage_index_templates"],
    "indices": [{"names": ["*"], "privileges": ["manage", "write", "read"]}]}'
security PUT user/sluice "{\"password\": \"$(cat "$SECRETS/index_password")\", \"roles\": [\"sluice\"]}"
security POST user/kibana_system/_password "{\"password\": \"$(cat "$SECRETS/kibana_password")\"}"
echo "the logins sluice and kibana_system are up to date"
