use std::{io, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use clap::Args;
use tracing::info;

use super::{Failure, ending::Ending, output};
use crate::{
    config::{HttpSettings, Settings, parse_address},
    engine::Engine,
    mcp::{
        Offer, SluiceServer, Webhooks,
        transport::{http, stdio},
    },
    parts,
};

#[derive(Debug, Default, Args)]
pub(super) struct Options {
    /// Only answer tools; leave draining to `sluice worker`
    #[arg(long)]
    without_drains: bool,
    /// Serve over HTTP instead of stdin and stdout, on SLUICE_HTTP_ADDRESS or 127.0.0.1:8765 unless ADDR is given
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    #[allow(clippy::option_option)]
    http: Option<Option<SocketAddr>>,
    #[command(flatten)]
    offer: super::offer::OfferOptions,
}

impl Options {
    pub(super) fn is_over_stdio(&self) -> bool {
        self.http.is_none() && !self.offer.list_tools
    }

    pub(super) fn is_over_http(&self) -> bool {
        self.http.is_some()
    }
}

/// Serves until the client closes stdin or the process is asked to end.
pub(super) async fn run(
    settings: &Settings,
    options: &Options,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<ExitCode, Failure> {
    let offer = options.offer.on(&settings.mcp);
    if let Some(unknown) = offer.unknown_group() {
        return Err(
            format!("SLUICE_TOOLS: there is no group '{unknown}'; `sluice serve --help` lists them").into()
        );
    }
    if let Some(unknown) = offer.unknown_revealed() {
        return Err(format!(
            "SLUICE_REVEAL_PII_TO: there is no tool '{unknown}'; sluice serve --list-tools names them"
        )
        .into());
    }
    if options.offer.list_tools {
        output::lines(super::offer::listed(&offer))?;
        return Ok(ExitCode::SUCCESS);
    }
    let http = options.http.map(|address| settings.http.on(address)).transpose()?;
    let ending = Ending::after(http.as_ref().map_or(Duration::ZERO, |http| http.grace), stop);
    let engine = parts::engine(settings).await?;
    // The client is answered at once: a part that is down is something to report, not a reason to stay silent.
    if !options.without_drains {
        engine.start_drains().await;
    }
    engine.schedules.start();
    engine.housekeeping.start();
    engine.alerts.start(Arc::new(Webhooks::new(settings)));
    engine.exports.keep_sweeping();
    // Drains and syncs need not wait for the last answers.
    let stop = {
        let (ending, engine) = (ending.clone(), engine.clone());
        async move {
            ending.asked().await;
            engine.begin_shut_down();
        }
    };
    let served = match http {
        Some(http) => over_http(&engine, &offer, &http, stop).await,
        None => over_stdio(&engine, &offer, stop).await,
    };
    ending.shut_down(&engine).await;
    served.map(|()| ExitCode::SUCCESS)
}

async fn over_http(
    engine: &Arc<Engine>,
    offer: &Offer,
    settings: &HttpSettings,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let server = SluiceServer::new(engine.clone(), offer);
    http::serve(engine.clone(), server, settings, stop)
        .await
        .map_err(|error| not_served(settings.address, &error))
}

pub(super) fn not_served(address: SocketAddr, error: &io::Error) -> Failure {
    format!("{address} can't be served: {error}; choose another address with --http or SLUICE_HTTP_ADDRESS")
        .into()
}

async fn over_stdio(
    engine: &Arc<Engine>,
    offer: &Offer,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let (input, output) = rmcp::transport::stdio_pipes();
    info!("serving MCP on stdio");
    stdio::serve(SluiceServer::new(engine.clone(), offer), input, output, stop).await.map_err(|error| {
        format!("the MCP session could not be opened: {error}; start sluice from an MCP client, or see `sluice --help`")
            .into()
    })
}
