-- What people query. Names are theirs and stay Portuguese.

CREATE TABLE eventos_raw (
    id           uuid PRIMARY KEY,
    tipo_evento  text NOT NULL,
    usuario      text NOT NULL,
    evento       text NOT NULL,
    valor        double precision NOT NULL,
    "timestamp"  timestamptz NOT NULL,
    categoria    text NOT NULL,
    metadata     jsonb NOT NULL,
    entidade_id  uuid NOT NULL,
    versao       bigint NOT NULL,
    dados        jsonb NOT NULL,
    particao     integer NOT NULL,
    posicao      bigint NOT NULL,
    ingerido_em  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE eventos_raw IS 'every event once, as it stands in the log';
COMMENT ON COLUMN eventos_raw.versao IS 'orders the events of one entity: microseconds since the Unix epoch';
CREATE INDEX eventos_raw_timestamp ON eventos_raw ("timestamp");
CREATE INDEX eventos_raw_entidade ON eventos_raw (entidade_id, versao);

CREATE TABLE leads (
    id                  uuid PRIMARY KEY,
    nome                text,
    email               text,
    telefone            text,
    nome_empresa        text,
    nome_projeto        text,
    localizacao         jsonb,
    interesse           text[] NOT NULL,
    score_qualificacao  bigint,
    status_lead         text,
    origem              text,
    utm_source          text,
    utm_medium          text,
    utm_campaign        text,
    created_at          timestamptz,
    updated_at          timestamptz,
    last_interaction_at timestamptz,
    metadata            jsonb NOT NULL,
    versao              bigint NOT NULL,
    evento_id           uuid NOT NULL,
    sincronizado_em     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE leads IS 'the newest version of every lead; email is neither required nor unique';
CREATE INDEX leads_status ON leads (status_lead);
CREATE INDEX leads_created_at ON leads (created_at);

CREATE TABLE chat_sessions (
    id                  uuid PRIMARY KEY,
    lead_id             text,
    user_agent          text,
    ip_address          text,
    total_messages      bigint,
    duration_seconds    bigint,
    pages_visited       text[] NOT NULL,
    perguntas_feitas    text[] NOT NULL,
    intencao_detectada  text,
    nivel_interesse     text,
    started_at          timestamptz,
    ended_at            timestamptz,
    is_active           boolean,
    metadata            jsonb NOT NULL,
    versao              bigint NOT NULL,
    evento_id           uuid NOT NULL,
    sincronizado_em     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE chat_sessions IS 'the newest version of every chat session';
CREATE INDEX chat_sessions_lead ON chat_sessions (lead_id);
CREATE INDEX chat_sessions_started_at ON chat_sessions (started_at);

CREATE TABLE eventos_agregados (
    janela_inicio  timestamptz NOT NULL,
    janela_fim     timestamptz NOT NULL,
    categoria      text NOT NULL,
    evento         text NOT NULL,
    total          bigint NOT NULL,
    soma_valor     double precision NOT NULL,
    atualizado_em  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (janela_inicio, categoria, evento)
);
COMMENT ON TABLE eventos_agregados IS
    'events by 5-minute window, categoria and evento, counted from rows really inserted into eventos_raw';

-- What sluice must remember.

CREATE TABLE sluice_offsets (
    log          text NOT NULL,
    partition    integer NOT NULL,
    next_offset  bigint,
    epoch        bigint NOT NULL,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (log, partition)
);
COMMENT ON TABLE sluice_offsets IS
    'the next offset each partition needs, written in the transaction that applies what is before it';
COMMENT ON COLUMN sluice_offsets.epoch IS 'grows with every claim; only the newest claim may write';

CREATE TABLE sluice_syncs (
    id                uuid PRIMARY KEY,
    table_name        text NOT NULL,
    request           jsonb NOT NULL,
    state             text NOT NULL,
    progress          jsonb NOT NULL,
    log               text NOT NULL,
    owner             text NOT NULL,
    started_at        timestamptz NOT NULL DEFAULT now(),
    finished_at       timestamptz,
    error             text,
    cancel_requested  boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE sluice_syncs IS 'every sync, running or ended';
CREATE INDEX sluice_syncs_started_at ON sluice_syncs (started_at DESC);

CREATE TABLE sluice_appended (
    log         text NOT NULL,
    table_name  text NOT NULL,
    entity      uuid NOT NULL,
    event       uuid NOT NULL,
    PRIMARY KEY (log, table_name, entity)
);
COMMENT ON TABLE sluice_appended IS
    'the event last appended to the log for each entity, so that an unchanged row is not appended again';

CREATE TABLE sluice_coverage (
    log           text NOT NULL,
    table_name    text NOT NULL,
    covered_from  timestamptz NOT NULL,
    covered_to    timestamptz NOT NULL,
    PRIMARY KEY (log, table_name)
);
COMMENT ON TABLE sluice_coverage IS 'the watermark: every row last written in this interval is in the log';
