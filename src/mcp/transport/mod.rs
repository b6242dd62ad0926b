//! How clients reach the server.

pub mod http;
pub mod message;
pub mod stdio;
mod strict;
