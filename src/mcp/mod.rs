//! The MCP server: the engine as tools.

mod access;
mod answer;
mod consent;
mod schema;
mod server;
mod tools;

pub use access::Access;
pub use server::SluiceServer;
