//! The fault suite: real processes are killed and stopped, real servers fail, and after every single fault all rows are
//! counted by one checker, [`check::judge`]. Shows one table; anything in it but zeros fails.
//!
//! `tools/test --faults` runs it: it needs the real services and the feature `fail-points`. Not a part of `cargo test`.

// A fault that can't be injected should say so and stop.
#![allow(clippy::expect_used)]

mod bed;
mod brokers;
mod canary;
mod check;
mod cluster;
mod dice;
mod encrypted;
mod endings;
mod kafka;
mod kills;
mod points;
mod postgres;
mod proxy;
mod search;
mod soak;
mod source;
mod suite;
mod tls;
mod trimming;
mod verify;
mod workers;
// What the other tests need of it is not needed here.
#[allow(dead_code, unused_imports, unused_macros)]
#[path = "../integration/support/mod.rs"]
mod support;

use std::{process::ExitCode, time::Duration};

use clap::Parser;

use suite::{Asked, Fault};
use support::place::{Embedded, Real};

#[derive(Debug, Parser)]
#[command(name = "tools/test --faults", about = "Breaks everything that can break, and counts rows.")]
struct Options {
    /// Only faults whose names hold one of these
    names: Vec<String>,
    /// The bounded share that CI runs
    #[arg(long)]
    share: bool,
    /// Shows which faults there are
    #[arg(long)]
    list: bool,
    /// Repeats the chance of an earlier run
    #[arg(long)]
    seed: Option<u64>,
    /// How often each is injected, in place of its own number
    #[arg(long)]
    injections: Option<u32>,
    /// Begins no fault later than after so many seconds; 110 for the share
    #[arg(long)]
    budget: Option<u64>,
    /// How many run at once
    #[arg(long, default_value_t = 4)]
    lanes: usize,
}

fn faults() -> Vec<Fault> {
    let mut faults = vec![
        Fault::new("rows are taken away, to be missed", (1, 1), canary::damage::<Real>),
        Fault::new("rows are taken away, to be missed, embedded", (1, 1), canary::damage::<Embedded>),
        Fault::new("kill -9 of the worker", (3, 100), kills::worker),
        Fault::new("kill -9 of a sync", (4, 100), kills::sync),
        Fault::new("kill -9 of serve", (2, 100), kills::serve),
        Fault::new("kill -9 of the embedded serve", (4, 100), kills::embedded),
    ];
    faults.extend(between_steps());
    faults.extend([
        Fault::new("two to four workers come, leave and are killed", (2, 60), workers::coming_and_going),
        Fault::new("a worker stopped past its session, at random", (0, 10), workers::stopped),
        Fault::new(
            "a worker stopped with a batch it has not applied",
            (1, 6),
            workers::zombie_before_it_writes,
        ),
        Fault::new(
            "a worker stopped with a batch it has not committed",
            (0, 6),
            workers::zombie_before_it_commits,
        ),
        Fault::new("a sync stopped until another has read the table", (0, 8), workers::stopped_sync),
        Fault::new("claims fail while workers come and go", (0, 5), workers::failing_claims),
    ]);
    faults.extend([
        Fault::new("Postgres cuts all connections", (0, 10), postgres::connections_cut),
        Fault::new("Postgres has no connection left", (0, 10), postgres::connections_exhausted),
        Fault::new("Postgres is read-only", (0, 10), postgres::read_only),
        Fault::new("Postgres's tables are locked", (0, 10), postgres::locked),
        Fault::new("Postgres can't serialize", (0, 10), postgres::serialization_failures),
        Fault::new("Postgres's disk is full", (0, 10), postgres::disk_full),
        Fault::new("kill -9 of Postgres amid transactions", (0, 10), postgres::killed),
    ]);
    faults.extend([
        Fault::new("Elasticsearch is down", (0, 10), search::down),
        Fault::new("Elasticsearch answers 429 to most bulks", (1, 10), search::storm),
        Fault::new("Elasticsearch takes half of each bulk", (1, 10), search::partial),
        Fault::new("Elasticsearch's answers are lost", (0, 10), search::lost_answers),
        Fault::new("Elasticsearch is at flood stage", (0, 10), search::flood_stage),
        Fault::new("an index is deleted", (0, 6), search::deleted),
        Fault::new("an index is restored from an older copy", (0, 4), search::restored),
        Fault::new("an index is made with other types", (0, 4), search::mapping_conflict),
    ]);
    faults.extend([
        Fault::new("kill -9 of Kafka", (0, 10), kafka::broker_killed),
        Fault::new("the topic is made anew", (0, 6), kafka::topic_made_anew),
        Fault::new("the topic's records are removed", (0, 6), kafka::records_removed),
        Fault::new("partitions are added", (0, 6), kafka::partitions_added),
        Fault::new("kill -9 of the leaders of three brokers in turn", (0, 9), brokers::leaders_killed),
        Fault::new("certificates, passwords and keys are wrong", (1, 1), encrypted::every_part),
        Fault::new("Kafka's password is changed", (1, 3), encrypted::changed_password),
    ]);
    faults.extend([
        Fault::new("the source refuses, hangs, cuts and answers nonsense", (2, 20), source::passing_faults),
        Fault::new("the source's key is revoked amid a sync", (0, 10), source::key_revoked),
        Fault::new("the source changes its page cap", (1, 10), source::changing_caps),
        Fault::new("rows are committed late", (1, 10), source::late_commits),
        Fault::new("rows are deleted between pages", (0, 10), source::deletes_between_pages),
        Fault::new("SIGTERM amid everything", (4, 40), endings::terminated::<Real>),
        Fault::new("SIGTERM amid everything, embedded", (2, 40), endings::terminated::<Embedded>),
        Fault::new("two servers sync one table", (1, 10), endings::two_servers),
        Fault::new("two processes on one folder", (1, 10), endings::two_on_a_folder),
        Fault::new("minutes of a soak", (0, 60), soak::minutes::<Real>),
        Fault::new("minutes of a soak, embedded", (0, 60), soak::minutes::<Embedded>),
    ]);
    faults
}

/// A fault for each point, on the real parts and on the embedded ones.
fn between_steps() -> Vec<Fault> {
    macro_rules! both {
        ($faults:ident, $points:expr, $process:literal, $($kill:ident)::+, $real:expr, $embedded:expr) => {
            for point in &$points {
                let name = format!("kill of {} at {}", $process, point.name);
                $faults.push(Fault::new(name.clone(), $real, move |run| $($kill)::+::<Real>(run, point)));
                let name = format!("{name}, embedded");
                $faults.push(Fault::new(name, $embedded, move |run| $($kill)::+::<Embedded>(run, point)));
            }
        };
    }
    let mut faults = Vec::new();
    both!(faults, points::OF_SYNC, "a sync", points::sync, (0, 6), (1, 12));
    faults.push(Fault::new("kill of a sync that reads back", (1, 6), points::read_back::<Real>));
    faults.push(Fault::new(
        "kill of a sync that reads back, embedded",
        (1, 6),
        points::read_back::<Embedded>,
    ));
    both!(faults, points::OF_DRAIN, "a drain", points::drain, (0, 8), (1, 16));
    both!(faults, points::OF_RECONCILE, "a reconciliation", points::reconcile, (0, 4), (1, 8));
    both!(faults, points::OF_REBUILD, "a rebuild", points::rebuild, (0, 4), (0, 8));
    both!(faults, points::OF_REPLAY, "a replay", points::replay, (0, 4), (1, 8));
    both!(faults, trimming::OF_TRIM, "a trimming", trimming::trim, (0, 4), (1, 8));
    faults
}

fn main() -> ExitCode {
    let options = Options::parse();
    std::panic::set_hook(Box::new(|panic| println!("  {panic}")));
    verify::checker();
    let faults = faults();
    if options.list {
        for fault in faults {
            println!("{} (share {}, whole {})", fault.name, fault.share, fault.whole);
        }
        return ExitCode::SUCCESS;
    }
    let asked = Asked {
        names: options.names,
        seed: options.seed.unwrap_or_else(rand::random),
        is_share: options.share,
        budget: options.budget.or(options.share.then_some(110)).map(Duration::from_secs),
        injections: options.injections,
        lanes: options.lanes,
    };
    if suite::run(&faults, &asked) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
