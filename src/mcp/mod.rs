//! The MCP server: the engine as tools.

mod answer;
mod schema;
mod server;
mod tools;

pub use server::SluiceServer;
