//! The fault suite: real processes are killed and stopped, real servers fail, and after every single fault all rows are
//! counted by one checker, [`check::judge`]. Shows one table; anything in it but zeros fails.
//!
//! `tools/test --faults` runs it: it needs the real services and the feature `fail-points`. Not a part of `cargo test`.

// A fault that can't be injected should say so and stop.
#![allow(clippy::expect_used)]

mod bed;
mod check;
mod dice;
mod kills;
mod points;
mod suite;
mod verify;
// What the other tests need of it is not needed here.
#[allow(dead_code, unused_imports, unused_macros)]
#[path = "../integration/support/mod.rs"]
mod support;

use std::process::ExitCode;

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
    /// How many run at once
    #[arg(long, default_value_t = 4)]
    lanes: usize,
}

fn faults() -> Vec<Fault> {
    let mut faults = vec![
        Fault::new("kill -9 of the worker", (3, 100), kills::worker),
        Fault::new("kill -9 of a sync", (4, 100), kills::sync),
        Fault::new("kill -9 of serve", (2, 100), kills::serve),
        Fault::new("kill -9 of the embedded serve", (4, 100), kills::embedded),
    ];
    faults.extend(between_steps());
    faults
}

/// A fault for each point, on the real parts and on the embedded ones.
fn between_steps() -> Vec<Fault> {
    macro_rules! both {
        ($faults:ident, $points:expr, $process:literal, $kill:ident, $real:expr, $embedded:expr) => {
            for point in &$points {
                let name = format!("kill of {} at {}", $process, point.name);
                $faults.push(Fault::new(name.clone(), $real, move |run| points::$kill::<Real>(run, point)));
                let name = format!("{name}, embedded");
                $faults.push(Fault::new(name, $embedded, move |run| points::$kill::<Embedded>(run, point)));
            }
        };
    }
    let mut faults = Vec::new();
    both!(faults, points::OF_SYNC, "a sync", sync, (0, 6), (1, 12));
    faults.push(Fault::new("kill of a sync that reads back", (1, 6), points::read_back::<Real>));
    faults.push(Fault::new(
        "kill of a sync that reads back, embedded",
        (1, 6),
        points::read_back::<Embedded>,
    ));
    both!(faults, points::OF_DRAIN, "a drain", drain, (0, 8), (1, 16));
    both!(faults, points::OF_RECONCILE, "a reconciliation", reconcile, (0, 4), (0, 8));
    both!(faults, points::OF_REBUILD, "a rebuild", rebuild, (0, 4), (0, 8));
    both!(faults, points::OF_REPLAY, "a replay", replay, (0, 4), (1, 8));
    faults
}

fn main() -> ExitCode {
    let options = Options::parse();
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
        injections: options.injections,
        lanes: options.lanes,
    };
    if suite::run(&faults, &asked) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
