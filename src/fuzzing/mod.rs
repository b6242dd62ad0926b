//! What the fuzz targets call: functions that panic when a target's property does not hold. See `fuzz/README.md`.

mod lucene;
mod sql;

pub use self::{
    lucene::{lucene, words},
    sql::{PassedSql, SCHEMA, is_allowed_function, is_allowed_type, passed_sql, sql_check},
};
pub use crate::mcp::transport::stdio::framing;
