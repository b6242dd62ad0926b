//! The tools, a file a group.

mod search;
mod status;
mod sync;
