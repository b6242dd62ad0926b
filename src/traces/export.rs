//! Spans on their way to a collector: OTLP over HTTP, as protobuf.
//!
//! Guarantee: whoever ends a span waits for nobody. Spans go into a queue of bounded length; one task sends them. What finds
//! no room, what a collector does not take after a few attempts, and what is left when the process ends is dropped,
//! counted, and told.

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use chrono::Utc;
use opentelemetry_proto::{
    tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    transform::{
        common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use prost::Message as _;
use reqwest::{
    Client, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
    redirect,
};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    backoff::{Backoff, retry_after},
    config::{ServerUrl, TraceExport},
};

/// Spans that wait at most.
const MAX_WAITING: usize = 2048;

/// Spans of one request.
const MAX_BATCH: usize = 512;

/// How long spans are gathered for one request.
const GATHER_FOR: Duration = Duration::from_secs(1);

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often a request is sent again that may be taken later, and the first and longest pause before.
const RETRIES: u32 = 3;
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// No more is read of an answer.
const MAX_ANSWER: usize = 64 * 1024;

/// Why spans were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The queue was full.
    Full,
    /// The collector did not take them.
    Refused,
    /// Records of one batch named too many parents.
    Crowded,
    /// The process ended before they were sent.
    Ended,
}

impl Loss {
    pub(crate) const ALL: [Self; 4] = [Self::Full, Self::Refused, Self::Crowded, Self::Ended];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Refused => "refused",
            Self::Crowded => "crowded",
            Self::Ended => "ended",
        }
    }
}

/// What became of spans since the process began.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    sent: AtomicU64,
    dropped: [AtomicU64; Loss::ALL.len()],
    /// Ended, and neither sent nor dropped yet.
    waiting: AtomicU64,
    told: [AtomicBool; Loss::ALL.len()],
}

impl Counts {
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(crate) fn dropped(&self, loss: Loss) -> u64 {
        self.dropped[loss as usize].load(Ordering::Relaxed)
    }

    /// Counts spans that are lost, and says so the first time.
    pub(super) fn drop(&self, loss: Loss, count: u64, why: impl fmt::Display) {
        self.dropped[loss as usize].fetch_add(count, Ordering::Relaxed);
        if count > 0 && !self.told[loss as usize].swap(true, Ordering::Relaxed) {
            warn!(
                count, problem = %why,
                "spans of traces are lost; those that follow are counted in sluice_trace_spans_dropped_total alone"
            );
        }
    }

    /// From now on a loss of this kind is news again. Whether there was one.
    fn recover(&self, loss: Loss) -> bool {
        self.told[loss as usize].swap(false, Ordering::Relaxed)
    }
}

/// Takes spans as they end.
#[derive(Debug)]
pub(super) struct Queue {
    sender: Sender<SpanData>,
    counts: &'static Counts,
}

impl Queue {
    pub(super) fn new(counts: &'static Counts) -> (Self, Receiver<SpanData>) {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        (Self { sender, counts }, receiver)
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        // Counted before it can be sent.
        self.counts.waiting.fetch_add(1, Ordering::Relaxed);
        let Err(refused) = self.sender.try_send(span) else { return };
        self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
        let loss =
            if matches!(refused, mpsc::error::TrySendError::Full(_)) { Loss::Full } else { Loss::Ended };
        self.counts.drop(
            loss,
            1,
            "there is no room for more: the collector is slower than they come, or down",
        );
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// What is wrong with a collector, and what to do.
pub(crate) type Problem = (String, &'static str);

/// Why a request came to nothing.
struct Refusal {
    problem: Problem,
    /// It may be taken later.
    passes: bool,
    retry_after: Option<Duration>,
}

/// Sends what the queue takes.
pub(super) struct Exporter {
    client: Client,
    url: ServerUrl,
    headers: HeaderMap,
    resource: ResourceAttributesWithSchema,
    counts: &'static Counts,
}

impl Exporter {
    pub(super) fn new(
        export: &TraceExport,
        resource: &Resource,
        counts: &'static Counts,
    ) -> Result<Self, reqwest::Error> {
        let mut builder = Client::builder();
        if is_loopback(&export.url) {
            // A proxy could not reach this machine's own loopback.
            builder = builder.no_proxy();
        }
        let client = builder
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .timeout(TIMEOUT)
            // A secret must not follow a redirect to another host.
            .redirect(redirect::Policy::none())
            .build()?;
        let mut headers = export.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        Ok(Self { client, url: export.url.clone(), headers, resource: resource.into(), counts })
    }

    /// The collector, without what may be secret of its address.
    pub(super) fn place(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Sends spans as they come, until `closing`; then what is left.
    pub(super) async fn run(&self, mut queue: Receiver<SpanData>, closing: &CancellationToken) {
        let mut batch = Vec::new();
        loop {
            let came = tokio::select! {
                came = queue.recv_many(&mut batch, MAX_BATCH) => came,
                () = closing.cancelled() => {
                    queue.close();
                    queue.recv_many(&mut batch, MAX_BATCH).await
                }
            };
            if came == 0 {
                return;
            }
            let gathered = tokio::time::sleep(GATHER_FOR);
            tokio::pin!(gathered);
            while batch.len() < MAX_BATCH {
                let room = MAX_BATCH - batch.len();
                tokio::select! {
                    _ = queue.recv_many(&mut batch, room) => {}
                    () = &mut gathered => break,
                    () = closing.cancelled() => break,
                }
            }
            self.send(std::mem::take(&mut batch), closing).await;
        }
    }

    async fn send(&self, batch: Vec<SpanData>, closing: &CancellationToken) {
        let count = batch.len() as u64;
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let body = Bytes::from(ExportTraceServiceRequest { resource_spans }.encode_to_vec());
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        let outcome = loop {
            let refusal = match self.post(body.clone()).await {
                Ok(answer) => break Ok(answer),
                Err(refusal) => refusal,
            };
            if !refusal.passes || backoff.failures() >= RETRIES || closing.is_cancelled() {
                break Err(refusal);
            }
            // No collector is waited for longer: what comes meanwhile would find no room.
            let pause = backoff.next_pause(refusal.retry_after).min(PAUSES.1);
            closing.run_until_cancelled(tokio::time::sleep(pause)).await;
        };
        let lost = match outcome {
            Ok((0, _)) => {
                if self.counts.recover(Loss::Refused) {
                    info!(place = self.place(), "spans of traces are taken again");
                }
                0
            }
            Ok((rejected, why)) => {
                let rejected = rejected.min(count);
                self.counts.drop(
                    Loss::Refused,
                    rejected,
                    format_args!("{} rejects them: {why}", self.place()),
                );
                rejected
            }
            Err(refusal) => {
                let (problem, advice) = refusal.problem;
                self.counts.drop(Loss::Refused, count, format_args!("{problem}; {advice}"));
                count
            }
        };
        self.counts.sent.fetch_add(count - lost, Ordering::Relaxed);
        self.counts.waiting.fetch_sub(count, Ordering::Relaxed);
    }

    /// Whether the collector takes what it is sent, asked with no span.
    pub(super) async fn probe(&self) -> Result<(), Problem> {
        self.post(Bytes::new()).await.map(drop).map_err(|refusal| refusal.problem)
    }

    /// How many spans of a request were rejected, and why.
    async fn post(&self, body: Bytes) -> Result<(u64, String), Refusal> {
        let broken = |error: &reqwest::Error| Refusal {
            problem: unanswered(&self.place(), error),
            passes: true,
            retry_after: None,
        };
        let request = self.client.post((*self.url).clone()).headers(self.headers.clone()).body(body);
        let mut response = request.send().await.map_err(|error| broken(&error))?;
        let status = response.status();
        if !status.is_success() {
            let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            return Err(Refusal {
                problem: refused(&self.place(), status),
                passes: matches!(status.as_u16(), 429 | 502 | 503 | 504),
                retry_after: asked.and_then(|value| retry_after(value, Utc::now())),
            });
        }
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
            if answer.len() + chunk.len() > MAX_ANSWER {
                break;
            }
            answer.extend_from_slice(&chunk);
        }
        // Whoever answers in another form took all of it.
        let partial =
            ExportTraceServiceResponse::decode(&*answer).ok().and_then(|answer| answer.partial_success);
        let partial = partial.unwrap_or_default();
        let why: String = crate::redaction::words(&partial.error_message).chars().take(200).collect();
        Ok((u64::try_from(partial.rejected_spans).unwrap_or_default(), why))
    }

    /// Counts what was not sent when the process ends.
    pub(super) fn abandon(&self) {
        let left = self.counts.waiting.swap(0, Ordering::Relaxed);
        let place = self.place();
        self.counts.drop(Loss::Ended, left, format_args!("the process ends, and {place} had not taken them"));
    }
}

fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn unanswered(place: &str, error: &reqwest::Error) -> Problem {
    let reason = if error.is_timeout() {
        "does not answer in time"
    } else if error.is_connect() {
        "can't be connected to"
    } else {
        "breaks the connection off"
    };
    let advice = "look whether a collector listens there for OTLP over HTTP (usually on port 4318; 4317 speaks gRPC), or remove \
                  OTEL_EXPORTER_OTLP_ENDPOINT";
    (format!("{place} {reason}"), advice)
}

fn refused(place: &str, status: StatusCode) -> Problem {
    let advice = match status.as_u16() {
        401 | 403 => "look at OTEL_EXPORTER_OTLP_HEADERS",
        404 | 405 => {
            "look at OTEL_EXPORTER_OTLP_ENDPOINT, behind which /v1/traces is put, or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, which is \
             taken as it is"
        }
        429 | 500..=599 => "look at the collector's own log",
        _ => "look whether it is a collector that takes OTLP over HTTP",
    };
    (format!("{place} answers {status}"), advice)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::prelude::*;

    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_and_told_once_and_nobody_waits() {
        let counts: &'static Counts = Box::leak(Box::default());
        let (queue, mut spans) = Queue::new(counts);
        let tracer = SdkTracerProvider::builder().with_span_processor(queue).build().tracer("test");
        let told = crate::logging::kept_of(|lines| {
            let subscriber = tracing_subscriber::registry().with(lines);
            tracing::subscriber::with_default(subscriber, || {
                (0..MAX_WAITING + 3).for_each(|_| drop(tracer.start("read leads")));
            });
        });
        assert_eq!(
            (counts.dropped(Loss::Full), counts.waiting.load(Ordering::Relaxed)),
            (3, MAX_WAITING as u64)
        );
        assert_eq!(told.matches("spans of traces are lost").count(), 1, "{told}");
        let waiting = std::iter::from_fn(|| spans.try_recv().ok()).count();
        assert_eq!(waiting, MAX_WAITING);
        spans.close();
        drop(tracer.start("read leads"));
        assert_eq!((counts.dropped(Loss::Ended), counts.dropped(Loss::Full)), (1, 3));
    }
}
