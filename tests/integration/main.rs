//! Behaviour, shown on real services: a Kafka broker, a PostgreSQL server, an Elasticsearch or OpenSearch server.
//!
//! `tools/services start` starts them and `eval "$(tools/services env)"` leads here; `tools/test` does both. Without
//! them these tests fail: they never skip.

// A test that can't go on should say so and stop.
#![allow(clippy::expect_used)]

mod advice;
mod ages;
mod alerts;
mod batches_in_flight;
mod changed_definitions;
mod changing_source;
mod dead_letters;
#[cfg(unix)]
mod embedded_cli;
mod embedded_folder;
mod embedded_kills;
mod embedded_whole_way;
mod erasure;
mod exports;
mod faults;
mod http;
mod identity;
mod index_conformance;
mod index_elasticsearch;
mod index_elasticsearch_faults;
mod index_questions;
mod index_tantivy;
mod log_conformance;
mod log_kafka;
#[cfg(unix)]
mod logs;
mod mcp;
mod mcp_queries;
mod mcp_search;
mod operations;
mod parked_once;
mod processes;
mod questions_postgres;
mod rebuild;
mod reconcile;
mod refused_commits;
mod reports;
mod requests;
#[cfg(unix)]
mod rotation;
mod schedules;
mod source_supabase;
mod status;
mod stdio;
mod store_conformance;
mod store_operations;
mod store_postgres;
mod store_postgres_copies;
mod store_sqlite_sql;
mod support;
mod sync;
mod text_keys;
mod traces;
mod trimming;
mod unknown_table;
mod untidy_rows;
mod workers;
