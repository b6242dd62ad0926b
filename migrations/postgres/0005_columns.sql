-- What becomes of a table's columns at the source.

CREATE TABLE IF NOT EXISTS sluice_row_columns (
    table_name text PRIMARY KEY,
    columns text[] NOT NULL,
    gone text[] NOT NULL
);

COMMENT ON TABLE sluice_row_columns IS 'The columns that the rows of each table had when they were last read, and those that earlier rows had';
