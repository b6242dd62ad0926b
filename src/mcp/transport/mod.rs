//! How clients reach the server besides stdio, which needs nothing of ours.

pub mod http;
