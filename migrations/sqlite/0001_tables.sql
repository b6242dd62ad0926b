-- The same tables as in Postgres, under the same names; those of entities are made from their definitions. JSON and
-- lists are JSON text, instants are ISO 8601 in UTC with microseconds, which sorts as text; the declared types tell them
-- apart. Wide rows stand in tables with a rowid: in one without, a row of more than a quarter page takes a page of its
-- own.

CREATE TABLE IF NOT EXISTS eventos_raw (
    id "uuid text" PRIMARY KEY NOT NULL,
    tipo_evento text NOT NULL,
    usuario text NOT NULL,
    evento text NOT NULL,
    valor real NOT NULL,
    "timestamp" "timestamp text" NOT NULL,
    categoria text NOT NULL,
    metadata "json text" NOT NULL,
    dados "json text" NOT NULL,
    entidade_id text NOT NULL,
    versao integer NOT NULL,
    particao integer NOT NULL,
    posicao integer NOT NULL,
    processado_em "timestamp text" NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
);

CREATE INDEX IF NOT EXISTS eventos_raw_timestamp ON eventos_raw ("timestamp");
CREATE INDEX IF NOT EXISTS eventos_raw_entidade ON eventos_raw (entidade_id, versao);
CREATE INDEX IF NOT EXISTS eventos_raw_processado_em ON eventos_raw (processado_em);
CREATE INDEX IF NOT EXISTS eventos_raw_versao ON eventos_raw (versao, id);

CREATE TABLE IF NOT EXISTS eventos_agregados (
    janela_inicio "timestamp text" NOT NULL,
    janela_fim "timestamp text" NOT NULL,
    categoria text NOT NULL,
    evento text NOT NULL,
    total integer NOT NULL,
    soma_valor real NOT NULL,
    PRIMARY KEY (janela_inicio, categoria, evento)
) WITHOUT ROWID;

-- What sluice must remember.

CREATE TABLE IF NOT EXISTS sluice_trimmed (
    entidade_id text NOT NULL,
    tipo_evento text NOT NULL,
    id text NOT NULL,
    below integer NOT NULL,
    janela_inicio text NOT NULL,
    categoria text NOT NULL,
    evento text NOT NULL,
    valor real NOT NULL,
    PRIMARY KEY (entidade_id, tipo_evento, id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS sluice_trimmed_windows (
    janela_inicio text NOT NULL,
    categoria text NOT NULL,
    evento text NOT NULL,
    total integer NOT NULL,
    soma_valor real NOT NULL,
    PRIMARY KEY (janela_inicio, categoria, evento)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS sluice_removed (
    table_name text NOT NULL,
    entity text NOT NULL,
    versao integer NOT NULL,
    PRIMARY KEY (table_name, entity)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS sluice_tables (
    table_name text PRIMARY KEY,
    layout text NOT NULL,
    unfilled text NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS sluice_source_columns (
    table_name text PRIMARY KEY,
    columns text NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS sluice_readings (
    table_name text PRIMARY KEY,
    reading text NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS sluice_offsets (
    log text NOT NULL,
    partition integer NOT NULL,
    next_offset integer,
    epoch integer NOT NULL,
    PRIMARY KEY (log, partition)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS sluice_syncs (
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
    cancel_requested integer NOT NULL DEFAULT 0,
    -- Every sink was seen to have what it appended: once the log is gone, nobody could tell any more.
    drained integer NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS sluice_syncs_of_table ON sluice_syncs (table_name, started_at);
CREATE INDEX IF NOT EXISTS sluice_syncs_started_at ON sluice_syncs (started_at);
CREATE INDEX IF NOT EXISTS sluice_syncs_undrained ON sluice_syncs (started_at) WHERE state <> 'running' AND NOT drained;

CREATE TABLE IF NOT EXISTS sluice_appended (
    log text NOT NULL,
    table_name text NOT NULL,
    entity text NOT NULL,
    event text NOT NULL,
    versao integer NOT NULL,
    removed integer NOT NULL DEFAULT 0,
    PRIMARY KEY (log, table_name, entity)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS sluice_coverage (
    log text NOT NULL,
    table_name text NOT NULL,
    covered_from text NOT NULL,
    covered_to text NOT NULL,
    PRIMARY KEY (log, table_name)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS sluice_parts (
    place text PRIMARY KEY,
    id text NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS sluice_notices (
    kind text NOT NULL,
    part text NOT NULL,
    log text NOT NULL,
    partition integer NOT NULL,
    from_offset integer NOT NULL,
    to_offset integer NOT NULL,
    noticed_at text NOT NULL,
    PRIMARY KEY (kind, part, log, partition, from_offset, to_offset)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS sluice_owed (
    table_name text PRIMARY KEY,
    owed_from text NOT NULL,
    since text NOT NULL
) WITHOUT ROWID;

-- The embedded log.

CREATE TABLE IF NOT EXISTS log_identity (id text NOT NULL);
INSERT INTO log_identity SELECT lower(hex(randomblob(11))) WHERE NOT EXISTS (SELECT 1 FROM log_identity);

CREATE TABLE IF NOT EXISTS log_records (
    topic integer NOT NULL,
    partition integer NOT NULL,
    position integer NOT NULL,
    key blob,
    value blob,
    headers text NOT NULL,
    appended_at integer NOT NULL,
    PRIMARY KEY (topic, partition, position)
);

CREATE TABLE IF NOT EXISTS log_starts (
    topic integer NOT NULL,
    partition integer NOT NULL,
    position integer NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS log_groups (
    group_name text NOT NULL,
    partition integer NOT NULL,
    next_offset integer NOT NULL,
    PRIMARY KEY (group_name, partition)
) WITHOUT ROWID;
