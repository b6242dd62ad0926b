use std::process::ExitCode;

use clap::Args;
use rmcp::{ServiceExt, transport::stdio};
use tracing::info;

use super::{Failure, asked_to_stop};
use crate::{config::Settings, mcp::SluiceServer, parts};

#[derive(Debug, Default, Args)]
pub(super) struct Options {
    /// Only answer tools; leave draining to `sluice worker`
    #[arg(long)]
    without_drains: bool,
}

/// Serves until the client closes stdin or the process is asked to end.
pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    let engine = parts::engine(settings).await?;
    // The client is answered at once: a part that is down is something to report, not a reason to stay silent.
    if !options.without_drains {
        engine.start_drains().await;
    }
    let serving = SluiceServer::new(engine.clone()).serve(stdio());
    let service = tokio::select! {
        service = serving => service,
        () = asked_to_stop() => {
            engine.shut_down().await;
            return Ok(ExitCode::SUCCESS);
        }
    };
    match service {
        Ok(service) => {
            info!("serving MCP on stdio");
            let stop = service.cancellation_token();
            let mut waiting = std::pin::pin!(service.waiting());
            tokio::select! {
                _ = &mut waiting => {}
                () = asked_to_stop() => {
                    stop.cancel();
                    waiting.await.ok();
                }
            }
            engine.shut_down().await;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            engine.shut_down().await;
            Err(format!("the MCP session could not be opened: {error}; start sluice from an MCP client, or see `sluice --help`").into())
        }
    }
}
