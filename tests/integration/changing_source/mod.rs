//! A source that changes in every way at once, against a model that knows what must be in the sinks.
//!
//! Sequences of what may happen are chosen at random and shrunk where one shows a fault. `SLUICE_MODEL_SECONDS` says for
//! how long they are tried.

mod model;
mod pipeline;
mod steps;

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use self::{
    pipeline::Pipeline,
    steps::{Case, case},
};

/// How long sequences are tried in a usual run.
const TRIED_FOR: Duration = Duration::from_secs(15);

#[test]
fn syncs_and_reconciliations_keep_what_they_promise_of_a_source_that_changes_in_every_way() {
    let seconds = std::env::var("SLUICE_MODEL_SECONDS").ok();
    let tried_for = seconds.map_or(TRIED_FOR, |text| Duration::from_secs(text.parse().expect("seconds")));
    let config = Config {
        cases: u32::MAX,
        // The first one that comes too late is rejected, and ends it.
        max_global_rejects: 0,
        source_file: Some(file!()),
        test_name: Some("changing_source"),
        max_shrink_time: 120_000,
        ..Config::default()
    };
    let until = Instant::now() + tried_for;
    let (tried, has_failed) = (Cell::new(0), Cell::new(false));
    let outcome = TestRunner::new(config).run(&case(), |case| {
        if tried.get() > 0 && Instant::now() > until && !has_failed.get() {
            return Err(TestCaseError::reject("the time is over"));
        }
        tried.set(tried.get() + 1);
        let outcome = kept(&case);
        if let (Err(wrong), false) = (&outcome, has_failed.get()) {
            println!("{wrong}\n... and now the shortest sequence that does so is looked for");
        }
        has_failed.set(has_failed.get() || outcome.is_err());
        outcome.map_err(TestCaseError::fail)
    });
    println!("{} sequences tried", tried.get());
    if let Err(broken @ TestError::Fail(..)) = outcome {
        panic!("{broken}");
    }
}

/// Lets everything of a case happen; what is wrong afterwards is an error.
fn kept(case: &Case) -> Result<(), String> {
    let mut pipeline = Pipeline::new(case);
    for (number, step) in case.steps.iter().enumerate() {
        pipeline.take(step).map_err(|wrong| format!("after step {number}, {step:?}:\n{wrong}"))?;
    }
    pipeline.settle().map_err(|wrong| format!("at the end: {wrong}"))
}
