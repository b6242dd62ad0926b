//! The tools, a file a group.

mod status;
mod sync;
