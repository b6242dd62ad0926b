-- What the log holds, as rows: every event once, the current state of each entity, and the rollup dashboards read.

CREATE TABLE eventos_raw (
    id uuid PRIMARY KEY,
    tipo_evento text NOT NULL,
    usuario text NOT NULL,
    evento text NOT NULL,
    valor double precision NOT NULL,
    "timestamp" timestamptz NOT NULL,
    categoria text NOT NULL,
    metadata jsonb NOT NULL,
    dados jsonb NOT NULL,
    entidade_id uuid NOT NULL,
    versao bigint NOT NULL,
    particao integer NOT NULL,
    posicao bigint NOT NULL,
    ingerido_em timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE eventos_raw IS
    'Every event of the log, once: id is derived from the row''s content, so a repeated delivery adds nothing';
COMMENT ON COLUMN eventos_raw.versao IS 'Orders the events of one entity: microseconds since the Unix epoch';
COMMENT ON COLUMN eventos_raw.posicao IS 'The offset the event was first applied from, in partition particao';
COMMENT ON COLUMN eventos_raw.dados IS 'The whole source row';
COMMENT ON COLUMN eventos_raw.metadata IS 'What the dashboards'' queries read, and the columns without a type';

-- Ids are hashes and land anywhere in the primary key; each further index costs every insert the same again.
CREATE INDEX eventos_raw_timestamp ON eventos_raw ("timestamp");
CREATE INDEX eventos_raw_entidade ON eventos_raw (entidade_id, versao);

-- Room for updates in place. Neither e-mail addresses nor anything else but the id is unique downstream.
CREATE TABLE leads (
    id uuid PRIMARY KEY,
    nome text,
    email text,
    telefone text,
    nome_empresa text,
    nome_projeto text,
    localizacao jsonb,
    interesse text[] NOT NULL DEFAULT '{}',
    score_qualificacao bigint,
    status_lead text,
    origem text,
    utm_source text,
    utm_medium text,
    utm_campaign text,
    created_at timestamptz,
    updated_at timestamptz,
    last_interaction_at timestamptz,
    metadata jsonb NOT NULL,
    versao bigint NOT NULL,
    evento_id uuid NOT NULL,
    sincronizado_em timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 85);

COMMENT ON TABLE leads IS 'The current state of each lead: the row of its event with the highest versao';

-- On a column that never changes, so that an update touches no index.
CREATE INDEX leads_created_at ON leads (created_at);

CREATE TABLE chat_sessions (
    id uuid PRIMARY KEY,
    lead_id text,
    user_agent text,
    ip_address text,
    total_messages bigint,
    duration_seconds bigint,
    pages_visited text[] NOT NULL DEFAULT '{}',
    perguntas_feitas text[] NOT NULL DEFAULT '{}',
    intencao_detectada text,
    nivel_interesse text,
    started_at timestamptz,
    ended_at timestamptz,
    is_active boolean,
    metadata jsonb NOT NULL,
    versao bigint NOT NULL,
    evento_id uuid NOT NULL,
    sincronizado_em timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 85);

COMMENT ON TABLE chat_sessions IS
    'The current state of each chat session: the row of its event with the highest versao';
COMMENT ON COLUMN chat_sessions.ip_address IS 'Empty unless the operator asked for it';

CREATE INDEX chat_sessions_started_at ON chat_sessions (started_at);

CREATE TABLE eventos_agregados (
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
