-- What sluice remembers between runs. Nothing here is needed by queries; deleting it means reading again.

CREATE TABLE IF NOT EXISTS sluice_offsets (
    log text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint,
    epoch bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (log, partition)
) WITH (fillfactor = 50);

COMMENT ON TABLE sluice_offsets IS
    'How far each partition is applied; moves in the transaction that writes the rows, so it is the truth';
COMMENT ON COLUMN sluice_offsets.next_offset IS 'Null until something of the partition was applied';
COMMENT ON COLUMN sluice_offsets.epoch IS 'Grows with every claim: a worker with an older one can write nothing';

CREATE TABLE IF NOT EXISTS sluice_syncs (
    id uuid PRIMARY KEY,
    table_name text NOT NULL,
    log text NOT NULL,
    request jsonb NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'succeeded', 'failed', 'cancelled', 'interrupted')),
    progress jsonb NOT NULL,
    owner text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    error text,
    cancel_requested boolean NOT NULL DEFAULT false,
    drained boolean NOT NULL DEFAULT false
);

COMMENT ON TABLE sluice_syncs IS
    'Every sync; one that runs holds an advisory lock on its table, and without that lock it counts as interrupted';

COMMENT ON COLUMN sluice_syncs.drained IS
    'Every sink was seen to have what it appended: once the log is gone, nobody could tell any more';

CREATE INDEX IF NOT EXISTS sluice_syncs_started_at ON sluice_syncs (started_at DESC);
CREATE INDEX IF NOT EXISTS sluice_syncs_reconciled ON sluice_syncs (table_name, started_at DESC) WHERE request ? 'reconcile';
CREATE INDEX IF NOT EXISTS sluice_syncs_polls ON sluice_syncs (table_name, started_at) WHERE request ? 'since';
CREATE INDEX IF NOT EXISTS sluice_syncs_succeeded ON sluice_syncs (table_name, started_at DESC) WHERE state = 'succeeded';
CREATE INDEX IF NOT EXISTS sluice_syncs_of_table ON sluice_syncs (table_name, started_at DESC);
CREATE INDEX IF NOT EXISTS sluice_syncs_undrained ON sluice_syncs (started_at DESC) WHERE state <> 'running' AND NOT drained;
CREATE INDEX IF NOT EXISTS sluice_syncs_running ON sluice_syncs (table_name) WHERE state = 'running';

CREATE TABLE IF NOT EXISTS sluice_appended (
    log text NOT NULL,
    table_name text NOT NULL,
    -- Keys are compared in the order of their bytes, as an index has them.
    entity text COLLATE "C" NOT NULL,
    event uuid NOT NULL,
    versao bigint NOT NULL,
    removed boolean NOT NULL DEFAULT false,
    PRIMARY KEY (log, table_name, entity)
) WITH (fillfactor = 85);

COMMENT ON TABLE sluice_appended IS
    'The last event of each entity that syncs appended to a log: what spares unchanged rows a second event';
COMMENT ON COLUMN sluice_appended.entity IS 'The key of the row, as text';
COMMENT ON COLUMN sluice_appended.removed IS 'That event says that the row is gone';
COMMENT ON COLUMN sluice_appended.versao IS 'The version that event was given; the next one is larger';

CREATE TABLE IF NOT EXISTS sluice_coverage (
    log text NOT NULL,
    table_name text NOT NULL,
    covered_from timestamptz NOT NULL,
    covered_to timestamptz NOT NULL,
    PRIMARY KEY (log, table_name)
);

COMMENT ON TABLE sluice_coverage IS
    'The part of a table''s history that is known to be in a log; the next sync reads on from covered_to';

CREATE TABLE IF NOT EXISTS sluice_parts (
    place text PRIMARY KEY,
    id text NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE sluice_parts IS
    'What is written to, as it was met last: another id at the same place means that it was replaced';

CREATE TABLE IF NOT EXISTS sluice_notices (
    kind text NOT NULL,
    part text NOT NULL,
    log text NOT NULL,
    partition integer NOT NULL,
    from_offset bigint NOT NULL,
    to_offset bigint NOT NULL,
    noticed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, part, log, partition, from_offset, to_offset)
);

COMMENT ON TABLE sluice_notices IS
    'What was found replaced, cut or restored under sluice; an operator is told of it for a week';

CREATE TABLE IF NOT EXISTS sluice_owed (
    table_name text PRIMARY KEY,
    owed_from timestamptz NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE sluice_owed IS
    'Tables whose history since owed_from was lost from the log and is read from the source again by the next syncs';

CREATE TABLE IF NOT EXISTS sluice_source_columns (
    table_name text PRIMARY KEY,
    columns text[] NOT NULL,
    told_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE sluice_source_columns IS 'The columns each table had when the project last told of them';

CREATE TABLE IF NOT EXISTS sluice_readings (
    table_name text PRIMARY KEY,
    reading text NOT NULL,
    kept_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE sluice_readings IS 'How far reconciliations that were broken off had read their tables';
