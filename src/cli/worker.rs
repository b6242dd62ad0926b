use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use clap::Args;

use super::{Failure, ending::Ending, serve::not_served};
use crate::{
    config::{Settings, parse_address},
    mcp::{Webhooks, transport::http},
    parts,
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Answer /healthz, /readyz and /metrics, on SLUICE_HTTP_ADDRESS or 127.0.0.1:8765 unless ADDR is given
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    #[allow(clippy::option_option)]
    http: Option<Option<SocketAddr>>,
}

/// Drains until the process is asked to end.
pub(super) async fn run(
    settings: &Settings,
    options: &Options,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<ExitCode, Failure> {
    let probed = options.http.map(|address| settings.http.on(address)).transpose()?;
    let ending = Ending::new(stop);
    let engine = parts::engine(settings).await?;
    engine.start_drains().await;
    engine.schedules.start();
    engine.housekeeping.start();
    engine.alerts.start(Arc::new(Webhooks::new(settings)));
    let served = match probed {
        Some(probed) => http::serve_probes(engine.clone(), &probed, ending.asked())
            .await
            .map_err(|error| not_served(probed.address, &error)),
        None => {
            ending.asked().await;
            Ok(())
        }
    };
    ending.shut_down(&engine).await;
    served.map(|()| ExitCode::SUCCESS)
}
