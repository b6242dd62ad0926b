//! The harness: real servers, and ones that misbehave on cue.

pub mod elasticsearch;
pub mod events;
pub mod fake_http;
