//! Which of the tools a server has: all of them, or those its operator picked.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use chrono_tz::Tz;
use rmcp::{
    ErrorData,
    handler::server::router::tool::ToolRouter,
    model::{CallToolRequestParams, CallToolResponse, Extensions, Tool},
};

use super::{
    Access, SluiceServer,
    answer::{ToolError, not_permitted},
    arguments::{Misplaced, coerced, nearest},
    compact,
    tools::{GROUPS, Group, query},
};

/// Every group.
pub const ALL_GROUPS: &str = "all";

/// The groups that are offered where nobody picks any: those for operators are left out.
pub const DEFAULT_GROUPS: &str = "default";

/// What stands for what alerts send, where contacts are shown to some.
pub(super) const ALERTS: &str = "alerts";

/// What an operator offers to clients.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// The names of groups; [`DEFAULT_GROUPS`] stands for those that are offered where nobody picks any, [`ALL_GROUPS`] or
    /// nothing for every group.
    pub groups: Vec<String>,
    /// Leave out what changes anything.
    pub read_only: bool,
    /// Show e-mail addresses, phone numbers and IP addresses as they are.
    pub reveal_pii: bool,
    /// Show them in the answers of these tools, and to whoever has one of these tokens, named as `token:vendas`.
    pub reveal_to: BTreeSet<String>,
}

impl Offer {
    /// A tool whose answers were to show contacts and that does not exist.
    pub fn unknown_revealed(&self) -> Option<&str> {
        let exists = |name: &str| GROUPS.iter().any(|group| (group.router)().has_route(name));
        let is_other = |name: &str| name.starts_with("token:") || name == ALERTS;
        self.reveal_to.iter().map(String::as_str).find(|name| !is_other(name) && !exists(name))
    }

    /// A group that was picked and does not exist.
    pub fn unknown_group(&self) -> Option<&str> {
        let exists = |name: &str| GROUPS.iter().any(|group| group.name == name);
        let mut names = self.groups.iter().map(String::as_str);
        names.find(|name| ![ALL_GROUPS, DEFAULT_GROUPS].contains(name) && !exists(name))
    }

    fn has(&self, group: &Group) -> bool {
        let names = |name: &String| match name.as_str() {
            ALL_GROUPS => true,
            DEFAULT_GROUPS => !group.on_request,
            name => name == group.name,
        };
        self.groups.is_empty() || self.groups.iter().any(names)
    }

    /// The tools on offer, a group at a time, each group's in the order of their names.
    pub fn tools(&self) -> Vec<(&'static Group, Vec<Tool>)> {
        let access = if self.read_only { Access::ReadOnly } else { Access::Full };
        GROUPS
            .iter()
            .filter(|group| self.has(group))
            .map(|group| {
                let mut tools = (group.router)().list_all();
                tools.retain(|tool| access.allows(tool));
                (group, tools)
            })
            .filter(|(_, tools)| !tools.is_empty())
            .collect()
    }
}

/// The tools of a server, and why it has no others.
pub(super) struct Toolbox {
    pub(super) router: ToolRouter<SluiceServer>,
    left_out: BTreeMap<Cow<'static, str>, LeftOut>,
}

enum LeftOut {
    Group(&'static str),
    Writes,
}

impl Toolbox {
    pub(super) fn new(offer: &Offer) -> Self {
        let mut router = ToolRouter::new();
        let mut left_out = BTreeMap::new();
        for group in GROUPS {
            for route in (group.router)() {
                if !offer.has(group) {
                    left_out.insert(route.attr.name.clone(), LeftOut::Group(group.name));
                } else if offer.read_only && !Access::ReadOnly.allows(&route.attr) {
                    left_out.insert(route.attr.name.clone(), LeftOut::Writes);
                } else {
                    let mut route = route;
                    compact::tool(&mut route.attr);
                    router.add_route(route);
                }
            }
        }
        Self { router, left_out }
    }

    /// Says which dialect of SQL the store speaks right now.
    pub(super) fn speaking(mut self, store: &str, zone: Tz) -> Self {
        let dialect = if store == "postgres" { "PostgreSQL's dialect" } else { query::SQLITE_DIALECT };
        let dialect =
            format!("{dialect}; days are those of {zone}: (created_at AT TIME ZONE '{zone}')::date");
        for route in self.router.map.values_mut().filter(|route| route.attr.name == "query_store") {
            let description = route.attr.description.as_deref().unwrap_or_default();
            route.attr.description = Some(description.replacen(query::ANY_DIALECT, &dialect, 1).into());
        }
        self
    }

    /// The tools for a client with these rights, always in the same order.
    pub(super) fn list(&self, access: Access) -> Vec<Tool> {
        let mut tools = self.router.list_all();
        tools.retain(|tool| access.allows(tool));
        tools
    }

    /// Whether a client with these rights may call a tool.
    pub(super) fn offers(&self, tool: &str, access: Access) -> bool {
        self.router.get(tool).is_some_and(|tool| access.allows(tool))
    }

    /// What to say to whoever calls a tool that is nobody's: the one that was probably meant, or where they are listed.
    pub(super) fn unknown(&self, tool: &str, access: Access) -> Option<ErrorData> {
        if self.router.has_route(tool) || self.left_out.contains_key(tool) {
            return None;
        }
        let offered = self.list(access);
        let instead = match nearest(tool, offered.iter().map(|tool| &*tool.name)) {
            Some(name) => format!("did you mean `{name}`?"),
            None => "tools/list tells which there are".to_owned(),
        };
        Some(ErrorData::invalid_params(format!("there is no tool `{tool}`; {instead}"), None))
    }

    /// Makes the arguments of a call what the tool's published schema says.
    ///
    /// # Errors
    /// When they plainly mean something else, or nothing.
    pub(super) fn coerce(
        &self,
        call: &mut CallToolRequestParams,
        extensions: &Extensions,
    ) -> Result<(), ToolError> {
        if let Some(misplaced) = extensions.get::<Misplaced>() {
            return Err(ToolError::argument("arguments", misplaced.problem()));
        }
        if let Some(tool) = self.router.get(&call.name)
            && let Some(given) = call.arguments.take()
        {
            call.arguments = Some(coerced(&tool.input_schema, given)?);
        }
        Ok(())
    }

    /// The answer to a call of a tool that exists, but not here or not for this client.
    pub(super) fn refusal(&self, tool: &str, access: Access) -> Option<CallToolResponse> {
        let why = match self.left_out.get(tool) {
            Some(LeftOut::Group(group)) => format!(
                "belongs to the tool group `{group}`, which this server does not offer; the operator can offer it with \
                 `sluice serve --tools default,{group}` (or SLUICE_TOOLS)"
            ),
            Some(LeftOut::Writes) => "changes something, and this server only reads; the operator can start it without \
                                      --read-only (or SLUICE_READ_ONLY)"
                .to_owned(),
            None if self.router.get(tool).is_some_and(|tool| !access.allows(tool)) => {
                "changes something, and this client may only read; ask the operator for a token with full rights (for a \
                 page in a browser without a token: for SLUICE_HTTP_PAGES_MAY_WRITE=true), or use a tool that \
                 tools/list shows"
                    .to_owned()
            }
            None => return None,
        };
        Some(not_permitted(tool, &why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(offer: &Offer) -> Vec<String> {
        Toolbox::new(offer).list(Access::Full).into_iter().map(|tool| tool.name.into_owned()).collect()
    }

    fn refusal(offer: &Offer, tool: &str, access: Access) -> Option<String> {
        match Toolbox::new(offer).refusal(tool, access)? {
            CallToolResponse::Complete(result) => {
                assert_eq!(result.is_error, Some(true));
                Some(
                    result
                        .content
                        .iter()
                        .filter_map(|block| block.as_text())
                        .map(|t| t.text.as_str())
                        .collect(),
                )
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_tool_says_whether_it_reads_and_has_a_name_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for group in GROUPS {
            for tool in (group.router)().list_all() {
                assert!(seen.insert(tool.name.clone()), "{} is there twice", tool.name);
                let hints = tool.annotations.expect("annotations");
                assert!(hints.read_only_hint.is_some(), "{}", tool.name);
                if hints.read_only_hint == Some(false) {
                    assert!(hints.destructive_hint.is_some(), "{}", tool.name);
                }
            }
        }
    }

    #[test]
    fn a_server_that_only_reads_has_no_tool_that_writes_and_says_why() {
        let offer = Offer { read_only: true, ..Offer::default() };
        let names = names(&offer);
        assert!(names.iter().any(|name| name == "get_sync"));
        assert!(!names.iter().any(|name| name == "sync_leads_from_supabase"));
        let why = refusal(&offer, "sync_leads_from_supabase", Access::Full).expect("a refusal");
        assert!(why.contains("--read-only"), "{why}");
        assert!(refusal(&offer, "get_sync", Access::Full).is_none());
    }

    #[test]
    fn a_group_left_out_is_named_to_whoever_calls_its_tools() {
        let offer = Offer { groups: vec!["status".to_owned()], ..Offer::default() };
        assert!(!names(&offer).iter().any(|name| name == "get_sync"));
        let why = refusal(&offer, "get_sync", Access::Full).expect("a refusal");
        assert!(why.contains("`sync`") && why.contains("--tools"), "{why}");
    }

    #[test]
    fn the_dialect_of_the_store_at_hand_is_described() {
        let description = |store: &str| {
            let toolbox = Toolbox::new(&Offer::default()).speaking(store, Tz::UTC);
            let tool = toolbox.list(Access::Full).into_iter().find(|tool| tool.name == "query_store");
            tool.expect("the tool").description.expect("a description").into_owned()
        };
        let (postgres, sqlite) = (description("postgres"), description("sqlite"));
        assert!(postgres.contains("in PostgreSQL's dialect;") && !postgres.contains("SQLite"), "{postgres}");
        for spelled in [
            "date_trunc",
            "now() - interval '7 days'",
            "ILIKE",
            "unnest(interesse)",
            "ORDER BY lower(nome)",
            "in SQLite's dialect;",
        ] {
            assert!(sqlite.contains(spelled), "{sqlite}");
        }
        assert!(!sqlite.contains("where sluice runs embedded"), "{sqlite}");
    }

    #[test]
    fn a_token_that_only_reads_is_told_so_and_an_unknown_tool_is_nobodys() {
        let offer = Offer::default();
        let why = refusal(&offer, "cancel_sync", Access::ReadOnly).expect("a refusal");
        assert!(why.contains("token"), "{why}");
        let toolbox = Toolbox::new(&offer);
        assert!(toolbox.offers("get_sync", Access::ReadOnly));
        assert!(
            !toolbox.offers("cancel_sync", Access::ReadOnly) && toolbox.offers("cancel_sync", Access::Full)
        );
        assert!(refusal(&offer, "drop_everything", Access::ReadOnly).is_none());
    }

    #[test]
    fn an_unknown_tool_is_told_of_the_one_that_was_meant() {
        let toolbox = Toolbox::new(&Offer::default());
        let told = |tool| toolbox.unknown(tool, Access::Full).map(|error| error.message.into_owned());
        for (tool, expected) in [
            ("get_spark_metrics", "`get_engine_metrics`"),
            ("sync_leads", "`sync_leads_from_supabase`"),
            ("check_lag", "`check_kafka_lag`"),
            ("drop_everything", "tools/list"),
        ] {
            let said = told(tool).expect("an error");
            assert!(said.contains(&format!("`{tool}`")) && said.contains(expected), "{said}");
        }
        assert_eq!(told("get_sync"), None);
        let reader = toolbox.unknown("cancel_syncs", Access::ReadOnly).expect("an error");
        assert!(!reader.message.contains("`cancel_sync`"), "what it may not call is not offered");
    }

    #[test]
    fn the_list_of_tools_stays_small() {
        // Every client pays for it in every conversation: 7,500 tokens at most, and 5,500 where the operator asked for no
        // more. Of o200k_base one is 4.1 of these characters.
        for (groups, most) in [(ALL_GROUPS, 30_700), (DEFAULT_GROUPS, 22_000)] {
            stays_small(groups, most);
        }
    }

    fn stays_small(groups: &str, most: usize) {
        let offer = Offer { groups: vec![groups.to_owned()], ..Offer::default() };
        let tools = Toolbox::new(&offer).list(Access::Full);
        let sizes: Vec<(usize, &str)> = tools
            .iter()
            .map(|tool| (serde_json::to_string(tool).expect("JSON").chars().count(), &*tool.name))
            .collect();
        let total: usize = sizes.iter().map(|(size, _)| size).sum();
        assert!(total < most, "{groups}: {total} characters: {sizes:?}");
    }

    #[test]
    fn tools_are_always_listed_in_the_same_order() {
        let all = names(&Offer::default());
        assert!(all.is_sorted(), "{all:?}");
        assert_eq!(all, names(&Offer::default()));
    }
}
