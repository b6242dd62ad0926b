//! What every store promises, on each adapter: the embedded one, which needs nothing, and Postgres.

mod agreement;
mod applying;
mod dialect;
mod erasing;
mod forgetting;
mod leasing;
mod questions;
mod tables;
mod trimming;
mod verbatim;
