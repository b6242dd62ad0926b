-- What the log holds, as rows: every event once, and the rollup dashboards read. The tables of entities are made from their
-- definitions, after the migrations; see src/store/postgres/prepare.rs.

CREATE TABLE IF NOT EXISTS eventos_raw (
    id uuid PRIMARY KEY,
    tipo_evento text NOT NULL,
    usuario text NOT NULL,
    evento text NOT NULL,
    valor double precision NOT NULL,
    "timestamp" timestamptz NOT NULL,
    categoria text NOT NULL,
    metadata jsonb NOT NULL,
    dados jsonb NOT NULL,
    entidade_id text NOT NULL,
    versao bigint NOT NULL,
    particao integer NOT NULL,
    posicao bigint NOT NULL,
    processado_em timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE eventos_raw IS
    'Every event of the log, once: id is derived from the row''s content, so a repeated delivery adds nothing';
COMMENT ON COLUMN eventos_raw.entidade_id IS 'The key of the row it is a version of, as text';
COMMENT ON COLUMN eventos_raw.versao IS 'Orders the events of one entity; given when the event is appended';
COMMENT ON COLUMN eventos_raw.posicao IS 'The offset the event was first applied from, in partition particao';
COMMENT ON COLUMN eventos_raw.dados IS 'The whole source row';
COMMENT ON COLUMN eventos_raw.metadata IS 'What the dashboards'' queries read, and the columns without a type';

-- Ids are hashes and land anywhere in the primary key; each further index costs every insert the same again. A new row
-- lands at the end of all of these but that of entities.
CREATE INDEX IF NOT EXISTS eventos_raw_timestamp ON eventos_raw ("timestamp");
CREATE INDEX IF NOT EXISTS eventos_raw_entidade ON eventos_raw (entidade_id, versao);
CREATE INDEX IF NOT EXISTS eventos_raw_processado_em ON eventos_raw (processado_em);
CREATE INDEX IF NOT EXISTS eventos_raw_versao ON eventos_raw (versao, id);

CREATE TABLE IF NOT EXISTS eventos_agregados (
    janela_inicio timestamptz NOT NULL,
    janela_fim timestamptz NOT NULL,
    categoria text NOT NULL,
    evento text NOT NULL,
    total bigint NOT NULL,
    soma_valor double precision NOT NULL,
    PRIMARY KEY (janela_inicio, categoria, evento)
) WITH (fillfactor = 70);

COMMENT ON TABLE eventos_agregados IS
    'eventos_raw in windows of five minutes of the events'' own time; counts each event once';

CREATE TABLE IF NOT EXISTS sluice_trimmed (
    entidade_id text NOT NULL,
    tipo_evento text NOT NULL,
    id uuid NOT NULL,
    below bigint NOT NULL,
    janela_inicio timestamptz NOT NULL,
    categoria text NOT NULL,
    evento text NOT NULL,
    valor double precision NOT NULL,
    PRIMARY KEY (entidade_id, tipo_evento, id)
);

COMMENT ON TABLE sluice_trimmed IS
    'Events that were removed from eventos_raw for their age: what is delivered again is neither stored nor counted again';
COMMENT ON COLUMN sluice_trimmed.valor IS
    'With janela_inicio, categoria and evento what it gave to eventos_agregados: an erasure takes it away';
COMMENT ON COLUMN sluice_trimmed.below IS
    'A delivery of a lower versao is of the past; of this one on, the content has come back and is stored again';

CREATE TABLE IF NOT EXISTS sluice_trimmed_windows (
    janela_inicio timestamptz NOT NULL,
    categoria text NOT NULL,
    evento text NOT NULL,
    total bigint NOT NULL,
    soma_valor double precision NOT NULL,
    PRIMARY KEY (janela_inicio, categoria, evento)
);

COMMENT ON TABLE sluice_trimmed_windows IS
    'What the events of sluice_trimmed gave to eventos_agregados: a window that is counted anew is this and eventos_raw';

CREATE TABLE IF NOT EXISTS sluice_removed (
    table_name text NOT NULL,
    entity text NOT NULL,
    versao bigint NOT NULL,
    PRIMARY KEY (table_name, entity)
);

COMMENT ON TABLE sluice_removed IS
    'Entities that were removed, and at which version: an older version that is delivered again does not bring one back';

CREATE TABLE IF NOT EXISTS sluice_tables (
    table_name text PRIMARY KEY,
    layout text NOT NULL,
    unfilled text[] NOT NULL DEFAULT '{}'
);

COMMENT ON TABLE sluice_tables IS 'The tables of entities, each as the definition it was last made from says';
COMMENT ON COLUMN sluice_tables.layout IS
    'A line a column: its name, its type, where in the project it is read from. A process with another layout writes nothing';
COMMENT ON COLUMN sluice_tables.unfilled IS 'Columns the rows that were there before them still lack';
