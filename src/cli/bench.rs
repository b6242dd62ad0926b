//! Measures the way from the topic to each sink, on the parts that are configured.

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::Utc;
use clap::{Args, ValueEnum};
use futures::future::try_join_all;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Failure,
    output::{self, OutputError},
};
use crate::{
    config::Settings,
    domain::{Event, Json, SourceRow, micros},
    engine::{Drain, DrainStats, EngineSettings, event_record},
    log::{Log, Topic},
    parts::{Parts, engine_settings},
    sink::Sink,
    source::sample::Generator,
    store::Store,
};

/// Records appended at a time, as many as a page of Supabase has.
const PAGE: usize = 1000;

/// Where more are drained, each so many are told of, so that what grows with the sink is seen.
const LAP: usize = 1_000_000;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// What to measure; without it appending, then each sink by itself
    #[arg(value_enum)]
    step: Option<Step>,
    /// Events to append and to drain
    #[arg(long, default_value_t = 200_000)]
    events: usize,
    /// How many of ten events are first versions of a lead; the others change one
    #[arg(long, default_value_t = 8)]
    new_of_ten: usize,
}

/// One of what is measured, in a process of its own where programs are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Append generated events to an empty topic
    Append,
    /// Drain the topic into the store
    Store,
    /// Drain the topic into the index
    Index,
    /// Drain the topic into both at once
    Both,
}

/// Appends generated events to the topic and drains them.
pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    let appends = matches!(options.step, None | Some(Step::Append));
    // A topic that is empty still may be the project's all the same.
    if appends && settings.supabase.is_some() {
        return Err(
            "SUPABASE_URL names a project, and generated events must not end up among its own; set SLUICE_SAMPLE=true \
             instead, or run tools/bench, which sets everything apart"
                .into(),
        );
    }
    let Parts { log, store, index } = Parts::open(settings)?;
    let (into_store, into_index): (Arc<dyn Sink>, Arc<dyn Sink>) = (store.clone(), index);
    log.ensure_topics().await?;
    if appends {
        append(&*log, settings, options).await?;
    } else {
        check_held(&*log, options.events).await?;
    }
    let rounds = match options.step {
        None => vec![vec![into_store], vec![into_index]],
        Some(Step::Append) => Vec::new(),
        Some(Step::Store) => vec![vec![into_store]],
        Some(Step::Index) => vec![vec![into_index]],
        Some(Step::Both) => vec![vec![into_store, into_index]],
    };
    for sinks in rounds {
        for sink in &sinks {
            sink.prepare().await?;
        }
        let drains = sinks.iter().map(|sink| drain(&log, sink, &store, settings, options.events));
        let longest = try_join_all(drains).await?.into_iter().fold(0.0, f64::max);
        let names: Vec<_> = sinks.iter().map(|sink| sink.name()).collect();
        report(&format!("drained into {}", names.join(" and ")), options.events, longest)?;
    }
    if let Some(peak) = memory("VmHWM:") {
        output::line(format_args!("{:<28} {:>9} MiB", "peak memory of this process", peak / 1024))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses to wait for events that the log does not hold.
async fn check_held(log: &dyn Log, events: usize) -> Result<(), Failure> {
    let held: i64 = log.extents().await?.iter().map(|extent| extent.high - extent.low).sum();
    if usize::try_from(held).unwrap_or_default() >= events {
        return Ok(());
    }
    Err(format!(
        "the log {} holds {held} records, and {events} are to be drained; give fewer --events, or append them first: sluice \
         bench append",
        log.identity().await?
    )
    .into())
}

async fn append(log: &dyn Log, settings: &Settings, options: &Options) -> Result<(), Failure> {
    let before: i64 = log.extents().await?.iter().map(|extent| extent.high).sum();
    // Generated events must not end up among real ones.
    if before != 0 {
        return Err(format!(
            "the log {} holds {before} records already; run tools/bench, which sets everything apart",
            log.identity().await?
        )
        .into());
    }
    let leads = settings.catalog.get("leads").ok_or("no table leads is defined")?;
    let mut generator = Generator::new(1, Utc::now(), 24);
    let (mut seconds, mut bytes, mut left) = (0.0, 0, options.events);
    let mut earlier = Vec::new();
    while left > 0 {
        let size = PAGE.min(left);
        let mut rows = generator.leads((size * options.new_of_ten).div_ceil(10));
        for row in earlier.iter().take(size - rows.len()) {
            let mut changed: crate::domain::JsonObject = Clone::clone(row);
            changed.insert("updated_at".to_owned(), Utc::now().to_rfc3339().into());
            rows.push(changed);
        }
        earlier = rows.clone();
        let now = Utc::now();
        let rows = rows.iter().filter_map(|row| SourceRow::read(leads, Json::from(row)).ok());
        let events: Vec<Event> = rows.map(|row| row.event(now, micros(now)).0).collect();
        left = left.saturating_sub(events.len());
        let records: Vec<_> = events.iter().map(|event| event_record(event, Uuid::nil())).collect();
        bytes += records.iter().map(|record| record.value.len()).sum::<usize>();
        let began = Instant::now();
        log.append(Topic::Events, records).await?;
        seconds += began.elapsed().as_secs_f64();
    }
    report("appended to the topic", options.events, seconds)?;
    output::line(format_args!("{:<28} {:>9.0} bytes", "an event's envelope", ratio(bytes, options.events)))?;
    Ok(())
}

/// Drains everything into one sink and returns the seconds from the first record to the last commit.
async fn drain(
    log: &Arc<dyn Log>,
    sink: &Arc<dyn Sink>,
    store: &Arc<dyn Store>,
    settings: &Settings,
    events: usize,
) -> Result<f64, Failure> {
    let stats = Arc::new(DrainStats::new(sink.name()));
    let drain = Drain {
        catalog: settings.catalog,
        log: log.clone(),
        sink: sink.clone(),
        store: store.clone(),
        group: format!("{}.{}", settings.drain.group_prefix, sink.name()),
        limits: engine_settings(settings).batch,
        pauses: EngineSettings::PAUSES,
        stats: stats.clone(),
        parks: true,
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { drain.run(&stop).await }
    });
    // Joining the group is no part of the throughput.
    let mut began = None;
    let mut lap = (0, Instant::now());
    loop {
        let report = stats.report();
        let done = report.inserted + report.duplicates + report.dead_letters;
        let done = usize::try_from(done).unwrap_or(usize::MAX);
        if began.is_none() && !report.partitions.is_empty() {
            began = Some(Instant::now());
        }
        if done >= lap.0 + LAP {
            tell_lap(sink.name(), done, done - lap.0, lap.1.elapsed())?;
            lap = (done, Instant::now());
        }
        if done >= events {
            break;
        }
        if running.is_finished() {
            return Err(format!("the drain into {} ended: {:?}", sink.name(), running.await).into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let seconds = began.map_or(0.0, |began| began.elapsed().as_secs_f64());
    stop.cancel();
    running.await??;
    Ok(seconds)
}

fn tell_lap(sink: &str, done: usize, events: usize, took: Duration) -> Result<(), OutputError> {
    let rate = events_per_second(events, took.as_secs_f64());
    let memory = memory("VmRSS:").unwrap_or_default() / 1024;
    output::line(format_args!(
        "{sink}: {done} drained, the last at {rate:.0} events/s; {memory} MiB resident"
    ))
}

fn report(what: &str, events: usize, seconds: f64) -> Result<(), OutputError> {
    let rate = events_per_second(events, seconds);
    output::line(format_args!("{what:<28} {rate:>9.0} events/s ({events} in {seconds:.1} s)"))
}

#[allow(clippy::cast_precision_loss)]
fn events_per_second(events: usize, seconds: f64) -> f64 {
    events as f64 / seconds.max(f64::EPSILON)
}

#[allow(clippy::cast_precision_loss)]
fn ratio(total: usize, count: usize) -> f64 {
    total as f64 / count.max(1) as f64
}

/// What the system says of this process's memory, in KiB, where it does.
fn memory(member: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(member))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
