//! The tools, a file a group.

mod query;
mod status;
mod sync;

use rmcp::handler::server::router::tool::ToolRouter;

use super::SluiceServer;

/// Tools that an operator offers together.
pub struct Group {
    pub name: &'static str,
    /// What its tools are for, after the name of a group in a list.
    pub about: &'static str,
    pub(super) router: fn() -> ToolRouter<SluiceServer>,
}

/// Every group, in the order in which people are told of them.
pub const GROUPS: &[Group] = &[
    Group {
        name: "sync",
        about: "bring in what is new, follow and stop it",
        router: SluiceServer::sync_tools,
    },
    Group {
        name: "status",
        about: "how the source and the pipeline are",
        router: SluiceServer::status_tools,
    },
    Group { name: "query", about: "events, entities and SQL, read only", router: SluiceServer::query_tools },
];
