//! sluice over HTTP, with the tools, resources and prompts that the official conformance suite calls beside its own. The
//! transport, the guard and the sessions are the program's; the program itself has none of these.

mod fixtures;
mod input;
mod tasks;
mod tools;

use std::{error::Error, io};

use sluice::{
    config::Settings,
    mcp::{Offer, Reveals, SluiceServer, transport::http},
    parts,
};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use fixtures::Fixtures;

impl Reveals for Fixtures {}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let layer = fmt::layer().json().flatten_event(true).with_writer(io::stderr);
    tracing_subscriber::registry().with(EnvFilter::new("warn,sluice=info")).with(layer).init();
    let settings = Settings::load(std::env::vars())?;
    let address = settings.http.on(Some(([127, 0, 0, 1], 0).into()))?;
    let engine = parts::engine(&settings).await?;
    let fixtures = Fixtures::new(SluiceServer::new(engine.clone(), &Offer::default()))?;
    http::serve(engine.clone(), fixtures, &address, asked_to_stop()).await?;
    engine.shut_down().await;
    Ok(())
}

async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    if let Ok(mut terminated) = signal(SignalKind::terminate()) {
        terminated.recv().await;
    }
}
