//! The tools, a file a group.

mod dead_letters;
mod doctor;
mod operate;
mod query;
mod rebuild;
mod schedules;
mod search;
mod status;
mod sync;
