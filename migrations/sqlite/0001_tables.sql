-- The same tables as in Postgres, under the same names. JSON and lists are JSON text, instants are ISO 8601 in UTC with
-- microseconds, which sorts as text.

CREATE TABLE eventos_raw (
    id text PRIMARY KEY,
    tipo_evento text NOT NULL,
    usuario text NOT NULL,
    evento text NOT NULL,
    valor real NOT NULL,
    "timestamp" text NOT NULL,
    categoria text NOT NULL,
    metadata text NOT NULL,
    dados text NOT NULL,
    entidade_id text NOT NULL,
    versao integer NOT NULL,
    particao integer NOT NULL,
    posicao integer NOT NULL,
    ingerido_em text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) WITHOUT ROWID;

CREATE INDEX eventos_raw_timestamp ON eventos_raw ("timestamp");
CREATE INDEX eventos_raw_entidade ON eventos_raw (entidade_id, versao);

CREATE TABLE leads (
    id text PRIMARY KEY,
    nome text,
    email text,
    telefone text,
    nome_empresa text,
    nome_projeto text,
    localizacao text,
    interesse text NOT NULL,
    score_qualificacao integer,
    status_lead text,
    origem text,
    utm_source text,
    utm_medium text,
    utm_campaign text,
    created_at text,
    updated_at text,
    last_interaction_at text,
    metadata text NOT NULL,
    versao integer NOT NULL,
    evento_id text NOT NULL,
    sincronizado_em text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) WITHOUT ROWID;

CREATE TABLE chat_sessions (
    id text PRIMARY KEY,
    lead_id text,
    user_agent text,
    ip_address text,
    total_messages integer,
    duration_seconds integer,
    pages_visited text NOT NULL,
    perguntas_feitas text NOT NULL,
    intencao_detectada text,
    nivel_interesse text,
    started_at text,
    ended_at text,
    is_active integer,
    metadata text NOT NULL,
    versao integer NOT NULL,
    evento_id text NOT NULL,
    sincronizado_em text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) WITHOUT ROWID;

CREATE TABLE eventos_agregados (
    janela_inicio text NOT NULL,
    janela_fim text NOT NULL,
    categoria text NOT NULL,
    evento text NOT NULL,
    total integer NOT NULL,
    soma_valor real NOT NULL,
    PRIMARY KEY (janela_inicio, categoria, evento)
) WITHOUT ROWID;

-- What sluice must remember.

CREATE TABLE sluice_offsets (
    log text NOT NULL,
    partition integer NOT NULL,
    next_offset integer,
    epoch integer NOT NULL,
    PRIMARY KEY (log, partition)
) WITHOUT ROWID;

CREATE TABLE sluice_syncs (
    id text PRIMARY KEY,
    table_name text NOT NULL,
    log text NOT NULL,
    request text NOT NULL,
    state text NOT NULL,
    progress text NOT NULL,
    owner text NOT NULL,
    started_at text NOT NULL,
    finished_at text,
    error text,
    cancel_requested integer NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE sluice_appended (
    log text NOT NULL,
    table_name text NOT NULL,
    entity text NOT NULL,
    event text NOT NULL,
    PRIMARY KEY (log, table_name, entity)
) WITHOUT ROWID;

CREATE TABLE sluice_coverage (
    log text NOT NULL,
    table_name text NOT NULL,
    covered_from text NOT NULL,
    covered_to text NOT NULL,
    PRIMARY KEY (log, table_name)
) WITHOUT ROWID;

-- The embedded log.

CREATE TABLE log_identity (id text NOT NULL);
INSERT INTO log_identity VALUES (lower(hex(randomblob(11))));

CREATE TABLE log_records (
    topic integer NOT NULL,
    partition integer NOT NULL,
    position integer NOT NULL,
    key blob,
    value blob,
    headers text NOT NULL,
    appended_at integer NOT NULL,
    PRIMARY KEY (topic, partition, position)
) WITHOUT ROWID;

CREATE TABLE log_groups (
    group_name text NOT NULL,
    partition integer NOT NULL,
    next_offset integer NOT NULL,
    PRIMARY KEY (group_name, partition)
) WITHOUT ROWID;
