use std::process::ExitCode;

use super::{Failure, asked_to_stop};
use crate::{config::Settings, parts};

/// Drains until the process is asked to end.
pub(super) async fn run(settings: &Settings) -> Result<ExitCode, Failure> {
    let stop = asked_to_stop();
    let engine = parts::engine(settings).await?;
    engine.start_drains().await;
    engine.schedules.start();
    stop.await;
    engine.shut_down().await;
    Ok(ExitCode::SUCCESS)
}
