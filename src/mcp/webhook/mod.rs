//! Alerts as HTTP requests to the webhooks that an operator named.
//!
//! Guarantee: whoever creates an alert picks a target by its name. Its URL comes from the environment alone, and reaches no
//! answer, no log and no error: neither an assistant that was talked into it nor a stranger's text sends a lead anywhere
//! else. Redirects are not followed, proxies are not used, and only addresses of the internet are connected to, unless an
//! operator allows others.

mod body;
mod guard;

use std::{collections::BTreeMap, error::Error, time::Duration};

use async_trait::async_trait;
use chrono::Utc;
use reqwest::{Client, StatusCode, header::RETRY_AFTER, redirect};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use self::guard::{Allowed, Forbidden, Resolver};
use super::{
    offer::ALERTS,
    output::{Masking, Outgoing as Leaving},
};
use crate::{
    backoff::retry_after,
    config::Settings,
    domain::Catalog,
    engine::{Channel, Delivery},
    http_client::Lazy,
    redaction,
    store::Outgoing,
};

/// How long a webhook may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The webhooks that an operator named.
pub struct Webhooks {
    targets: BTreeMap<String, SecretString>,
    /// For https, and for http.
    clients: [(Lazy<Client>, Allowed); 2],
    leaving: Leaving,
    catalog: Catalog,
}

impl Webhooks {
    /// Nothing is sent.
    pub fn new(settings: &Settings) -> Self {
        let catalog = settings.catalog;
        let reveals = settings.mcp.reveal_pii || settings.mcp.reveal_to.contains(ALERTS);
        let over_tls = if settings.alerts.allow_private { Allowed::Any } else { Allowed::Public };
        Self {
            targets: settings.alerts.targets.clone(),
            clients: [over_tls, Allowed::Private].map(|allowed| (client(allowed), allowed)),
            leaving: Leaving::new((!reveals).then(|| Masking::of(catalog)), catalog),
            catalog,
        }
    }

    async fn post(&self, url: &SecretString, outgoing: &Outgoing) -> Delivery {
        let failed = |error: String| Delivery::Failed { error, retry_after: None };
        let Ok(url) = Url::parse(url.expose_secret()) else {
            return failed("its URL is none".to_owned());
        };
        let (client, allowed) = &self.clients[usize::from(url.scheme() != "https")];
        if let Err(forbidden) = allowed.check_literal(&url) {
            return failed(forbidden.to_string());
        }
        let body = body::of(outgoing, self.catalog, &self.leaving);
        let client = match client.get() {
            Ok(client) => client,
            Err(problem) => return failed(problem.to_owned()),
        };
        let request = client.post(url).header("idempotency-key", outgoing.id.to_string()).json(&body);
        match request.send().await {
            Ok(answer) => {
                let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                judged(answer.status(), asked.and_then(|value| retry_after(value, Utc::now())))
            }
            Err(error) => failed(told(error)),
        }
    }
}

#[async_trait]
impl Channel for Webhooks {
    fn targets(&self) -> Vec<String> {
        self.targets.keys().cloned().collect()
    }

    async fn send(&self, outgoing: &Outgoing) -> Delivery {
        match self.targets.get(&outgoing.target) {
            Some(url) => self.post(url, outgoing).await,
            None => {
                Delivery::Failed { error: "this process knows no such target".to_owned(), retry_after: None }
            }
        }
    }
}

fn client(allowed: Allowed) -> Lazy<Client> {
    let builder = Client::builder()
        .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
        .timeout(TIMEOUT)
        // What answers must be what the operator named.
        .redirect(redirect::Policy::none())
        // A proxy would look the name up itself, and reach what this machine must not.
        .no_proxy()
        .dns_resolver(Resolver(allowed));
    Lazy::from(builder)
}

/// What an answer means. A body that is not liked is not liked the next time either; everything else the operator, or
/// time, can mend.
fn judged(status: StatusCode, retry_after: Option<Duration>) -> Delivery {
    if status.is_success() {
        return Delivery::Taken;
    }
    let code = status.as_u16();
    let meaning = match code {
        300..=399 => "it answers with a redirect, which is not followed: name where it leads",
        400 | 413 | 422 => "it does not take what it was sent",
        401 | 403 => "it refuses this URL: is it still the right one?",
        404 | 410 => "there is nothing at its URL any more",
        429 => "it takes no more for now",
        _ => "it does not work",
    };
    let error = format!("{meaning} (status {code})");
    match code {
        400 | 413 | 422 => Delivery::Refused { error },
        _ => Delivery::Failed { error, retry_after },
    }
}

/// Why nothing was answered, without the URL.
fn told(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
        if let Some(forbidden) = cause.downcast_ref::<Forbidden>() {
            return forbidden.to_string();
        }
    }
    let what = if error.is_timeout() {
        return format!("it does not answer within {} s", TIMEOUT.as_secs());
    } else if error.is_connect() {
        "it can't be reached"
    } else {
        "sending failed"
    };
    redaction::words(&format!("{what}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_would_be_refused_again_is_given_up() {
        for status in [200, 202, 204] {
            assert_eq!(judged(StatusCode::from_u16(status).expect("a status"), None), Delivery::Taken);
        }
        for status in [400, 413, 422] {
            let judged = judged(StatusCode::from_u16(status).expect("a status"), None);
            assert!(matches!(judged, Delivery::Refused { .. }), "{status}");
        }
        for status in [302, 401, 404, 408, 429, 500, 503] {
            let asked = Some(Duration::from_secs(7));
            let judged = judged(StatusCode::from_u16(status).expect("a status"), asked);
            assert!(
                matches!(judged, Delivery::Failed { retry_after, .. } if retry_after == asked),
                "{status}"
            );
        }
    }
}
