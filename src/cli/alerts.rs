//! `sluice alerts`: which alerts there are; one more, or one less.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::{Failure, output};
use crate::{
    config::Settings,
    domain::TableName,
    engine::{AlertRequest, Engine, Trial},
    parts,
    source::Condition,
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
    /// The table of the rows
    #[arg(long, default_value = "leads")]
    table: String,
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
            if options.only_try {
                told(&engine.alerts.trial(&request).await?)?;
            } else {
                let to = request.target.clone().unwrap_or_else(|| "sluice://alerts".to_owned());
                engine.alerts.create(request, "sluice alerts").await?;
                output::line(format_args!(
                    "Created {}: tells {to} of what comes from now on.",
                    options.name
                ))?;
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
    let conditions = options.conditions.iter().map(|text| {
        Condition::parse(text).ok_or_else(|| -> Failure {
            format!("--where {text}: write a column, one of = != > >= < <= and a value: origem=google").into()
        })
    });
    let conditions: Vec<Condition> = conditions.collect::<Result<_, _>>()?;
    let table = TableName(options.table.replace('-', "_"));
    let rule = match options.when {
        When::Row => AlertRule::Row { table, conditions },
        _ if !conditions.is_empty() => return Err("--where: is for rows alone; leave it out".into()),
        When::Lag => {
            AlertRule::Lag { records: options.above.unwrap_or(1_000), minutes: options.minutes.unwrap_or(5) }
        }
        When::Late => AlertRule::Late { minutes: options.minutes.unwrap_or(0) },
        When::DeadLetters => AlertRule::DeadLetters { above: options.above.unwrap_or(0) },
    };
    Ok(AlertRequest { name: options.name.clone(), target: options.target.clone(), rule })
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
    Ok(())
}

fn told(trial: &Trial) -> Result<(), Failure> {
    output::line(format_args!(
        "{}: {} times since {}",
        trial.condition,
        trial.would_have_fired,
        trial.since.format("%Y-%m-%dT%H:%M:%SZ")
    ))?;
    for one in &trial.latest {
        output::line(format_args!("{} {}", one.at.format("%Y-%m-%dT%H:%M:%SZ"), one.key))?;
    }
    for remark in [&trial.now, &trial.note].into_iter().flatten() {
        output::note(remark);
    }
    Ok(())
}
