-- What becomes of a table's columns at the source.

CREATE TABLE IF NOT EXISTS sluice_row_columns (
    table_name text NOT NULL,
    project text NOT NULL,
    columns text[] NOT NULL,
    gone jsonb NOT NULL,
    PRIMARY KEY (table_name, project)
);

COMMENT ON TABLE sluice_row_columns IS 'The columns that the rows of each table had when they were last read from a project, and those that earlier rows had';
