//! The MCP server: the engine as tools.

mod access;
mod answer;
mod consent;
mod offer;
mod output;
mod schema;
mod server;
mod tools;
pub mod transport;

pub use access::Access;
pub use offer::Offer;
pub use server::SluiceServer;
pub use tools::{GROUPS, Group};
