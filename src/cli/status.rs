use std::{
    fmt::{Display, Write as _},
    process::ExitCode,
};

use clap::Args;
use tempfile::TempDir;

use super::{
    Failure, empty,
    next_step::worded,
    output::{self, OutputError},
};
use crate::{
    config::Settings,
    data_folder::DataFolder,
    engine::{PartStatus, PipelineStatus, TableStatus},
    parts,
    store::SyncState,
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

/// Asks every part and prints the answers; writes nothing. Fails where the pipeline is not healthy.
pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    let empty = EmptyFolder::in_place_of(settings)?;
    let engine = parts::engine(empty.as_ref().map_or(settings, |empty| &empty.settings)).await?;
    let status = engine.inspection.status().await;
    // Nothing fails where nothing was begun.
    let is_fresh = empty::is_embedded(settings) && status.is_fresh();
    let mut status = status.worded(worded);
    if let Some(empty) = &empty {
        empty.hide(&mut status, settings);
    }
    if options.json {
        output::pretty_json(&status)?;
    } else {
        print(&status, is_fresh)?;
    }
    Ok(if status.healthy || is_fresh { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An empty folder in place of one in which nothing was made yet: the embedded parts make their files when they are opened.
/// Removed when dropped.
struct EmptyFolder {
    settings: Settings,
    _folder: TempDir,
}

impl EmptyFolder {
    /// `None` where there is something to look at, and where no part keeps anything in a folder.
    fn in_place_of(settings: &Settings) -> Result<Option<Self>, Failure> {
        if !parts::use_folder(settings)
            || DataFolder::FILES.iter().any(|name| settings.data_dir.join(name).exists())
        {
            return Ok(None);
        }
        if std::fs::symlink_metadata(&settings.data_dir).is_ok() {
            // One that can't be used is told of as ever.
            DataFolder::open(&settings.data_dir, "status")?;
        }
        let folder = DataFolder::stand_in(&settings.data_dir)?;
        // As the parts spell it.
        let data_dir = folder.path().canonicalize().map_err(|error| error.to_string())?;
        Ok(Some(Self { settings: Settings { data_dir, ..settings.clone() }, _folder: folder }))
    }

    fn hide(&self, status: &mut PipelineStatus, settings: &Settings) {
        let (shown, meant) =
            (self.settings.data_dir.display().to_string(), settings.data_dir.display().to_string());
        for part in [&mut status.source, &mut status.log].into_iter().chain(&mut status.sinks) {
            part.detail = part.detail.replace(&shown, &meant);
        }
    }
}

fn print(status: &PipelineStatus, is_fresh: bool) -> Result<(), OutputError> {
    for part in status.parts() {
        print_part(part)?;
    }
    for table in &status.tables {
        entry(format_args!("{:<14} {}", table.table, told(table)))?;
    }
    for lag in &status.lag {
        entry(format_args!("lag            {}: {} records", lag.sink, known(lag.total)))?;
    }
    entry(format_args!("dead letters   {}", known(status.dead_letters)))?;
    for sync in &status.recent_syncs {
        entry(format_args!(
            "{:<14} {} of {}: {:?}, {} new, {} unchanged, at {}",
            if sync.reconciles { "reconciliation" } else { "sync" },
            sync.sync_id,
            sync.table,
            sync.state,
            sync.appended,
            sync.unchanged,
            sync.started_at.format("%Y-%m-%d %H:%M:%SZ")
        ))?;
    }
    for schedule in &status.schedules {
        entry(format_args!(
            "schedule       {} every {} seconds, next at {}",
            schedule.table,
            schedule.every_seconds,
            schedule.next_due_at.format("%Y-%m-%d %H:%M:%SZ")
        ))?;
    }
    for warning in &status.warnings {
        entry(format_args!("warning        {warning}"))?;
    }
    if is_fresh {
        return output::line(empty::EMPTY);
    }
    for problem in &status.problems {
        entry(format_args!("problem        {problem}"))?;
    }
    output::line(if status.healthy { "healthy" } else { "not healthy" })
}

/// A line whose name stands apart.
fn entry(text: impl Display) -> Result<(), OutputError> {
    output::entry(text, 15)
}

/// A table in one line.
fn told(table: &TableStatus) -> String {
    let mut text = format!(
        "{} at the source, {} in the store, {} in the index, {} parked, {} not read yet",
        known(table.source),
        known(table.store),
        known(table.index),
        known(table.parked),
        known(table.unread)
    );
    if let Some(seconds) = table.counted_seconds_ago {
        let _ = write!(text, " (counted {} ago)", age(seconds));
    }
    match table.synced_seconds_ago {
        Some(seconds) => _ = write!(text, "; synced {} ago", age(seconds)),
        None => text.push_str("; no sync succeeded yet"),
    }
    match &table.reconciled {
        Some(last) => {
            let ago = last.seconds_ago.map(|seconds| format!("{} ago", age(seconds)));
            let ago = ago.unwrap_or_else(|| "at a time that is still to come".to_owned());
            let _ = write!(text, "; reconciled {ago}: {}", last.told());
            if last.outcome != SyncState::Succeeded {
                match last.succeeded_seconds_ago {
                    Some(seconds) => _ = write!(text, " (the last that succeeded: {} ago)", age(seconds)),
                    None => text.push_str(" (none succeeded yet)"),
                }
            }
        }
        None => text.push_str("; never reconciled"),
    }
    text
}

fn known(number: Option<impl Display>) -> String {
    number.map_or_else(|| "unknown".to_owned(), |number| number.to_string())
}

/// In the largest unit of which there are two.
fn age(seconds: i64) -> String {
    match seconds {
        172_800.. => format!("{} days", seconds / 86_400),
        7_200.. => format!("{} h", seconds / 3_600),
        120.. => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

fn print_part(part: &PartStatus) -> Result<(), OutputError> {
    let counts: Vec<String> =
        part.counts.iter().map(|count| format!("{} {}", count.count, count.name)).collect();
    let mark = if part.ok { "ok" } else { "FAILS" };
    entry(format_args!("{:<14} {mark} {} {}", part.name, part.detail, counts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::LastReconciliation;

    #[test]
    fn a_folder_that_no_part_uses_is_not_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("file"), "").expect("a file");
        let data_dir = folder.path().join("file/data").display().to_string();
        let named = [
            ("SLUICE_DATA_DIR", data_dir.as_str()),
            ("SUPABASE_URL", "https://abc.supabase.co"),
            ("SUPABASE_KEY", "sb_secret_segredo"),
            ("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"),
            ("DATABASE_URL", "postgres://sluice:senha@localhost/sluice"),
            ("ELASTICSEARCH_URL", "http://localhost:9200"),
        ];
        let looked = |named: &[(&str, &str)]| {
            let variables = named.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let settings = Settings::load(variables).expect("valid settings");
            EmptyFolder::in_place_of(&settings).map(|empty| empty.is_some())
        };
        assert!(matches!(looked(&named), Ok(false)));
        assert!(looked(&named[..5]).is_err(), "none can be made below a file");
    }

    #[test]
    fn a_table_in_one_line_calls_unknown_what_is_not_known() {
        let table = TableStatus { source: Some(5), synced_seconds_ago: Some(300), ..TableStatus::default() };
        assert_eq!(
            told(&table),
            "5 at the source, unknown in the store, unknown in the index, unknown parked, unknown not read yet; synced 5 \
             min ago; never reconciled"
        );
        let reconciled = LastReconciliation {
            outcome: SyncState::Interrupted,
            seconds_ago: Some(0),
            unexplained: None,
            succeeded_seconds_ago: Some(90_000),
        };
        let told = told(&TableStatus { reconciled: Some(reconciled), ..table });
        assert!(
            told.ends_with(
                "reconciled 0 s ago: interrupted, nothing was compared (the last that succeeded: 25 h ago)"
            ),
            "{told}"
        );
    }
}
