//! The harness: real servers, and ones that misbehave on cue.

pub mod elasticsearch;
pub mod fake_http;
