//! The tools, a file a group.

mod query;
mod dead_letters;
mod doctor;
mod operate;
mod schedules;
mod rebuild;
mod search;
mod status;
mod sync;
