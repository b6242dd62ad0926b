use std::{fmt::Write as _, process::ExitCode, time::Duration};

use async_trait::async_trait;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::{Failure, asked_to_stop, output};
use crate::{
    config::Settings,
    domain::Table,
    engine::{SyncPhase, SyncStatus, SyncWatcher},
    parts,
    store::SyncRequest,
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// What to sync
    #[arg(value_enum)]
    what: What,
    /// How far back to look, in hours
    #[arg(long, default_value_t = 24)]
    hours: u32,
    /// New events to append at most
    #[arg(long, default_value_t = 1_000_000)]
    limit: u32,
    /// Only leads with this status_lead
    #[arg(long)]
    status: Option<String>,
    /// Only chat sessions with at least this many messages
    #[arg(long)]
    min_messages: Option<u32>,
    /// Drain here, too, and wait until everything can be queried in both sinks
    #[arg(long)]
    wait: bool,
    /// Append also what was appended before, as after a lost topic
    #[arg(long)]
    full: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    Leads,
    ChatSessions,
}

/// Runs one sync and says what became of it.
pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    let engine = parts::engine(settings).await?;
    let request = SyncRequest {
        table: match options.what {
            What::Leads => Table::Leads,
            What::ChatSessions => Table::ChatSessions,
        },
        hours_ago: options.hours,
        limit: options.limit,
        status: options.status.clone(),
        min_messages: options.min_messages,
        full: options.full,
    };
    let stop = asked_to_stop();
    let id = engine.start_sync(request).await?;
    if options.wait {
        engine.start_drains().await;
    }
    let mut bar = Bar::new(options.wait);
    let following = async {
        loop {
            let status = engine.wait_for_sync(id, Duration::from_secs(1), &mut bar).await?;
            let appended = !matches!(status.state, SyncPhase::Running);
            if status.is_final() || (appended && !options.wait) {
                return Ok::<_, Failure>(status);
            }
        }
    };
    let status = tokio::select! {
        status = following => status?,
        () = stop => {
            engine.cancel_sync(id).await?;
            engine.shut_down().await;
            engine.sync_status(id).await?
        }
    };
    bar.bar.finish_and_clear();
    engine.shut_down().await;
    output::line(summary(&status, options.wait))?;
    if let Some(hint) = engine.empty_hint().filter(|_| status.rows_read == 0) {
        output::note(hint);
    }
    let failed = matches!(status.state, SyncPhase::Failed | SyncPhase::Cancelled | SyncPhase::Interrupted);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn summary(status: &SyncStatus, waited: bool) -> String {
    let state = match status.state {
        SyncPhase::Done if status.more => "done, and the source has more: run it again",
        SyncPhase::Done => "done",
        SyncPhase::Draining if !waited => "in the log; a worker drains it",
        SyncPhase::Running | SyncPhase::Draining => "going on",
        SyncPhase::Failed => "failed",
        SyncPhase::Cancelled => "cancelled",
        SyncPhase::Interrupted => "interrupted",
    };
    let error = status.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    format!(
        "Sync {} of {}: {state}{error}. {} rows read, {} new events, {} unchanged, {} dead letters.",
        status.sync_id,
        status.table,
        status.rows_read,
        status.appended,
        status.unchanged,
        status.dead_letters
    )
}

/// Drawn only on a terminal; indicatif sees to that.
struct Bar {
    bar: ProgressBar,
    wait: bool,
}

impl Bar {
    fn new(wait: bool) -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar, wait }
    }
}

#[async_trait]
impl SyncWatcher for Bar {
    async fn saw(&mut self, status: &SyncStatus) {
        let mut message = format!("{} rows read, {} new events", status.rows_read, status.appended);
        if self.wait {
            for sink in &status.sinks {
                let pending = sink.pending.map_or_else(|| "?".to_owned(), |pending| pending.to_string());
                let _ = write!(message, ", {}: {pending} to apply", sink.sink);
            }
        }
        self.bar.set_message(output::on_one_line(&message).into_owned());
    }
}
