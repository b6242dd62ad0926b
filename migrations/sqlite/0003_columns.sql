CREATE TABLE IF NOT EXISTS sluice_row_columns (
    table_name text NOT NULL,
    project text NOT NULL,
    columns text NOT NULL,
    gone text NOT NULL,
    PRIMARY KEY (table_name, project)
) WITHOUT ROWID;
