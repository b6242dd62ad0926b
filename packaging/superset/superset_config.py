"""Superset's settings in docker compose: its own tables in PostgreSQL, secrets from files, numbers as Brazil writes them."""

import os
import pathlib

SECRETS = pathlib.Path(os.environ.get("SECRETS", "/run/secrets"))


def secret(name):
    return (SECRETS / name).read_text().strip()


SECRET_KEY = secret("superset_key")
SQLALCHEMY_DATABASE_URI = os.environ.get("SUPERSET_METADATA_URI") or (
    f"postgresql+psycopg2://superset:{secret('superset_store_password')}@postgres:5432/superset"
)
BABEL_DEFAULT_LOCALE = "pt_BR"
LANGUAGES = {"pt_BR": {"flag": "br", "name": "Português"}, "en": {"flag": "us", "name": "English"}}
D3_FORMAT = {"decimal": ",", "thousands": ".", "grouping": [3], "currency": ["R$ ", ""]}
# Served on loopback, without TLS. Behind a proxy that speaks it: SESSION_COOKIE_SECURE = True and ENABLE_PROXY_FIX = True.
