#!/bin/bash
# Run once by docker compose: the login that sluice uses, with what it needs and no more, and Kibana's. Running it again
# brings both up to date.
set -euo pipefail

SECRETS=${SECRETS:-/run/secrets}
URL=${URL:-http://elasticsearch:9200}

# The list of processes shows arguments, so no password is one. They are hexadecimal: nothing in them is JSON's.
security() { # method, path, body
    printf '%s' "$3" | curl -fsS -o /dev/null -X "$1" -H 'content-type: application/json' --data-binary @- \
        --config <(printf 'user = "elastic:%s"' "$(cat "$SECRETS/elastic_password")") "$URL/_security/$2"
}

security PUT role/sluice '{"cluster": ["monitor", "manage_index_templates"],
    "indices": [{"names": ["*"], "privileges": ["manage", "write", "read"]}]}'
security PUT user/sluice "{\"password\": \"$(cat "$SECRETS/index_password")\", \"roles\": [\"sluice\"]}"
security POST user/kibana_system/_password "{\"password\": \"$(cat "$SECRETS/kibana_password")\"}"
echo "the logins sluice and kibana_system are up to date"
