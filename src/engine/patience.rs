//! Asking the log again while a fault passes by itself.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    fault::{Fault, FaultKind},
};

/// A broker that fails has its partitions taken over within its session, of nine seconds by default, and a controller
/// that fails as well costs an election more.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until there is an answer, a fault that needs a person, or half a minute has passed. One who cancels waits for
/// nothing.
///
/// # Errors
/// The last fault.
pub(super) async fn patiently<'a, T>(
    cancel: &CancellationToken,
    ask: impl Fn() -> BoxFuture<'a, Result<T, Fault>> + Send,
) -> Result<T, Fault> {
    let until = Instant::now() + PATIENCE;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
    loop {
        let fault = match ask().await {
            Err(fault) if fault.kind == FaultKind::Transient && Instant::now() < until => fault,
            answer => return answer,
        };
        let pause = tokio::time::sleep(backoff.next_pause(fault.retry_after));
        if cancel.run_until_cancelled(pause).await.is_none() {
            return Err(fault);
        }
    }
}
