//! The tools, a file a group.

pub(super) mod alerts;
pub(super) mod dead_letters;
mod doctor;
mod erase;
mod export;
mod operate;
pub(super) mod query;
mod rebuild;
mod reconcile;
mod report;
mod schedules;
mod search;
mod status;
mod sync;
mod waiting;

use rmcp::handler::server::router::tool::ToolRouter;

use super::SluiceServer;

/// Tools that an operator offers together.
pub struct Group {
    pub name: &'static str,
    /// What its tools are for, after the name of a group in a list.
    pub about: &'static str,
    /// For operators: offered where it is asked for, since every client pays for the list in every conversation.
    pub on_request: bool,
    pub(super) router: fn() -> ToolRouter<SluiceServer>,
}

/// Every group, in the order in which people are told of them.
pub const GROUPS: &[Group] = &[
    Group {
        name: "sync",
        about: "bring in what is new, follow and stop it",
        on_request: false,
        router: SluiceServer::sync_tools,
    },
    Group {
        name: "status",
        about: "how the source and the pipeline are",
        on_request: false,
        router: SluiceServer::status_tools,
    },
    Group {
        name: "query",
        about: "reports of leads, events, entities, SQL and files of them, read only",
        on_request: false,
        router: || SluiceServer::query_tools() + SluiceServer::report_tools() + SluiceServer::export_tools(),
    },
    Group {
        name: "operate",
        about: "metrics, past syncs, pauses and restarts of sinks, events by hand",
        on_request: true,
        router: SluiceServer::operate_tools,
    },
    Group {
        name: "dead_letters",
        about: "what a sink could not take: read, replay, discard",
        on_request: false,
        router: SluiceServer::dead_letter_tools,
    },
    Group {
        name: "schedule",
        about: "syncs that run by themselves",
        on_request: true,
        router: SluiceServer::schedule_tools,
    },
    Group {
        name: "alerts",
        about: "webhooks that are told of new leads, lag, late syncs and dead letters",
        on_request: true,
        router: SluiceServer::alert_tools,
    },
    Group {
        name: "doctor",
        about: "examine every part and say what to do",
        on_request: false,
        router: SluiceServer::doctor_tools,
    },
    Group {
        name: "search",
        about: "find documents in the index, and count them",
        on_request: false,
        router: SluiceServer::search_tools,
    },
    Group {
        name: "reconcile",
        about: "prove that both sinks have what the source has, and mend what differs",
        on_request: true,
        router: SluiceServer::reconcile_tools,
    },
    Group {
        name: "erase",
        about: "erase a person from every sink, for good",
        on_request: true,
        router: SluiceServer::erase_tools,
    },
    Group {
        name: "rebuild",
        about: "make an index anew from the log",
        on_request: true,
        router: SluiceServer::rebuild_tools,
    },
];
