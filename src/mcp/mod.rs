//! The MCP server: the engine as tools.

mod answer;
mod bounded;
mod schema;
mod server;
mod tools;
mod views;

pub use server::SluiceServer;
