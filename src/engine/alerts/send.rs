//! Sending what alerts have to tell, one after the other to each target: none waits for another.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tracing::{info, warn};

use super::{
    Alerts, Channel, Delivery, caught,
    look::{LOOK_EVERY, MAX_PAUSE},
};
use crate::{backoff::Backoff, fail_point, fault::Fault, store::Attempt};

/// First and longest pause of a target that takes nothing.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(15));

/// The longest that a target may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

pub(super) async fn keep_sending(alerts: Weak<Alerts>, channel: Arc<dyn Channel>, target: String) {
    let mut unasked = Backoff::new(LOOK_EVERY, MAX_PAUSE);
    let mut untaken = Backoff::new(PAUSES.0, PAUSES.1);
    while let Some(here) = alerts.upgrade() {
        let sent = caught("sending alerts", here.send_due(&*channel, &target, &mut untaken)).await;
        let pause = match sent {
            Ok(sent) => {
                unasked.reset();
                if sent { Duration::ZERO } else { LOOK_EVERY }
            }
            Err(fault) => {
                if unasked.failures() == 0 {
                    warn!(target, error = %fault, "alerts are not sent while the store can't be asked");
                }
                unasked.next_pause(fault.retry_after)
            }
        };
        drop(here);
        tokio::time::sleep(pause).await;
    }
}

impl Alerts {
    /// Sends the next to a target where it is due; whether there was any.
    async fn send_due(
        &self,
        channel: &dyn Channel,
        target: &str,
        untaken: &mut Backoff,
    ) -> Result<bool, Fault> {
        let store = self.shared.ready_store().await?;
        let Some(one) = store.take_outgoing(target).await? else { return Ok(false) };
        let delivery = channel.send(&one).await;
        fail_point::pass("alerts.sent");
        let attempt = match delivery {
            Delivery::Taken => {
                untaken.reset();
                info!(alert = one.alert, target, id = %one.id, "alert sent");
                Attempt::Delivered
            }
            Delivery::Refused { error } => {
                untaken.reset();
                warn!(alert = one.alert, target, id = %one.id, error, "alert refused for good");
                Attempt::Refused { error }
            }
            Delivery::Failed { error, retry_after } => {
                if untaken.failures() == 0 {
                    warn!(alert = one.alert, target, id = %one.id, error, "alert not sent, it is tried again");
                }
                let retry_after = retry_after.map(|pause| pause.min(MAX_RETRY_AFTER));
                Attempt::Failed { error, again_in: untaken.next_pause(retry_after) }
            }
        };
        store.sent(&one, &attempt).await?;
        Ok(true)
    }
}
