use std::{process::ExitCode, sync::Arc};

use super::{Failure, ending::Ending};
use crate::{config::Settings, mcp::Webhooks, parts};

/// Drains until the process is asked to end.
pub(super) async fn run(
    settings: &Settings,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<ExitCode, Failure> {
    let ending = Ending::new(stop);
    let engine = parts::engine(settings).await?;
    engine.start_drains().await;
    engine.schedules.start();
    engine.alerts.start(Arc::new(Webhooks::new(settings)?));
    ending.asked().await;
    ending.shut_down(&engine).await;
    Ok(ExitCode::SUCCESS)
}
