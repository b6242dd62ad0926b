//! The index port: a sink whose documents people search.

pub mod elasticsearch;
