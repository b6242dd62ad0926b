//! The MCP server: the engine as tools.

mod access;
mod answer;
mod arguments;
mod bounded;
mod compact;
mod completions;
mod consent;
mod docs;
mod entity;
mod export;
mod logs;
mod next_step;
mod offer;
mod output;
mod page;
mod principal;
mod prompts;
mod quota;
mod requests;
mod resources;
mod schema;
mod server;
mod session;
mod tasks;
mod timeline;
mod tools;
pub mod transport;
mod views;
mod webhook;

#[cfg(test)]
mod tests;

pub use access::Access;
pub use docs::documentation;
pub use export::{Reveals, export_mask};
pub use logs::ClientLog;
pub use offer::{ALL_GROUPS, DEFAULT_GROUPS, Offer};
pub(crate) use output::Masking;
pub use server::SluiceServer;
pub use tools::{GROUPS, Group};
pub use webhook::Webhooks;
