//! The tools, a file a group.

mod rebuild;
mod search;
mod status;
mod sync;
