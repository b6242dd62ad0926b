//! Tools that watch and work the engine itself.

use rmcp::{RoleServer, model::JsonObject, service::RequestContext, tool, tool_router};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;
use uuid::Uuid;

use super::waiting::{default_wait, patience};
use crate::{
    domain::{Json, ManualEvent, TableName},
    engine::{EngineError, EngineMetrics, SinkPause, SinkProgress, SyncStatus},
    log::Position,
    mcp::{
        SluiceServer,
        answer::{Answer, ToolError, arguments},
        bounded::{AROUND, LARGEST_ANSWER, fitting},
        schema,
    },
    store::{SyncFilter, SyncState},
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SinkArgs {
    /// For example "postgres".
    sink: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RestartArgs {
    /// A sink, for example "postgres".
    service: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListSyncsArgs {
    /// Only syncs of this table, for example "leads".
    #[serde(default)]
    table: Option<String>,
    /// Only these; "succeeded": all is in the log, drained or not.
    #[serde(default)]
    state: Option<SyncState>,
    /// Syncs to list. Default 20.
    #[serde(default = "default_syncs")]
    #[schemars(range(min = 1, max = 100))]
    limit: u32,
    /// The next_cursor of the call before.
    #[serde(default)]
    cursor: Option<Uuid>,
}

fn default_syncs() -> u32 {
    20
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct InjectArgs {
    /// What happened.
    evento: String,
    /// Who it is about. Default "manual".
    #[serde(default = "default_usuario")]
    usuario: String,
    /// Default 0.
    #[serde(default, deserialize_with = "exact_double")]
    valor: f64,
    /// Anything more, up to 16 KiB as JSON.
    #[serde(default)]
    metadata: JsonObject,
    /// The event's id. Give one to make repeating the call harmless; another event's is refused.
    #[serde(default)]
    id: Option<Uuid>,
    /// Wait (20 s at most) until the event can be queried in every sink. Default true.
    #[serde(default = "default_wait")]
    wait: bool,
}

/// A number that a double holds to its last digit: another would be stored in its place.
fn exact_double<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let given = Value::deserialize(deserializer)?;
    let number = match &given {
        Value::Number(number) => number.as_f64(),
        Value::String(text) if text.parse::<f64>().is_ok() => None,
        _ => return Err(D::Error::custom("expected a number")),
    };
    let (is_whole, digits) = (given.is_i64() || given.is_u64(), given.to_string());
    let is_kept = |double: &f64| !is_whole || format!("{double:.0}") == digits;
    number.filter(is_kept).ok_or_else(|| D::Error::custom("can't be kept to its last digit; round it"))
}

fn default_usuario() -> String {
    "manual".to_owned()
}

/// A page of syncs.
#[derive(Debug, Serialize, JsonSchema)]
struct SyncList {
    /// Newest first.
    syncs: Vec<SyncStatus>,
    /// Give it as cursor to see older ones; absent when these are the last.
    next_cursor: Option<Uuid>,
    /// How to see more, where there is more.
    hint: Option<&'static str>,
}

impl SyncList {
    /// As many of the syncs as fit; `next` is where those behind them begin.
    fn of(syncs: Vec<SyncStatus>, next: Option<Uuid>) -> Self {
        let found = syncs.len();
        let syncs = fitting(syncs, &mut (LARGEST_ANSWER - AROUND));
        let last = syncs.last().map(|sync| sync.sync_id);
        let next_cursor = if syncs.len() < found { last } else { next };
        let hint = next_cursor.map(|_| "there are older ones: pass next_cursor as cursor");
        Self { syncs, next_cursor, hint }
    }
}

/// A sink's pause.
#[derive(Debug, Serialize, JsonSchema)]
struct PauseAnswer {
    sink: String,
    /// In force now.
    pause: Option<SinkPause>,
    /// The call changed something.
    changed: bool,
    /// What happens now.
    next_step: Option<&'static str>,
}

/// A worker's restart.
#[derive(Debug, Serialize, JsonSchema)]
struct RestartAnswer {
    service: String,
    /// False while it still finishes the batch in hand; it starts anew by itself then.
    restarted: bool,
    /// What had gone wrong before, if anything did.
    last_error: Option<String>,
    /// What to call next, if anything.
    next_step: Option<&'static str>,
}

/// An injected event.
#[derive(Debug, Serialize, JsonSchema)]
struct InjectAnswer {
    id: Uuid,
    partition: i32,
    offset: i64,
    /// It can be queried in every sink.
    queryable: bool,
    sinks: Vec<SinkProgress>,
    /// What to call next, if anything.
    next_step: Option<&'static str>,
}

#[tool_router(router = operate_tools, vis = "pub(in crate::mcp)")]
impl SluiceServer {
    #[tool(
        title = "Engine metrics",
        description = "Rates of this process over the last minute, latencies (ms) over five, counters since start: rows read, events appended, and of each sink events, batches, retries, restarts, dead letters.",
        output_schema = schema::output::<EngineMetrics>(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn get_engine_metrics(&self) -> Result<Answer<EngineMetrics>, ToolError> {
        Ok(Answer(self.engine.inspection.metrics()))
    }

    #[tool(
        title = "List syncs",
        description = "Syncs by hand or by schedule, newest first: rows read, events appended, how each ended and \
            how far each sink is. Example: {\"table\": \"leads\", \"state\": \"failed\", \"limit\": 10}",
        input_schema = schema::input::<ListSyncsArgs>(),
        output_schema = schema::output::<SyncList>(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn list_syncs(&self, given: JsonObject) -> Result<Answer<SyncList>, ToolError> {
        let args: ListSyncsArgs = arguments(given)?;
        let filter = SyncFilter {
            only_reconciliations: false,
            table: args.table.map(TableName),
            state: args.state,
            before: args.cursor,
            until: None,
            limit: args.limit,
        };
        let (syncs, next_cursor) = self.engine.syncs.list(filter).await?;
        Ok(Answer(SyncList::of(syncs, next_cursor)))
    }

    #[tool(
        title = "Inject an event",
        description = "Appends one hand-made event (tipo_evento manual, categoria teste_manual) to the log, to test the whole way. It can't be taken back. \
            Example: {\"evento\": \"teste\", \"usuario\": \"ana\", \"valor\": 1.5}",
        input_schema = schema::input::<InjectArgs>(),
        output_schema = schema::output::<InjectAnswer>(),
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = false, open_world_hint = false)
    )]
    async fn inject_event(&self, given: JsonObject) -> Result<Answer<InjectAnswer>, ToolError> {
        let args: InjectArgs = arguments(given)?;
        // Known before it is appended: what seems to have failed may be in the log.
        let id = args.id.unwrap_or_else(Uuid::now_v7);
        let event = ManualEvent {
            id: Some(id),
            usuario: args.usuario,
            evento: args.evento,
            valor: args.valor,
            metadata: Json::from(&args.metadata),
        };
        if args.id.is_some() {
            self.engine.appender.check_id(&event).await.map_err(|error| {
                let unknown = "nothing was appended: whether the id is taken can't be told".to_owned();
                let causes = if matches!(error, EngineError::Fault(_)) { &[unknown][..] } else { &[] };
                ToolError::from(error).with_causes(causes)
            })?;
        }
        let injected = self.engine.appender.inject(event.clone()).await;
        let (_, at) = injected.map_err(|error| {
            let again =
                format!("it may be in the log: give id {id} when you call again, so that it is there once");
            let causes = if matches!(error, EngineError::Fault(_)) { &[again][..] } else { &[] };
            ToolError::from(error).with_causes(causes)
        })?;
        let target = Position { offset: at.offset + 1, ..at };
        // It is in the log, whatever can't be told after that.
        let waited = self.engine.drains.wait_for(&[target], patience(args.wait)).await;
        // Another of this id may have been on its way to the store.
        if args.id.is_some()
            && let Err(taken @ EngineError::Invalid { .. }) = self.engine.appender.check_id(&event).await
        {
            return Err(taken.into());
        }
        let queryable = waited.as_ref().is_ok_and(|sinks| sinks.iter().all(|sink| sink.queryable));
        let sinks = waited.unwrap_or_default();
        let next_step = (!queryable).then_some("it is in the log; check_kafka_lag shows the sinks catch up");
        let (partition, offset) = (at.partition, at.offset);
        Ok(Answer(InjectAnswer { id, partition, offset, queryable, sinks, next_step }))
    }

    #[tool(
        title = "Pause a sink",
        description = "Stops draining into one sink in every process; the log keeps what comes, nothing is lost. In force over restarts \
            until resume_sink. \
            Example: {\"sink\": \"elasticsearch\"}",
        input_schema = schema::input::<SinkArgs>(),
        output_schema = schema::output::<PauseAnswer>(),
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn pause_sink(
        &self,
        given: JsonObject,
        context: RequestContext<RoleServer>,
    ) -> Result<Answer<PauseAnswer>, ToolError> {
        let SinkArgs { sink } = arguments(given)?;
        let already = self.engine.drains.paused().await?.iter().any(|pause| pause.sink == sink);
        let pause = self.engine.drains.pause(&sink, &operator(&context)).await?;
        let next_step = Some("workers of other processes pause within seconds; resume_sink ends it");
        Ok(Answer(PauseAnswer { sink, pause: Some(pause), changed: !already, next_step }))
    }

    #[tool(
        title = "Resume a sink",
        description = "Ends a pause: draining goes on where it stopped. \
            Example: {\"sink\": \"elasticsearch\"}",
        input_schema = schema::input::<SinkArgs>(),
        output_schema = schema::output::<PauseAnswer>(),
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn resume_sink(&self, given: JsonObject) -> Result<Answer<PauseAnswer>, ToolError> {
        let SinkArgs { sink } = arguments(given)?;
        let changed = self.engine.drains.resume(&sink).await?;
        let next_step = Some(if changed {
            "it is drained again; check_kafka_lag shows it catch up"
        } else {
            "it was not paused"
        });
        Ok(Answer(PauseAnswer { sink, pause: None, changed, next_step }))
    }

    #[tool(
        title = "Restart a worker",
        description = "Ends this process's worker of a sink after the batch in hand and starts it anew, where it seems stuck; one that fails restarts by itself. Example: {\"service\": \"postgres\"}",
        input_schema = schema::input::<RestartArgs>(),
        output_schema = schema::output::<RestartAnswer>(),
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn restart_service(&self, given: JsonObject) -> Result<Answer<RestartAnswer>, ToolError> {
        let RestartArgs { service } = arguments(given)?;
        let restarted = self.engine.drains.restart(&service).await?;
        let reports = self.engine.drains.reports();
        let last_error =
            reports.into_iter().find(|report| report.sink == service).and_then(|report| report.last_error);
        let next_step = (!restarted).then_some(
            "it still finishes its batch and starts anew then; get_pipeline_status shows when it has",
        );
        Ok(Answer(RestartAnswer { service, restarted, last_error, next_step }))
    }
}

/// Who asks, as far as the client tells.
pub(super) fn operator(context: &RequestContext<RoleServer>) -> String {
    let told = context.peer.peer_info().map(|info| info.client_info.name.clone());
    let name = context.meta.client_info().map(|info| info.name).or(told);
    // A name is a client's own words: short, and on one line.
    let name: String = name.unwrap_or_default().chars().filter(|c| !c.is_control()).take(60).collect();
    if name.is_empty() { "an MCP client".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use serde_json::json;

    use super::*;
    use crate::{engine::SyncPhase, mcp::bounded::size};

    #[test]
    fn more_syncs_than_fit_are_gone_on_with_behind_the_last_that_does() {
        let sync = |n: u128| SyncStatus {
            sync_id: Uuid::from_u128(n),
            table: "leads".to_owned(),
            state: SyncPhase::Failed,
            rows_read: 1_000,
            appended: 900,
            unchanged: 100,
            dead_letters: 0,
            parked: None,
            misfits: Vec::new(),
            lost_columns: Vec::new(),
            ahead: 0,
            shared_keys: 0,
            without_key: 0,
            erased: 0,
            more: false,
            reconcile: None,
            sinks: Vec::new(),
            started_at: Utc::now(),
            finished_at: Some(Utc::now()),
            owner: "o".to_owned(),
            error: Some("x".repeat(1_000)),
        };
        let next = Some(Uuid::from_u128(100));
        let list = SyncList::of((0..100).map(sync).collect(), next);
        assert!(size(&list) < LARGEST_ANSWER && list.syncs.len() < 100, "{} syncs", list.syncs.len());
        assert_eq!(list.next_cursor, list.syncs.last().map(|sync| sync.sync_id));
        assert!(list.next_cursor.is_some() && list.hint.is_some());
        assert_eq!(SyncList::of((0..3).map(sync).collect(), next).next_cursor, next);
        assert_eq!(SyncList::of((0..3).map(sync).collect(), None).next_cursor, None);
    }

    #[test]
    fn a_number_that_would_be_stored_as_another_is_refused() {
        let valor = |valor: Value| {
            let given = json!({"evento": "teste", "valor": valor}).as_object().cloned().expect("an object");
            arguments::<InjectArgs>(given).map(|args| args.valor)
        };
        for (given, kept) in [
            (json!(1), 1.0),
            (json!(-0.5), -0.5),
            (json!(9_007_199_254_740_992_i64), 9_007_199_254_740_992.0),
        ] {
            let valor = valor(given).expect("a number");
            assert!((valor - kept).abs() < f64::EPSILON, "{valor}");
        }
        for refused in [json!(9_007_199_254_740_993_i64), json!("12345678901234567890123"), json!(u64::MAX)] {
            assert!(valor(refused).is_err_and(|error| error.to_string().contains("round it")));
        }
    }
}
