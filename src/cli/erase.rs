use std::process::ExitCode;

use clap::Args;

use super::{Failure, output};
use crate::{
    config::Settings,
    domain::TableName,
    engine::{EntityKey, ErasureReport, ErasureRequest, table_named},
    parts,
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The table, as `sluice tables` lists them
    table: String,
    /// The key of the row
    #[arg(long, required_unless_present = "email", conflicts_with = "email")]
    key: Option<String>,
    /// The e-mail address of the person, in any case
    #[arg(long)]
    email: Option<String>,
    /// Erase what refers to it, too: the chat sessions of a lead
    #[arg(long)]
    related: bool,
    /// Really do it: nothing brings back what is erased
    #[arg(long)]
    yes: bool,
}

/// Erases a person and says what remains where.
pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    let engine = parts::engine(settings).await?;
    // Typed with a dash, as everything else on a command line.
    let table = table_named(engine.catalog, &TableName(options.table.replace('-', "_")))?;
    let who = match (&options.key, &options.email) {
        (Some(key), _) => EntityKey::Key(key.clone()),
        (None, email) => EntityKey::Lookup {
            column: "email".to_owned(),
            value: email.clone().unwrap_or_default().trim().to_owned(),
        },
    };
    let request = ErasureRequest { table, who, related: options.related };
    if !options.yes {
        let preview = engine.erasures.preview(&request, BY).await?;
        engine.shut_down().await;
        return Err(format!("this {preview}; say --yes to do it").into());
    }
    let report = engine.erasures.erase(&request, BY).await?;
    for line in summary(&report).lines() {
        output::line(line)?;
    }
    engine.shut_down().await;
    Ok(if report.complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Who asked, in what is noted of an erasure.
const BY: &str = "sluice erase";

fn summary(report: &ErasureReport) -> String {
    let mut lines = vec![format!(
        "Erased of {}: {} entities, {} related.",
        report.table,
        report.keys.len(),
        report.related
    )];
    lines.extend(report.keys.iter().map(|key| format!("key {key}")));
    for place in &report.removed {
        let error = place.error.as_ref().map(|error| format!("; not all of it: {error}")).unwrap_or_default();
        lines.push(format!("{}: {} removed{error}", place.place, place.count));
    }
    lines.push("What remains:".to_owned());
    lines.extend(report.remains.iter().map(|one| format!("- {}: {}", one.place, one.what)));
    if !report.complete {
        lines.push("Erase again by the key once what is named above is mended.".to_owned());
    }
    lines.join("\n")
}
