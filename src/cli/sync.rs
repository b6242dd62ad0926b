use std::{fmt::Write as _, process::ExitCode, time::Duration};

use async_trait::async_trait;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

use super::{
    Failure,
    ending::{self, Ending},
    next_step::worded,
    output,
};
use crate::{
    config::Settings,
    domain::{Catalog, Table, TableName},
    engine::{Engine, MAX_HOURS, SinkProgress, SyncPhase, SyncStatus, SyncWatcher, table_named},
    next_step::{NextStep, Remark},
    parts,
    source::{Condition, description::KEY_FOR_ALL},
    store::{ReconcileReport, ReconcileStep, SyncProgress, SyncRequest},
    text::on_one_line,
};

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // each is a flag that a person types
pub(super) struct Options {
    /// The table to sync, as `sluice tables` lists them
    table: String,
    /// How far back to look, in hours
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_HOURS)))]
    hours: u32,
    /// New events to append at most. Default: all there are; assistants bring 100 unless they ask for more, as somebody waits for their answer
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: Option<u32>,
    /// Only leads with this status_lead
    #[arg(long)]
    status: Option<String>,
    /// Only chat sessions with at least this many messages
    #[arg(long)]
    min_messages: Option<u32>,
    /// Only rows whose column compares so: score_qualificacao>=50, origem=google; may be given several times
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<String>,
    /// Read on from where earlier syncs stopped, as schedules do, instead of the whole window
    #[arg(long)]
    resume: bool,
    /// Drain here, too, and wait until everything can be queried in both sinks
    #[arg(long)]
    wait: bool,
    /// Look back as far as can be, instead of --hours; what was appended before and did not change is not appended again
    #[arg(long, conflicts_with = "hours")]
    full: bool,
    /// As --full, and append every row again, whether it changed or not: makes the contents of a lost topic anew
    #[arg(long, conflicts_with = "hours")]
    rebuild_log: bool,
}

/// Runs one sync and says what became of it.
pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    let engine = parts::engine(settings).await?;
    let request = request(engine.catalog, options)?;
    let ending = Ending::new(ending::signals());
    let id = tokio::select! {
        id = engine.syncs.start(request) => id?,
        () = ending.asked() => return Err("ended on request before the sync had begun".into()),
    };
    let status = followed(&engine, id, options.wait, Bar::new(options.wait), &ending).await?;
    for line in summary(&status, options.wait).lines() {
        output::line(line)?;
    }
    for spot in ending.in_time(engine.inspection.blind_spots(&status.table)).await.unwrap_or_default() {
        output::note(spot.worded(worded));
    }
    if options.wait && status.state == SyncPhase::Done {
        note_unfilled(&engine, &status, &ending).await;
    }
    let failed = !is_there(&status, options.wait);
    ending.told(failed);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Says so where documents of the table stay as an earlier definition made them.
pub(super) async fn note_unfilled(engine: &Engine, status: &SyncStatus, ending: &Ending) {
    if let Some(lack) = ending.in_time(engine.inspection.unfilled(status)).await.flatten() {
        output::note(format_args!("warning: {}", lack.worded(worded)));
    }
}

fn request(catalog: Catalog, options: &Options) -> Result<SyncRequest, Failure> {
    // Typed with a dash, as everything else on a command line.
    let name = TableName(options.table.replace('-', "_"));
    Ok(SyncRequest {
        conditions: conditions(table_named(catalog, &name)?, options)?,
        table: name,
        hours_ago: if options.full || options.rebuild_log { MAX_HOURS } else { options.hours },
        limit: options.limit.unwrap_or(SyncRequest::NO_LIMIT),
        resume: options.resume,
        reappend: options.rebuild_log,
        reconcile: None,
        since: None,
    })
}

/// Whether what was asked for is done: all is in the log, or in both sinks where that is waited for. What is parked is in
/// neither, or in one of them.
fn is_there(status: &SyncStatus, wait: bool) -> bool {
    let is_parked = status.dead_letters > 0 || status.parked != Some(0);
    match status.state {
        SyncPhase::Done => !wait || !is_parked,
        SyncPhase::Draining => !wait,
        _ => false,
    }
}

/// How a sync stands once it has ended, or once all is in the log where its end is not waited for. Asked to end, it
/// stops the sync. The engine is shut down.
pub(super) async fn followed(
    engine: &Engine,
    id: Uuid,
    wait: bool,
    mut bar: Bar,
    ending: &Ending,
) -> Result<SyncStatus, Failure> {
    if wait {
        engine.start_drains().await;
    }
    let following = async {
        if !wait {
            let status = engine.syncs.ended(id, |progress| bar.hear(progress)).await?;
            if status.state != SyncPhase::Running {
                return Ok(status);
            }
        }
        loop {
            let status = engine.syncs.wait_for(id, Duration::from_secs(1), &mut bar).await?;
            if status.is_final() || (status.state != SyncPhase::Running && !wait) {
                return Ok::<_, Failure>(status);
            }
            if wait && let Some(obstacle) = obstacle(engine, &status).await {
                return Err(given_up(&status, obstacle).into());
            }
        }
    };
    let status = tokio::select! {
        status = following => Some(status),
        () = ending.asked() => None,
    };
    let unfilled = match &status {
        Some(Ok(status)) if wait && status.state == SyncPhase::Done => {
            bar.show("bringing both sinks up to the definitions".to_owned());
            fill(engine, status, ending).await
        }
        _ => Ok(()),
    };
    bar.clear();
    ending.shut_down(engine).await;
    unfilled?;
    match status {
        Some(status) => status,
        None => Ok(ending.in_time(engine.syncs.status(id)).await.ok_or_else(|| -> Failure {
            format!(
                "sync {id} was ended on request, and a part does not answer what became of it; `sluice status` tells"
            )
            .into()
        })??),
    }
}

/// Has both sinks what they hold as the definitions say: a sync that brings nothing is over before the drains have come so
/// far, and what they fill is cut when the process ends.
async fn fill(engine: &Engine, status: &SyncStatus, ending: &Ending) -> Result<(), Failure> {
    let why = tokio::select! {
        prepared = engine.prepare() => match prepared {
            Ok(()) => return Ok(()),
            Err(fault) => fault.remark().worded(worded),
        },
        () = ending.asked() => format!("ended on request; {}", worded(&NextStep::Migrate)),
    };
    let SyncStatus { sync_id, table, .. } = status;
    Err(format!("sync {sync_id} of {table} is done, but what was there before is not yet as the definitions say: {why}").into())
}

/// What is told where nobody waits on: what was appended waits, and what a sync that broke off had not read is not there.
fn given_up(status: &SyncStatus, obstacle: Remark) -> String {
    let SyncStatus { sync_id, table, rows_read, appended, .. } = status;
    let broke_off = match status.state {
        SyncPhase::Failed => "failed",
        SyncPhase::Cancelled => "was cancelled",
        SyncPhase::Interrupted => "was interrupted",
        SyncPhase::Running | SyncPhase::Draining | SyncPhase::Done => "",
    };
    let mut text = format!("sync {sync_id} of {table}: waiting is no use. ");
    if !broke_off.is_empty() {
        let error = status.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        let _ = write!(
            text,
            "It {broke_off} after {rows_read} rows and {appended} new events, and what it had not read is not there{error}. "
        );
    }
    let obstacle = obstacle.worded(worded);
    let _ = write!(text, "What it appended is in the log, and is not in both sinks yet: {obstacle}");
    text
}

/// Why nobody need wait for what is left to apply: a sink that is paused, or can't be written, stays so until somebody
/// does something.
async fn obstacle(engine: &Engine, status: &SyncStatus) -> Option<Remark> {
    let step = status.reconcile.as_ref().map(|report| report.step);
    let is_read = status.state != SyncPhase::Running || step == Some(ReconcileStep::Waiting);
    let lacks =
        |sink: &&SinkProgress| !sink.lost && (!sink.queryable || step == Some(ReconcileStep::Waiting));
    let sinks: Vec<&str> = status.sinks.iter().filter(lacks).map(|sink| sink.sink.as_str()).collect();
    if !is_read || sinks.is_empty() {
        return None;
    }
    engine.drains.obstacles(&sinks).await.into_iter().next()
}

/// What the rows must be: by the names that the table's definition gives to conditions, and by its columns.
fn conditions(table: Table, options: &Options) -> Result<Vec<Condition>, Failure> {
    let least = options.min_messages.map(|least| least.to_string());
    let named = [("status", options.status.clone()), ("min_messages", least)];
    let mut conditions = Vec::new();
    for (name, value) in named.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let Some(filter) = table.filters.get(name) else {
            let flag = name.replace('_', "-");
            return Err(format!("--{flag}: the definition of {table} has no such filter; use --where").into());
        };
        conditions.push(Condition { column: filter.column.clone(), compare: filter.compare, value });
    }
    for text in &options.conditions {
        conditions.push(Condition::parse(text).ok_or_else(|| -> Failure {
            format!("--where {text}: write a column, one of = != > >= < <= and a value: origem=google").into()
        })?);
    }
    Ok(conditions)
}

fn summary(status: &SyncStatus, waited: bool) -> String {
    let state = match status.state {
        SyncPhase::Done if status.more => "done, and the source has more: run it again",
        SyncPhase::Done => "done",
        SyncPhase::Draining if !waited && status.more => {
            "in the log; a worker drains it, and the source has more: run it again"
        }
        SyncPhase::Draining if !waited => "in the log; a worker drains it",
        // Nobody waits any more.
        SyncPhase::Running => "ended on request while it was reading",
        SyncPhase::Draining => "ended on request; what was appended is in the log and not in both sinks yet",
        SyncPhase::Failed => "failed",
        SyncPhase::Cancelled => "cancelled",
        SyncPhase::Interrupted => "interrupted",
    };
    let error = status.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    let mut text = format!(
        "Sync {} of {}: {state}{error}. {} rows read, {} new events, {} unchanged, {} dead letters.",
        status.sync_id,
        status.table,
        status.rows_read,
        status.appended,
        status.unchanged,
        status.dead_letters
    );
    if status.state == SyncPhase::Done && status.parked.is_none() {
        let _ = write!(text, "\nHow many rows of {} are parked could not be told.", status.table);
    }
    if let Some(parked @ 1..) = status.parked {
        let step = worded(&NextStep::SettleLetters);
        let _ = write!(
            text,
            "\n{parked} rows of {} are parked as dead letters, what a sink could not take among them: {step}",
            status.table
        );
    }
    for misfit in &status.misfits {
        let _ = write!(
            text,
            "\n{}: {} values are not {}; left out of the column, kept in dados",
            misfit.column, misfit.values, misfit.expected
        );
    }
    if !status.lost_columns.is_empty() {
        let _ = write!(
            text,
            "\n{}: rows have no such columns any more, and what is read now is empty there; `sluice tables check {}` tells \
             what to do",
            status.lost_columns.join(", "),
            status.table
        );
    }
    if status.ahead > 0 {
        let _ = write!(
            text,
            "\n{} rows say that they were changed in the future; they are read each time",
            status.ahead
        );
    }
    if status.erased > 0 {
        let _ = write!(text, "\n{}", erased(status.erased));
    }
    if status.shared_keys > 0 {
        let _ = write!(text, "\n{}", shared_keys(status));
    }
    if status.without_key > 0 {
        let _ = write!(
            text,
            "\n{} rows have no key: no event can be made of them, and up to 100 are parked as dead letters; {KEY_FOR_ALL}",
            status.without_key
        );
    }
    text
}

/// What is told of rows that share a key.
pub(super) fn shared_keys(status: &SyncStatus) -> String {
    format!(
        "{} rows have the key of another row: it is not unique, so of such rows only one is kept, and some may never be \
         read; name a column that is unique as the key of {}'s definition",
        status.shared_keys, status.table
    )
}

/// What is told of rows whose entity was erased.
pub(super) fn erased(rows: u64) -> String {
    format!("{rows} rows of erased entities still stand at the source and were left out; delete them there")
}

/// Drawn only on a terminal; indicatif sees to that.
pub(super) struct Bar {
    bar: ProgressBar,
    wait: bool,
}

impl Bar {
    pub(super) fn new(wait: bool) -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar, wait }
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Of a sync whose sinks nobody asks.
    fn hear(&self, progress: &SyncProgress) {
        self.show(read(progress.rows_read, progress.appended, progress.reconcile.as_ref()));
    }

    fn show(&self, message: String) {
        self.bar.set_message(on_one_line(&message).into_owned());
    }
}

/// What was read and found so far.
fn read(rows_read: u64, appended: u64, reconcile: Option<&ReconcileReport>) -> String {
    let mut message = format!("{rows_read} rows read, {appended} new events");
    if let Some(report) = reconcile {
        let _ = write!(message, ", {} gone, {} repaired", report.gone, report.repaired);
    }
    message
}

#[async_trait]
impl SyncWatcher for Bar {
    async fn saw(&mut self, status: &SyncStatus) {
        let mut message = read(status.rows_read, status.appended, status.reconcile.as_ref());
        if self.wait {
            for sink in &status.sinks {
                let pending = sink.pending.map_or_else(|| "?".to_owned(), |pending| pending.to_string());
                let _ = write!(message, ", {}: {pending} to apply", sink.sink);
            }
        }
        self.show(message);
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn a_sync_ends_before_the_source_does_only_where_a_limit_was_typed() {
        let asked = |arguments: &[&str]| {
            let line = Line::try_parse_from(["sync"].iter().chain(arguments)).expect("arguments");
            request(Catalog::built_in(), &line.options).expect("a request")
        };
        for arguments in [&["leads", "--full", "--wait"][..], &["leads", "--rebuild-log"], &["chat-sessions"]]
        {
            assert_eq!(asked(arguments).limit, SyncRequest::NO_LIMIT, "{arguments:?}");
        }
        assert_eq!(asked(&["leads", "--limit", "20"]).limit, 20);
    }

    #[test]
    fn the_bar_shows_the_progress_of_a_sync_whose_sinks_nobody_asks() {
        let bar = Bar::new(false);
        let progress = SyncProgress { rows_read: 2_000, appended: 900, ..SyncProgress::default() };
        bar.hear(&progress);
        assert_eq!(bar.bar.message(), "2000 rows read, 900 new events");
        bar.hear(&SyncProgress {
            reconcile: Some(ReconcileReport { gone: 3, ..Default::default() }),
            ..progress
        });
        assert!(bar.bar.message().ends_with("new events, 3 gone, 0 repaired"));
    }

    #[test]
    fn what_is_not_there_when_a_sync_ends_is_told() {
        let mut status = SyncStatus {
            sync_id: Uuid::nil(),
            table: "leads".to_owned(),
            state: SyncPhase::Draining,
            rows_read: 1_000,
            appended: 900,
            unchanged: 100,
            dead_letters: 0,
            parked: None,
            misfits: Vec::new(),
            lost_columns: Vec::new(),
            ahead: 0,
            shared_keys: 0,
            without_key: 0,
            erased: 0,
            more: false,
            reconcile: None,
            sinks: Vec::new(),
            started_at: Utc::now(),
            finished_at: Some(Utc::now()),
            owner: "o".to_owned(),
            error: None,
        };
        let obstacle = || Remark::from("the disk is full".to_owned());
        let whole = given_up(&status, obstacle());
        assert!(
            whole.ends_with("not in both sinks yet: the disk is full") && !whole.contains("not read"),
            "{whole}"
        );
        status.error = Some("embedded: the disk is full; make room".to_owned());
        for (state, word) in [
            (SyncPhase::Failed, "failed"),
            (SyncPhase::Cancelled, "cancelled"),
            (SyncPhase::Interrupted, "interrupted"),
        ] {
            status.state = state;
            let told = given_up(&status, obstacle());
            for part in [word, "after 1000 rows", "had not read", "make room", "not in both sinks yet"] {
                assert!(told.contains(part), "{part} is missing in {told}");
            }
        }
        (status.state, status.error) = (SyncPhase::Draining, None);
        let told = summary(&status, true);
        assert!(told.contains("ended on request; what was appended is in the log and not in both"), "{told}");
        assert!(summary(&status, false).contains("a worker drains it"));
        status.lost_columns = vec!["obs".to_owned()];
        assert!(summary(&status, true).contains("\nobs: rows have no such columns any more"));
        (status.state, status.parked) = (SyncPhase::Done, Some(3));
        assert!(is_there(&status, false) && !is_there(&status, true), "what is parked is not in both sinks");
        let told = summary(&status, true);
        assert!(told.contains("0 dead letters.\n3 rows of leads are parked as dead letters"), "{told}");
        status.parked = Some(0);
        assert!(is_there(&status, true));
        assert!(!summary(&status, true).contains("parked"));
        status.parked = None;
        assert!(summary(&status, true).contains("are parked could not be told"));
    }
}
