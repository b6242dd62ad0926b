//! `sluice alerts`: which alerts there are; one more, or one less.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::{Failure, next_step::worded, output};
use crate::{
    config::Settings,
    engine::{self, AlertRequest, AlertTerms, Engine, Trial},
    index::ValueCounts,
    mcp::Masking,
    parts,
    store::AlertRule,
};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell a webhook of what comes from now on
    Create(Create),
    /// Tell of it no more, and send nothing that waits
    Delete {
        /// The alert, as `sluice alerts` lists them
        name: String,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// What to call it
    name: String,
    /// What to tell of
    #[arg(long, value_enum, default_value_t = When::Row)]
    when: When,
    /// The webhook, by its name in SLUICE_ALERT_TARGETS; without one only clients that follow sluice://alerts hear of it
    #[arg(long)]
    target: Option<String>,
    /// The table of the rows (leads if left out)
    #[arg(long)]
    table: Option<String>,
    /// Only rows like this: score_qualificacao>=80, origem=google; may be given several times
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<String>,
    /// Records that a sink may be behind (1000 if left out), or dead letters that may be open (0)
    #[arg(long)]
    above: Option<u64>,
    /// Minutes that lag (5 if left out) or lateness (0) must last
    #[arg(long)]
    minutes: Option<u32>,
    /// Only show what it would have told last week
    #[arg(long = "try")]
    only_try: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum When {
    /// A row arrives, or comes to meet every --where
    Row,
    /// A sink is behind
    Lag,
    /// A sync or a reconciliation is late or failed
    Late,
    /// Dead letters are open
    DeadLetters,
}

pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    let engine = parts::engine(settings).await?;
    match &options.command {
        None => list(&engine).await?,
        Some(Command::Create(options)) => {
            let request = request(options)?;
            let condition = request.rule.to_string();
            let rule = request.rule.clone();
            if options.only_try {
                told(&condition, &engine.alerts.trial(&request).await?)?;
            } else {
                let to = request.target.clone().unwrap_or_else(|| "sluice://alerts".to_owned());
                engine.alerts.create(request, "sluice alerts").await?;
                output::line(format_args!(
                    "Created {}: tells {to}, from now on, of {condition}.",
                    options.name
                ))?;
            }
            if let AlertRule::Row { table, conditions } = &rule {
                let existing = engine.questions.existing_beside(table, conditions).await;
                for counted in &existing {
                    note_existing(counted, settings);
                }
            }
        }
        Some(Command::Delete { name }) if engine.alerts.delete(name).await? => {
            output::line(format_args!("Deleted {name}."))?;
        }
        Some(Command::Delete { name }) => {
            return Err(format!("there is no alert '{name}'; `sluice alerts` lists those there are").into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn request(options: &Create) -> Result<AlertRequest, Failure> {
    let terms = AlertTerms {
        when: match options.when {
            When::Row => engine::When::Row,
            When::Lag => engine::When::Lag,
            When::Late => engine::When::Late,
            When::DeadLetters => engine::When::DeadLetters,
        },
        table: options.table.as_ref().map(|table| table.replace('-', "_")),
        conditions: options.conditions.clone(),
        above: options.above,
        minutes: options.minutes,
    };
    Ok(AlertRequest { name: options.name.clone(), target: options.target.clone(), rule: terms.rule()? })
}

/// Nobody has a value that was asked for: it may be misspelt.
fn note_existing(counted: &ValueCounts, settings: &Settings) {
    let masking = (!settings.mcp.reveal_pii).then(|| Masking::of(settings.catalog));
    let values = counted.values.iter().map(|value| {
        let mut shown = value.value.clone();
        if let Some(masking) = &masking {
            masking.field(&counted.field, &mut shown);
        }
        format!("{} ({})", shown.as_str().map_or_else(|| shown.to_string(), str::to_owned), value.count)
    });
    let values: Vec<String> = values.collect();
    let column = counted.field.trim_end_matches(".keyword");
    let there = if values.is_empty() { "none yet".to_owned() } else { values.join(", ") };
    output::note(format_args!("warning: nobody has the {column} that is asked for; there are: {there}"));
}

async fn list(engine: &Engine) -> Result<(), Failure> {
    let alerts = engine.alerts.list().await?;
    if alerts.is_empty() {
        output::note("There are no alerts; `sluice alerts create --help` tells how to make one.");
    }
    for alert in alerts {
        let to = alert.target.as_deref().unwrap_or("sluice://alerts");
        let now = if alert.going_on { ", going on" } else { "" };
        output::line(format_args!(
            "{}: {} -> {to}, {} fired, {} waiting{now}",
            alert.name, alert.condition, alert.fired, alert.waiting
        ))?;
        if let Some(problem) = alert.problem {
            output::line(format_args!("  problem: {problem}"))?;
        }
    }
    for remark in engine.alerts.unlooked().await? {
        output::line(format_args!("problem: {}", remark.worded(worded)))?;
    }
    Ok(())
}

fn told(condition: &str, trial: &Trial) -> Result<(), Failure> {
    let times =
        trial.would_have_fired.map_or("not known how often".to_owned(), |fired| format!("{fired} times"));
    output::line(format_args!("{condition}: {times} since {}", trial.since.format("%Y-%m-%dT%H:%M:%SZ")))?;
    for one in &trial.latest {
        output::line(format_args!("{} {}", one.at.format("%Y-%m-%dT%H:%M:%SZ"), one.key))?;
    }
    for remark in [&trial.now, &trial.note].into_iter().flatten() {
        output::note(remark);
    }
    Ok(())
}
