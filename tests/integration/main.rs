//! What is promised of the outside systems, held against real ones.

// Clippy's own exception for tests does not reach the helpers around them.
#![allow(clippy::expect_used)]

mod index_elasticsearch;
mod index_elasticsearch_faults;
mod support;
