//! Sending what alerts have to tell, one after the other to each target.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::future::join_all;
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

pub(super) async fn keep_sending(alerts: Weak<Alerts>, channel: Arc<dyn Channel>, targets: Vec<String>) {
    let mut backoff = Backoff::new(LOOK_EVERY, MAX_PAUSE);
    let mut pauses: HashMap<String, Backoff> = HashMap::new();
    while let Some(here) = alerts.upgrade() {
        let sent = caught("sending alerts", here.send_due(&*channel, &targets, &mut pauses)).await;
        let pause = match sent {
            Ok(sent) => {
                backoff.reset();
                if sent { Duration::ZERO } else { LOOK_EVERY }
            }
            Err(fault) => {
                if backoff.failures() == 0 {
                    warn!(error = %fault, "alerts are not sent while the store can't be asked");
                }
                backoff.next_pause(fault.retry_after)
            }
        };
        drop(here);
        tokio::time::sleep(pause).await;
    }
}

impl Alerts {
    /// Sends the next to each target that is due; whether there was any.
    async fn send_due(
        &self,
        channel: &dyn Channel,
        targets: &[String],
        pauses: &mut HashMap<String, Backoff>,
    ) -> Result<bool, Fault> {
        let store = self.shared.ready_store().await?;
        let due = store.take_outgoing(targets).await?;
        let sent = join_all(due.iter().map(async |one| (one, channel.send(one).await))).await;
        fail_point::pass("alerts.sent");
        for (one, delivery) in sent {
            let backoff =
                pauses.entry(one.target.clone()).or_insert_with(|| Backoff::new(PAUSES.0, PAUSES.1));
            let attempt = match delivery {
                Delivery::Taken => {
                    backoff.reset();
                    info!(alert = one.alert, target = one.target, id = %one.id, "alert sent");
                    Attempt::Delivered
                }
                Delivery::Refused { error } => {
                    warn!(alert = one.alert, target = one.target, id = %one.id, error, "alert refused for good");
                    Attempt::Refused { error }
                }
                Delivery::Failed { error, retry_after } => {
                    if backoff.failures() == 0 {
                        warn!(alert = one.alert, target = one.target, id = %one.id, error, "alert not sent, it is tried again");
                    }
                    let retry_after = retry_after.map(|pause| pause.min(MAX_RETRY_AFTER));
                    Attempt::Failed { error, again_in: backoff.next_pause(retry_after) }
                }
            };
            store.sent(one, &attempt).await?;
        }
        Ok(!due.is_empty())
    }
}
