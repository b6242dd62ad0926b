//! Requests to PostgREST: bounded in time and size, repeated where the answer allows it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chrono::Utc;
use reqwest::{
    Client, Response,
    header::{HeaderMap, RETRY_AFTER},
    redirect,
};
use tokio::time::Instant;
use tracing::debug;
use url::Url;

use super::{
    PART,
    errors::{ErrorBody, Verdict, refused, retry_after, verdict},
    key,
};
use crate::{backoff::Backoff, config::SupabaseSettings, fault::Fault};

/// The largest answer that is read. A page of a thousand rows is far below.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// First and longest pause between two attempts; `Retry-After` may ask for more.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// A successful answer.
pub(super) struct Reply {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Why a request came to nothing.
pub(super) enum Refusal {
    /// PostgREST's answer, which the caller may know what to do about.
    Answer {
        status: u16,
        error: ErrorBody,
    },
    Fault(Fault),
}

/// What is asked for.
pub(super) struct Request<'a> {
    /// Names what is attempted, for messages: `reading leads`.
    pub(super) what: &'a str,
    /// Below `/rest/v1/`.
    pub(super) path: &'a str,
    pub(super) query: &'a [(String, String)],
    pub(super) prefer: &'a str,
    pub(super) accept: &'a str,
}

pub(super) struct Http {
    client: Client,
    base: Url,
    schema: String,
    retry_for: Duration,
    pub(super) host: String,
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

impl Http {
    pub(super) fn new(settings: &SupabaseSettings) -> Result<Self, Fault> {
        let refused = |problem: String, advice: &str| Fault::misconfigured(PART, problem, advice);
        let headers = key::headers(&settings.key).map_err(|_| {
            refused("the key holds characters no header can carry".to_owned(), "copy SUPABASE_KEY anew")
        })?;
        let mut builder = Client::builder();
        if is_loopback(&settings.url) {
            // A proxy could not reach this machine's own loopback.
            builder = builder.no_proxy();
        }
        let client = builder
            // Supabase refuses secret keys to anything that looks like a browser.
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(settings.timeout.min(Duration::from_secs(10)))
            .timeout(settings.timeout)
            // A key must not follow a redirect to another host.
            .redirect(redirect::Policy::none())
            .gzip(true)
            .build()
            .map_err(|error| refused(format!("the HTTP client could not be made: {error}"), "report this"))?;
        let mut base = (*settings.url).clone();
        base.set_path(&format!("{}/rest/v1/", settings.url.path().trim_end_matches('/')));
        let host = match base.port() {
            Some(port) => format!("{}:{port}", base.host_str().unwrap_or_default()),
            None => base.host_str().unwrap_or_default().to_owned(),
        };
        Ok(Self { client, base, schema: settings.schema.clone(), retry_for: settings.retry_for, host })
    }

    /// Sends a GET, and again while the answer allows it and the time for retries lasts.
    pub(super) async fn get(&self, request: &Request<'_>) -> Result<Reply, Refusal> {
        let until = Instant::now() + self.retry_for;
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            let (refusal, asked) = match self.try_get(request).await {
                Ok(reply) => return Ok(reply),
                Err(failed) => failed,
            };
            let again = match &refusal {
                Refusal::Answer { status, error } => verdict(*status, error.code()) == Verdict::Retry,
                Refusal::Fault(_) => true,
            };
            let pause = backoff.next_pause(asked);
            if !again || Instant::now() + pause > until {
                return Err(match refusal {
                    Refusal::Answer { status, error } if again => Refusal::Fault(
                        refused(request.what, &self.host, status, &error).with_retry_after(asked),
                    ),
                    other => other,
                });
            }
            debug!(what = request.what, ?pause, "supabase refused in passing, asking again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn try_get(&self, request: &Request<'_>) -> Result<Reply, (Refusal, Option<Duration>)> {
        let unanswered =
            |error: reqwest::Error| (Refusal::Fault(self.unanswered(request.what, &error)), None);
        let url = self.base.join(request.path).map_err(|_| {
            let fault = Fault::misconfigured(PART, "the table's address can't be made", "check SUPABASE_URL");
            (Refusal::Fault(fault), None)
        })?;
        let response = self
            .client
            .get(url)
            .query(request.query)
            .header("Accept", request.accept)
            .header("Accept-Profile", &self.schema)
            .header("Prefer", request.prefer)
            .send()
            .await
            .map_err(unanswered)?;
        let status = response.status();
        let headers = response.headers().clone();
        let body = match read_body(response).await {
            Ok(Some(body)) => body,
            Ok(None) => {
                let fault = Fault::misconfigured(
                    PART,
                    format!(
                        "{} from {}: the answer is larger than {MOST_BYTES} bytes",
                        request.what, self.host
                    ),
                    "lower SUPABASE_PAGE_SIZE",
                );
                return Err((Refusal::Fault(fault), None));
            }
            Err(error) => return Err(unanswered(error)),
        };
        if status.is_success() {
            return Ok(Reply { headers, body });
        }
        let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let asked = asked.and_then(|value| retry_after(value, Utc::now()));
        Err((Refusal::Answer { status: status.as_u16(), error: ErrorBody::read(&body) }, asked))
    }

    /// A refusal that nothing more can be done about.
    pub(super) fn fault(&self, what: &str, refusal: Refusal) -> Fault {
        match refusal {
            Refusal::Answer { status, error } => refused(what, &self.host, status, &error),
            Refusal::Fault(fault) => fault,
        }
    }

    /// reqwest's own text holds the URL with its query, which may hold filters: only the kind is repeated.
    fn unanswered(&self, what: &str, error: &reqwest::Error) -> Fault {
        let reason = if error.is_timeout() {
            "no answer within the timeout"
        } else if error.is_connect() {
            "no connection"
        } else {
            "the connection broke"
        };
        Fault::transient(
            PART,
            format!("{what} from {} failed: {reason}", self.host),
            "check SUPABASE_URL and the network, and that the project is not paused",
        )
    }
}

/// `None` when the body is too large.
async fn read_body(mut response: Response) -> Result<Option<Bytes>, reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MOST_BYTES {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}
