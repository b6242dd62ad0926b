//! The tools, a file a group.

mod operate;
mod status;
mod sync;
