//! What `serve` offers to MCP clients.

use std::fmt::Write as _;

use clap::{
    Args,
    builder::{PossibleValue, PossibleValuesParser},
};

use crate::{
    config::McpSettings,
    mcp::{ALL_GROUPS, DEFAULT_GROUPS, GROUPS, Offer},
};

#[derive(Debug, Default, Args)]
pub(super) struct OfferOptions {
    /// Offer only tools that change nothing (also SLUICE_READ_ONLY=true)
    #[arg(long)]
    read_only: bool,
    /// Offer these groups of tools, separated by commas (also SLUICE_TOOLS)
    #[arg(long, value_name = "GROUPS", value_delimiter = ',', value_parser = groups())]
    tools: Vec<String>,
    /// Print the tools that would be offered, and end
    #[arg(long)]
    pub(super) list_tools: bool,
    /// Show e-mail addresses, phone numbers and IP addresses instead of masking them (also SLUICE_REVEAL_PII=true)
    #[arg(long)]
    reveal_pii: bool,
}

impl OfferOptions {
    /// What these options and the environment offer together.
    pub(super) fn on(&self, settings: &McpSettings) -> Offer {
        Offer {
            groups: match [&self.tools, &settings.tools].into_iter().find(|groups| !groups.is_empty()) {
                Some(groups) => groups.clone(),
                None => vec![DEFAULT_GROUPS.to_owned()],
            },
            read_only: self.read_only || settings.read_only,
            reveal_pii: self.reveal_pii || settings.reveal_pii,
            reveal_to: settings.reveal_to.clone(),
        }
    }
}

fn groups() -> PossibleValuesParser {
    let sets = [
        (DEFAULT_GROUPS, "what is offered unless told otherwise: all but what operators need"),
        (ALL_GROUPS, "every group"),
    ];
    let groups = GROUPS.iter().map(|group| (group.name, group.about));
    let value = |(name, about): (&'static str, &'static str)| PossibleValue::new(name).help(about);
    PossibleValuesParser::new(sets.into_iter().chain(groups).map(value))
}

/// The tools on offer, for a person.
pub(super) fn listed(offer: &Offer) -> String {
    let mut text = String::new();
    for (group, tools) in offer.tools() {
        let _ = writeln!(text, "{}: {}", group.name, group.about);
        for tool in tools {
            let hints = tool.annotations.unwrap_or_default();
            let effect = match (hints.read_only_hint, hints.destructive_hint) {
                (Some(true), _) => "reads",
                (_, Some(false)) => "writes",
                _ => "destroys",
            };
            let _ = writeln!(text, "  {:<34} {effect:<9} {}", tool.name, tool.title.unwrap_or_default());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: OfferOptions,
    }

    fn offer(arguments: &[&str]) -> Result<Offer, String> {
        let settings = McpSettings {
            read_only: false,
            reveal_pii: false,
            reveal_to: BTreeSet::new(),
            tools: Vec::new(),
        };
        Line::try_parse_from(std::iter::once(&"serve").chain(arguments))
            .map(|line| line.options.on(&settings))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_unknown_group_is_answered_with_those_that_exist() {
        let error = offer(&["--tools", "sync,everything"]).expect_err("no such group");
        for group in GROUPS {
            assert!(error.contains("everything") && error.contains(group.name), "{error}");
        }
    }

    #[test]
    fn the_list_shows_every_tool_that_would_be_served_and_what_it_does() {
        let all = listed(&offer(&[]).expect("options"));
        assert!(all.contains("cancel_sync") && all.contains("writes"), "{all}");
        let fewer = listed(&offer(&["--tools", "sync", "--read-only"]).expect("options"));
        assert!(fewer.contains("get_sync") && !fewer.contains("cancel_sync"), "{fewer}");
        assert!(!fewer.contains("check_kafka_lag"), "{fewer}");
    }
}
