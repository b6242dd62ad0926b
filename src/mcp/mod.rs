//! The MCP server: the engine as tools.

mod access;
mod answer;
mod bounded;
mod consent;
mod schema;
mod server;
mod tools;
pub mod transport;
mod views;

pub use access::Access;
pub use server::SluiceServer;
