//! The MCP server: the engine as tools.

mod answer;
mod consent;
mod schema;
mod server;
mod tools;

pub use server::SluiceServer;
