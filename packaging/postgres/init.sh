#!/bin/bash
# Run once by the image of PostgreSQL, on an empty data folder: sluice's database, the login that owns it and nothing
# else, and the login that questions run under. Afterwards the superuser has no password: nobody is one from another
# machine, and `docker compose exec postgres psql -U postgres` still is.
set -euo pipefail

psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d postgres \
    -v password="$DATABASE_PASSWORD" -v read_password="$DATABASE_READ_PASSWORD" <<'SQL'
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
ALTER ROLE CURRENT_USER PASSWORD NULL;
SQL
