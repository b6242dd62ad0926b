//! What a client of this server can do next, in the names of its tools.

use crate::next_step::{LOOK_AT_SOURCE, NextStep};

/// A step as a client can take it; what only an operator can do says so.
pub(super) fn worded(step: &NextStep) -> String {
    match step {
        NextStep::Words(words) => words.clone(),
        NextStep::SeeStatus => "look at get_pipeline_status".to_owned(),
        NextStep::ListSyncs => "list the latest with list_syncs".to_owned(),
        NextStep::FollowSync(_) => "wait for it with get_sync or stop it with cancel_sync".to_owned(),
        NextStep::FirstSync { table } => format!(
            "call sync_table of {table} with hours_ago: 876600 and limit: 1000000, or {}",
            operators(&format!("run `sluice sync {table} --full --wait`"))
        ),
        NextStep::Sync { table } => format!("call sync_table of {table}, or schedule_sync"),
        NextStep::Reconcile { table } => format!("call reconcile_table of {table}"),
        NextStep::AllowDeletes { table, rows } => format!(
            "{LOOK_AT_SOURCE}, ask the user, then call reconcile_table of {table} with allow_deletes: {rows}"
        ),
        NextStep::FindEntity { table } => {
            format!("check it, find it with query_store, or bring in what is new with sync_table of {table}")
        }
        NextStep::SyncWhole { table } => operators(&format!("run `sluice sync {table} --full`")),
        NextStep::DefineTable { name } => {
            operators(&format!("run `sluice tables discover {name}`, which defines it if the project has it"))
        }
        NextStep::ListLetters => "see list_dead_letters".to_owned(),
        NextStep::SettleLetters => {
            "list_dead_letters shows why; mend the cause, then replay_dead_letters or discard_dead_letters"
                .to_owned()
        }
        NextStep::ResumeSink { sink } => format!("call resume_sink of {sink} once it may be drained again"),
        NextStep::WatchLag => format!(
            "if check_kafka_lag does not shrink, get_pipeline_status has the drain's last error; where no drain runs {}",
            operators("start `sluice worker`")
        ),
        NextStep::RestartDrainingProcess => {
            operators("restart the `sluice worker` that drains it, or serve without --without-drains")
        }
        NextStep::StartWriter => operators(
            "start the process that writes it, `sluice serve` or `sluice worker`, with the same definitions",
        ),
        NextStep::StartWorker => operators("start `sluice worker`, which drains and runs schedules"),
        NextStep::Migrate => operators(
            "run `sluice migrate` with this process's table definitions; a worker does so when it starts",
        ),
        NextStep::FillIndex { index } => format!("call rebuild_index of {index}"),
        NextStep::RebuildIndex { index } => format!(
            "call rebuild_index of {index}, or give the column its old type back in the table's definition"
        ),
    }
}

fn operators(step: &str) -> String {
    format!("ask whoever runs sluice to {step}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        mcp::GROUPS,
        next_step::testing::{one_of_each, texts_of_code},
    };

    fn tools() -> BTreeSet<String> {
        let tools = GROUPS.iter().flat_map(|group| (group.router)().list_all());
        tools.map(|tool| tool.name.into_owned()).collect()
    }

    fn names_in(text: &str) -> impl Iterator<Item = &str> {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.contains('_'))
    }

    #[test]
    fn every_step_names_only_tools_that_exist() {
        let tools = tools();
        for step in one_of_each() {
            let text = worded(&step);
            // What a colon follows is an argument.
            for name in text.split_whitespace().filter(|word| !word.ends_with(':')).flat_map(names_in) {
                assert!(tools.contains(name), "{step:?}: there is no tool {name} in {text:?}");
            }
        }
    }

    #[test]
    fn no_code_but_the_fronts_names_a_tool_in_a_text() {
        let tools = tools();
        let mut named = Vec::new();
        for (path, text) in texts_of_code() {
            if !path.starts_with("mcp") && !path.starts_with("cli") {
                let found = names_in(&text).filter(|name| tools.contains(*name));
                named.extend(found.map(|name| format!("{}: {name} in {text:?}", path.display())));
            }
        }
        assert_eq!(named, Vec::<String>::new());
    }
}
