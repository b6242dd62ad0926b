-- What operators asked for: it outlives every process.

CREATE TABLE IF NOT EXISTS sluice_pauses (
    consumer_group text PRIMARY KEY,
    paused_by text NOT NULL,
    since text NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS sluice_resolved_letters (
    log text NOT NULL,
    partition integer NOT NULL,
    "offset" integer NOT NULL,
    letter_id text NOT NULL,
    resolution text NOT NULL,
    resolved_by text NOT NULL,
    resolved_at text NOT NULL,
    -- The sink that could not take what it is about, as far as it was noted.
    sink text,
    PRIMARY KEY (log, partition, "offset")
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS sluice_parked_letters (
    log text NOT NULL,
    partition integer NOT NULL,
    "offset" integer NOT NULL,
    letter_id text NOT NULL,
    table_name text NOT NULL,
    entity text NOT NULL,
    sink text,
    PRIMARY KEY (log, partition, "offset")
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS sluice_parked_letters_entity ON sluice_parked_letters (log, table_name, entity);

CREATE TABLE IF NOT EXISTS sluice_schedules (
    table_name text PRIMARY KEY,
    every_ms integer NOT NULL,
    request text NOT NULL,
    created_by text NOT NULL,
    -- When it was made, or last replaced.
    created_at text NOT NULL,
    next_due_at text NOT NULL,
    -- Where that is still to come, a clock was ahead then, and the schedule is due.
    decided_at text NOT NULL,
    claimed_by text,
    claim text,
    claimed_until text,
    last_run text,
    last_success_at text
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS sluice_drains (
    consumer_group text NOT NULL,
    owner text NOT NULL,
    state text NOT NULL,
    failing_since text,
    last_error text,
    seen_at text NOT NULL,
    PRIMARY KEY (consumer_group, owner)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS sluice_erasure (salt blob NOT NULL, version text NOT NULL);
INSERT INTO sluice_erasure SELECT randomblob(32), '00000000-0000-0000-0000-000000000000'
WHERE NOT EXISTS (SELECT 1 FROM sluice_erasure);

CREATE TABLE IF NOT EXISTS sluice_erased (
    digest blob PRIMARY KEY,
    table_name text NOT NULL,
    erased_at text NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS sluice_alerts (
    id text PRIMARY KEY,
    name text NOT NULL UNIQUE,
    target text,
    rule text NOT NULL,
    table_name text,
    queued_from integer NOT NULL,
    created_by text NOT NULL,
    created_at text NOT NULL,
    holds_since text,
    episode text,
    failing_since text,
    last_error text
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS sluice_alert_queue (
    position integer PRIMARY KEY AUTOINCREMENT,
    table_name text NOT NULL,
    entity text NOT NULL,
    event text NOT NULL,
    versao integer NOT NULL
);

CREATE TABLE IF NOT EXISTS sluice_alert_outbox (
    id text PRIMARY KEY,
    alert text NOT NULL,
    subject text NOT NULL,
    state text NOT NULL,
    table_name text,
    event text,
    detail text,
    fired_at text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    due_at text,
    outcome text,
    UNIQUE (alert, subject, state)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS sluice_alert_outbox_due ON sluice_alert_outbox (alert, id) WHERE due_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS sluice_leases (
    name text PRIMARY KEY,
    holder text NOT NULL,
    held_until text NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS sluice_housekeeping (
    task text PRIMARY KEY,
    ended_at text,
    succeeded_at text,
    removed integer NOT NULL DEFAULT 0,
    removed_in_all integer NOT NULL DEFAULT 0,
    error text
) WITHOUT ROWID;
