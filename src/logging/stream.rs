//! The outlet into the data stream.

use std::{sync::Arc, time::Duration};

use tokio::runtime::{Builder, Runtime};

use super::outlet::{Outlet, Problem, Written};
use crate::index::elasticsearch::LogStream;

/// Asks the server on a runtime of its own: what the pipeline's is busy with holds up no line, and the other way round.
pub(super) struct Stream {
    stream: LogStream,
    runtime: Option<Runtime>,
}

impl Stream {
    pub(super) fn new(stream: LogStream) -> Self {
        Self { stream, runtime: None }
    }
}

impl Outlet for Stream {
    fn write(&mut self, lines: &[Arc<str>]) -> Result<Written, Problem> {
        let failed = |text: String, pause: Option<Duration>| Problem { text, written: 0, pause };
        let runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| failed(format!("the runtime could not be started: {error}"), None))?,
        };
        let written = runtime.block_on(self.stream.write(lines));
        self.runtime = Some(runtime);
        let outcome = written.map_err(|fault| failed(fault.to_string(), fault.retry_after))?;
        Ok(Written { refused: outcome.why.map(|why| (outcome.refused, why)) })
    }
}
