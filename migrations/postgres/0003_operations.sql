-- What operators asked for: it outlives every process.

CREATE TABLE IF NOT EXISTS sluice_pauses (
    consumer_group text PRIMARY KEY,
    paused_by text NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE sluice_pauses IS 'Sinks that no worker drains until somebody resumes them';

CREATE TABLE IF NOT EXISTS sluice_resolved_letters (
    log text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    letter_id uuid NOT NULL,
    resolution text NOT NULL CHECK (resolution IN ('replayed', 'discarded', 'mended', 'erased')),
    resolved_by text NOT NULL,
    resolved_at timestamptz NOT NULL DEFAULT now(),
    sink text,
    PRIMARY KEY (log, partition, "offset")
);

COMMENT ON TABLE sluice_resolved_letters IS
    'Dead letters that are settled; the letters themselves stay in the log. letter_id tells a recreated topic apart';
COMMENT ON COLUMN sluice_resolved_letters.sink IS 'The sink that could not take what it is about, as far as it was noted';

CREATE TABLE IF NOT EXISTS sluice_parked_letters (
    log text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    letter_id uuid NOT NULL,
    table_name text NOT NULL,
    entity text NOT NULL,
    sink text,
    PRIMARY KEY (log, partition, "offset")
);

COMMENT ON TABLE sluice_parked_letters IS
    'Letters that are open because an entity''s row could not be taken: they are settled when the row comes mended';
COMMENT ON COLUMN sluice_parked_letters.sink IS 'The sink that can not take it; null where the row never became an event';

CREATE INDEX IF NOT EXISTS sluice_parked_letters_entity ON sluice_parked_letters USING hash (entity);

CREATE TABLE IF NOT EXISTS sluice_schedules (
    table_name text PRIMARY KEY,
    every_ms integer NOT NULL CHECK (every_ms > 0),
    request jsonb NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    next_due_at timestamptz NOT NULL DEFAULT now(),
    decided_at timestamptz NOT NULL DEFAULT now(),
    claimed_by text,
    claim uuid,
    claimed_until timestamptz,
    last_run jsonb,
    last_success_at timestamptz
);

COMMENT ON COLUMN sluice_schedules.created_at IS 'When it was made, or last replaced';
COMMENT ON COLUMN sluice_schedules.decided_at IS
    'When next_due_at was decided: where that is still to come, a clock was ahead then, and the schedule is due';
COMMENT ON TABLE sluice_schedules IS 'Syncs that run by themselves, each by the process that claims it when it is due';

CREATE TABLE IF NOT EXISTS sluice_drains (
    consumer_group text NOT NULL,
    owner text NOT NULL,
    state text NOT NULL,
    failing_since timestamptz,
    last_error text,
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer_group, owner)
);

COMMENT ON TABLE sluice_drains IS 'What every process says of its drains; an old word is of a process that is gone';

CREATE TABLE IF NOT EXISTS sluice_erasure (
    salt bytea NOT NULL,
    version uuid NOT NULL
);

COMMENT ON TABLE sluice_erasure IS
    'One row: what the keys of erased entities are digested with, and a version that is another after each erasure';

-- Two of them, since a uuid has 122 bits of chance.
INSERT INTO sluice_erasure
SELECT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'), gen_random_uuid()
WHERE NOT EXISTS (SELECT FROM sluice_erasure);

CREATE TABLE IF NOT EXISTS sluice_erased (
    digest bytea PRIMARY KEY,
    table_name text NOT NULL,
    erased_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE sluice_erased IS
    'Entities that were erased, by salted digests of their keys: whatever comes of them from a log or a source is left out';

CREATE TABLE IF NOT EXISTS sluice_alerts (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    target text,
    rule jsonb NOT NULL,
    table_name text,
    queued_from bigint NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    holds_since timestamptz,
    episode uuid,
    failing_since timestamptz,
    last_error text
);

COMMENT ON TABLE sluice_alerts IS 'What somebody wants to be told of, and where; see src/engine/alerts';
COMMENT ON COLUMN sluice_alerts.table_name IS 'The table whose new versions are queued for it; null for what is no row';
COMMENT ON COLUMN sluice_alerts.queued_from IS 'What was queued up to here came before the alert';
COMMENT ON COLUMN sluice_alerts.holds_since IS 'Since when the condition has held, of what is no row';
COMMENT ON COLUMN sluice_alerts.episode IS 'What was told of and is not over';

CREATE TABLE IF NOT EXISTS sluice_alert_queue (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_name text NOT NULL,
    entity text NOT NULL,
    event uuid NOT NULL,
    versao bigint NOT NULL
);

CREATE INDEX IF NOT EXISTS sluice_alert_queue_entity ON sluice_alert_queue USING hash (entity);

COMMENT ON TABLE sluice_alert_queue IS
    'New versions of rows that no alert was asked about yet; written in the transaction that applies them';

CREATE TABLE IF NOT EXISTS sluice_alert_outbox (
    id uuid PRIMARY KEY,
    alert uuid NOT NULL REFERENCES sluice_alerts ON DELETE CASCADE,
    subject text NOT NULL,
    state text NOT NULL CHECK (state IN ('fired', 'resolved')),
    table_name text,
    event uuid,
    detail text,
    fired_at timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz DEFAULT now(),
    outcome text,
    UNIQUE (alert, subject, state)
);

COMMENT ON TABLE sluice_alert_outbox IS
    'What alerts told or are to tell, each once: an entity for good, anything else for an episode. Holds no row, only its key';
COMMENT ON COLUMN sluice_alert_outbox.due_at IS 'When it is to be sent next; null when it never is again';

CREATE INDEX IF NOT EXISTS sluice_alert_outbox_due ON sluice_alert_outbox (alert, id) WHERE due_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS sluice_leases (
    name text PRIMARY KEY,
    holder text NOT NULL,
    held_until timestamptz NOT NULL
);

COMMENT ON TABLE sluice_leases IS 'Work that one process does at a time, and which';

CREATE TABLE IF NOT EXISTS sluice_housekeeping (
    task text PRIMARY KEY,
    ended_at timestamptz,
    succeeded_at timestamptz,
    removed bigint NOT NULL DEFAULT 0,
    removed_in_all bigint NOT NULL DEFAULT 0,
    error text
);

COMMENT ON TABLE sluice_housekeeping IS 'What is removed for its age, and what came of the last pass';
