#!/bin/bash
# Run once by the image of PostgreSQL, on an empty data folder: sluice's database, the login that owns it and nothing
# else, the login that questions and Superset's charts run under, and Superset's own database. Afterwards the superuser
# has no password: nobody is one from another machine, and `docker compose exec postgres psql -U postgres` still is.
set -euo pipefail

SECRETS=${SECRETS:-/run/secrets}
psql -v ON_ERROR_STOP=1 -U "${POSTGRES_USER:-postgres}" -d postgres \
    -v password="$(cat "$SECRETS/store_password")" -v read_password="$(cat "$SECRETS/reader_password")" \
    -v superset_password="$(cat "$SECRETS/superset_store_password")" <<'SQL'
CREATE ROLE sluice LOGIN PASSWORD :'password';
CREATE DATABASE sluice OWNER sluice;
REVOKE TEMPORARY ON DATABASE sluice FROM PUBLIC;
CREATE ROLE sluice_reader LOGIN PASSWORD :'read_password';
ALTER ROLE sluice_reader SET default_transaction_read_only = on;
ALTER ROLE sluice_reader SET statement_timeout = '60s';
ALTER ROLE sluice_reader SET lock_timeout = '10s';
ALTER ROLE sluice_reader SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE sluice_reader SET work_mem = '16MB';
ALTER ROLE sluice_reader SET temp_file_limit = '1GB';
CREATE ROLE superset LOGIN PASSWORD :'superset_password';
CREATE DATABASE superset OWNER superset;
-- Whoever may connect to one of the two has no business in the other.
REVOKE CONNECT ON DATABASE sluice, superset FROM PUBLIC;
GRANT CONNECT ON DATABASE sluice TO sluice_reader;
ALTER ROLE CURRENT_USER PASSWORD NULL;
SQL
