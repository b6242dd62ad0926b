-- The logins that may read what questions may ask of: every process that migrates grants them the tables that are new.

CREATE TABLE IF NOT EXISTS sluice_readers (
    login text PRIMARY KEY,
    since timestamptz NOT NULL DEFAULT now()
);

-- The id tells this database from another of the same shape: every login may read a comment.
DO $$ BEGIN
    EXECUTE format(
        'COMMENT ON TABLE sluice_readers IS %L',
        'Logins that questions run under: SELECT on the tables that can be queried, and nothing else; ' || gen_random_uuid()
    );
END $$;
