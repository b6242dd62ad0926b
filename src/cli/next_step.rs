//! What a person at the command line can do next, in the names of its commands.

use super::Failure;
use crate::{
    engine::EngineError,
    fault::Fault,
    next_step::{LOOK_AT_SOURCE, NextStep},
};

/// A step as a person can take it.
pub(super) fn worded(step: &NextStep) -> String {
    match step {
        NextStep::Words(words) => words.clone(),
        NextStep::SeeStatus => "look at `sluice status`".to_owned(),
        NextStep::ListSyncs => "`sluice status` lists the latest".to_owned(),
        NextStep::FollowSync(_) => {
            "wait for it, `sluice status` shows it, or stop it with Ctrl-C where it was started".to_owned()
        }
        NextStep::FirstSync { table } => format!("run `sluice sync {table} --full --wait`"),
        NextStep::Sync { table } => format!("run `sluice sync {table}`"),
        NextStep::Reconcile { table } => format!("run `sluice reconcile {table} --wait`"),
        NextStep::AllowDeletes { table, rows } => {
            format!("{LOOK_AT_SOURCE}, run `sluice reconcile {table} --wait --allow-deletes {rows}`")
        }
        NextStep::FindEntity { table } => format!(
            "check it, look for it with `sluice sql`, or bring in what is new with `sluice sync {table}`"
        ),
        NextStep::SyncWhole { table } => format!("run `sluice sync {table} --full`"),
        NextStep::DefineTable { name } => format!("`sluice tables discover {name}` defines another"),
        NextStep::ListLetters => format!("see which there are, {OVER_MCP}"),
        NextStep::SettleLetters => {
            format!("see why they were parked, mend the cause, then replay or discard them, {OVER_MCP}")
        }
        NextStep::ResumeSink { sink } => format!("resume {sink} once it may be drained again, {OVER_MCP}"),
        NextStep::WatchLag => {
            "if it does not shrink, start `sluice worker` or look at the drain's last error in its log"
                .to_owned()
        }
        NextStep::RestartDrainingProcess => "restart the `sluice worker` that drains it".to_owned(),
        NextStep::StartWriter => {
            "start the process that writes it, `sluice serve` or `sluice worker`, with the same definitions"
                .to_owned()
        }
        NextStep::StartWorker => "start `sluice worker`, which drains and runs schedules".to_owned(),
        NextStep::Migrate => {
            "run `sluice migrate` with this process's table definitions; a worker does so when it starts"
                .to_owned()
        }
        NextStep::FillIndex { index } => format!("rebuild the index {index}, {OVER_MCP}"),
        NextStep::RebuildIndex { index } => format!(
            "rebuild the index {index}, {OVER_MCP}, or give the column its old type back in the table's definition"
        ),
    }
}

/// There is no command for it.
const OVER_MCP: &str = "from an MCP client (`sluice client-config` connects one)";

/// Why a command failed, with what a person can do about it.
pub(super) fn failure(failure: &Failure) -> String {
    let remark = match (failure.downcast_ref::<EngineError>(), failure.downcast_ref::<Fault>()) {
        (Some(error), _) => error.remark(),
        (_, Some(fault)) => fault.remark(),
        _ => return failure.to_string(),
    };
    remark.worded(worded)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::{
        cli::Arguments,
        next_step::testing::{one_of_each, texts_of_code},
    };

    #[test]
    fn every_step_is_a_command_that_the_parser_takes() {
        for step in one_of_each() {
            let text = worded(&step);
            for command in text.split('`').skip(1).step_by(2) {
                let parsed = Arguments::command().try_get_matches_from(command.split(' '));
                let is_known = parsed.as_ref().err().is_none_or(|error| {
                    // What is left out of a command that needs more is no mistake of its name.
                    error.kind() == clap::error::ErrorKind::MissingRequiredArgument
                });
                assert!(is_known, "{step:?}: {command}: {}", parsed.expect_err("an error"));
            }
        }
    }

    #[test]
    fn every_command_that_a_text_names_is_there() {
        let parser = Arguments::command();
        for (path, text) in texts_of_code() {
            for (_, rest) in text.match_indices("`sluice ").map(|(at, found)| text.split_at(at + found.len()))
            {
                let name: String =
                    rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
                let is_known =
                    name.is_empty() || name.starts_with('-') || parser.find_subcommand(&name).is_some();
                assert!(is_known, "{}: there is no command {name}: {text:?}", path.display());
            }
        }
    }

    #[test]
    fn an_error_of_the_engine_is_told_in_commands() {
        let unknown: Failure = Box::new(EngineError::UnknownSync(uuid::Uuid::nil()));
        assert!(failure(&unknown).contains("; `sluice status` lists"), "{}", failure(&unknown));
    }
}
