CREATE TABLE IF NOT EXISTS sluice_row_columns (
    table_name text PRIMARY KEY,
    columns text NOT NULL,
    gone text NOT NULL
) WITHOUT ROWID;
