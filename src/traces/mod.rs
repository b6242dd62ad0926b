//! Optional traces: one from a page of the source through the log's headers to both sinks. docs/traces.md has the spans.
//!
//! Guarantee: where no endpoint is set nothing is made, read or sent, and records bear nothing. Where one is, no collector
//! ever holds up or fails anything (see [`export`]), and no span tells of a row, a person or a key.
//!
//! What runs in a span finds it by OpenTelemetry's own context, so that only what begins and ends spans knows of them.

mod export;
mod parent;
mod vocabulary;

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use futures::future::Either;
pub(crate) use opentelemetry::trace::{SpanBuilder, SpanKind};
use opentelemetry::{
    Context, KeyValue,
    trace::{FutureExt as _, Status, TraceContextExt as _, Tracer as _, TracerProvider as _},
};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::export::{Counts, Exporter, Queue};
pub(crate) use self::{
    export::{Loss, Problem},
    parent::{TRACEPARENT, TraceParent},
    vocabulary::*,
};
use crate::{
    config::{TraceExport, TraceSettings},
    domain::Table,
    fault::Fault,
    log::{Log, Record},
    redaction,
};

/// How long a process that ends waits for its last spans to be sent.
const FINISH_WITHIN: Duration = Duration::from_secs(1);

/// Spans that one batch of records makes at most, whatever its headers say.
const MAX_PARENTS: usize = 128;

static STATE: OnceLock<State> = OnceLock::new();

enum State {
    /// Traces are off because of this.
    Unusable(String),
    On(Tracing),
}

struct Tracing {
    tracer: SdkTracer,
    exporter: Arc<Exporter>,
    counts: &'static Counts,
    closing: CancellationToken,
    closed: CancellationToken,
}

/// Makes spans from now on where the settings say so. Needs a runtime.
pub(crate) fn start(settings: &TraceSettings) {
    let state = match settings {
        TraceSettings::Off => return,
        TraceSettings::Unusable(problem) => Err(problem.clone()),
        TraceSettings::On(export) => {
            Tracing::start(export).map_err(|error| format!("the HTTP client could not be made: {error}"))
        }
    };
    let state = state.map_or_else(State::Unusable, State::On);
    if let State::Unusable(problem) = &state {
        warn!(problem, "traces are off: a setting of OpenTelemetry's can't be used");
    }
    STATE.set(state).ok();
}

impl Tracing {
    fn start(export: &TraceExport) -> Result<Self, reqwest::Error> {
        static COUNTS: OnceLock<Counts> = OnceLock::new();
        for value in export.headers.values().filter_map(|value| value.to_str().ok()) {
            redaction::keep(value);
        }
        let counts = COUNTS.get_or_init(Counts::default);
        let resource = resource(export.service_name.clone());
        let exporter = Arc::new(Exporter::new(export, &resource, counts)?);
        let (queue, spans) = Queue::new(counts);
        let provider = SdkTracerProvider::builder()
            .with_sampler(export.sampler.clone())
            .with_resource(resource)
            .with_span_processor(queue)
            .build();
        let (closing, closed) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn({
            let (exporter, closing, ended) = (exporter.clone(), closing.clone(), closed.clone().drop_guard());
            async move {
                let _ended = ended;
                exporter.run(spans, &closing).await;
            }
        });
        Ok(Self { tracer: provider.tracer("sluice"), exporter, counts, closing, closed })
    }
}

/// Who makes the spans. What the environment says of a service goes first.
fn resource(service_name: Option<String>) -> Resource {
    let detected = Resource::builder().build();
    let unnamed = |name: &opentelemetry::Value| name.as_str().starts_with("unknown_service");
    let is_unnamed = detected.get(&"service.name".into()).is_none_or(|name| unnamed(&name));
    let name = service_name.or_else(|| is_unnamed.then(|| "sluice".to_owned()));
    let mut builder = Resource::builder()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("host.name", crate::parts::host()))
        .with_attribute(KeyValue::new("process.pid", i64::from(std::process::id())));
    if let Some(name) = name {
        builder = builder.with_service_name(name);
    }
    builder.build()
}

fn tracing() -> Option<&'static Tracing> {
    match STATE.get()? {
        State::On(tracing) => Some(tracing),
        State::Unusable(_) => None,
    }
}

/// Sends what waits, as far as that takes not long; what is left is told.
pub(crate) async fn finish() {
    let Some(tracing) = tracing() else { return };
    tracing.closing.cancel();
    tokio::time::timeout(FINISH_WITHIN, tracing.closed.cancelled()).await.ok();
    tracing.exporter.abandon();
}

/// Spans that were sent since the process began, and how many were dropped and why; nothing where traces are off.
pub(crate) fn counts() -> Option<(u64, [(Loss, u64); Loss::ALL.len()])> {
    let counts = tracing()?.counts;
    Some((counts.sent(), Loss::ALL.map(|loss| (loss, counts.dropped(loss)))))
}

/// Whether spans arrive, for doctor: what is well, or else what is wrong and what to do; nothing where traces are off.
pub(crate) async fn examine() -> Option<Result<String, Problem>> {
    const ADVICE: &str = "set it right for sluice, or OTEL_SDK_DISABLED=true where traces are not wanted";
    let tracing = match STATE.get()? {
        State::Unusable(problem) => return Some(Err((format!("traces are off: {problem}"), ADVICE))),
        State::On(tracing) => tracing,
    };
    let place = tracing.exporter.place();
    Some(tracing.exporter.probe().await.map(|()| format!("{place} takes spans")))
}

/// A span that is under way, or nothing where traces are off. It ends with its owner.
pub(crate) struct Span(Option<Context>);

/// Stands in the context of a page's span.
struct OfPage;

impl Span {
    /// A span within the one that this runs in, or the first of a trace.
    pub(crate) fn begin(build: impl FnOnce() -> SpanBuilder) -> Self {
        Self(tracing().map(|tracing| tracing.begin(build(), &Context::current())))
    }

    /// A span within the one that this runs in, where there is one.
    pub(crate) fn within(build: impl FnOnce() -> SpanBuilder) -> Self {
        let here = tracing().map(|tracing| (tracing, Context::current()));
        let here = here.filter(|(_, context)| context.has_active_span());
        Self(here.map(|(tracing, context)| tracing.begin(build(), &context)))
    }

    /// A span within another process's, where that one names any.
    pub(crate) fn below(parent: Option<&str>, build: impl FnOnce() -> SpanBuilder) -> Self {
        let Some(tracing) = tracing() else { return Self(None) };
        let parent =
            parent.and_then(|text| TraceParent::parse(text.as_bytes())).and_then(|parent| parent.context());
        let context = Context::current();
        let context = parent.map_or(context.clone(), |parent| context.with_remote_span_context(parent));
        Self(Some(tracing.begin(build(), &context)))
    }

    /// The span of reading a page. What the source answers is said of it: see [`answered`].
    pub(crate) fn page(table: Table) -> Self {
        let build = || {
            let builder = SpanBuilder::from_name(format!("read {table}")).with_kind(SpanKind::Client);
            builder.with_attributes([TABLE.is(table.to_string())])
        };
        let mut span = Self::begin(build);
        span.0 = span.0.take().map(|context| context.with_value(OfPage));
        span
    }

    /// Has something run in this span.
    pub(crate) fn around<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        match &self.0 {
            Some(context) => Either::Left(work.with_context(context.clone())),
            None => Either::Right(work),
        }
    }

    pub(crate) fn note(&self, attribute: KeyValue) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(attribute);
        }
    }

    pub(crate) fn fail(&self, kind: impl Into<String>) {
        self.note(ERROR.is(kind.into()));
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(""));
        }
    }

    /// Ends it now; what runs in it may still begin others.
    pub(crate) fn end(&self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.end();
    }
}

impl Tracing {
    fn begin(&self, builder: SpanBuilder, parent: &Context) -> Context {
        parent.with_span(self.tracer.build_with_context(builder, parent))
    }
}

/// What a fault is called in a span: its message names servers, and a span leaves for another one.
pub(crate) fn kind_of(fault: &Fault) -> String {
    format!("{} {:?}", fault.part, fault.kind).to_lowercase()
}

/// Says of the page that is being read how the source answered.
pub(crate) fn answered<const COUNT: usize>(attributes: impl FnOnce() -> [KeyValue; COUNT]) {
    if tracing().is_some() {
        let context = Context::current();
        if context.get::<OfPage>().is_some() {
            context.span().set_attributes(attributes());
        }
    }
}

/// The span that this runs in, where it is sampled.
pub(crate) fn current() -> Option<TraceParent> {
    tracing()?;
    TraceParent::of(Context::current().span().span_context())
}

/// What a span is called that sends to a topic or processes what was sent.
pub(crate) fn messaging(
    operation: &'static str,
    kind: SpanKind,
    log: &dyn Log,
) -> (SpanBuilder, Vec<KeyValue>) {
    let topic = log.topic();
    let builder = SpanBuilder::from_name(format!("{operation} {topic}")).with_kind(kind);
    let attributes = vec![
        SYSTEM.is(log.name()),
        TOPIC.is(topic.to_owned()),
        OPERATION.is(operation),
        OPERATION_TYPE.is(operation),
    ];
    (builder, attributes)
}

/// The spans whose records a batch holds, and since when it is in hand.
pub(crate) struct Taken {
    parents: Vec<(TraceParent, usize)>,
    records: usize,
    at: SystemTime,
}

impl Taken {
    /// Nothing where traces are off.
    pub(crate) fn up(records: &[Record]) -> Option<Self> {
        tracing()?;
        Some(Self { parents: parent::parents_of(records), records: records.len(), at: SystemTime::now() })
    }

    /// Makes a span for each: from taking the batch up until it was applied, or failed.
    pub(crate) fn ended(self, log: &dyn Log, group: &str, sink: &'static str, fault: Option<&Fault>) {
        let Some(tracing) = tracing() else { return };
        let more = self.parents.len().saturating_sub(MAX_PARENTS) as u64;
        tracing.counts.drop(
            Loss::Crowded,
            more,
            "the records of one batch are of more pages than spans are made for",
        );
        for (parent, records) in self.parents.into_iter().take(MAX_PARENTS) {
            let Some(parent) = parent.context() else { continue };
            let (builder, mut attributes) = messaging("process", SpanKind::Consumer, log);
            attributes.extend([
                GROUP.is(group.to_owned()),
                SINK.is(sink),
                MESSAGES.counts(records),
                BATCH.counts(self.records),
            ]);
            let builder = builder.with_start_time(self.at).with_attributes(attributes);
            let span = Span(Some(tracing.begin(builder, &Context::new().with_remote_span_context(parent))));
            if let Some(fault) = fault {
                span.fail(kind_of(fault));
            }
        }
    }
}
