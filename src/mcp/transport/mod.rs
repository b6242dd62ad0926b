//! How clients reach the server.

pub mod http;
pub mod message;
mod opening;
pub mod stdio;
