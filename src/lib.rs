//! sluice moves leads and chat sessions from Supabase through Kafka into Postgres and Elasticsearch, once each,
//! and lets an assistant run and question that pipeline over MCP.
//!
//! Dependencies point inwards: [`domain`] knows nothing; [`engine`] knows the domain and the ports ([`source`],
//! [`log`], [`sink`], [`store`], [`index`]); an adapter knows one port and one outside system.

// Output goes through the command line's own functions: these panic where nobody reads it.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod authorities;
mod backoff;
pub mod cli;
pub mod config;
pub mod data_folder;
mod deadline;
pub mod domain;
pub mod embedded;
pub mod engine;
pub mod export;
mod fail_point;
pub mod fault;
#[doc(hidden)]
pub mod fuzzing;
mod http_client;
pub mod identity;
pub mod index;
pub mod language;
mod lock_file;
pub mod log;
mod logging;
pub mod mcp;
pub mod next_step;
pub mod parts;
mod private_files;
mod redaction;
pub mod sink;
pub mod source;
mod sql_walk;
pub mod store;
pub mod streaming;
pub mod tabular;
mod text;
mod traces;
