//! The MCP server: the engine as tools.

mod access;
mod answer;
mod schema;
mod server;
mod tools;
pub mod transport;

pub use access::Access;
pub use server::SluiceServer;
