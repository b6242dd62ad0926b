//! The tools, a file a group.

mod query;
mod status;
mod sync;
