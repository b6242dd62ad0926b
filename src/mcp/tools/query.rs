//! Tools that ask what the store holds.

use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rmcp::{tool, tool_router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    domain::{KeyKind, MANUAL, Table, TableName, parse_instant},
    engine::{EngineError, EntityKey, table_named},
    index::{IndexName, ValueCounts},
    mcp::{
        SluiceServer,
        answer::{Answer, ToolError, arguments},
        bounded::{AROUND, CUT, LARGEST_ANSWER, fitting},
        entity::EntityAnswer,
        next_step::worded,
        schema,
        tools::report,
        views::EventView,
    },
    store::{EventCursor, EventFilter, EventOrder, QueryLimits},
};

/// Events a page may hold.
const MOST_EVENTS: u32 = 200;

/// What the description of `query_store` says of the dialect where no store is known.
pub(in crate::mcp) const ANY_DIALECT: &str = "PostgreSQL's dialect, or SQLite's where sluice runs embedded";

/// What it says of the embedded store's.
pub(in crate::mcp) const SQLITE_DIALECT: &str = "SQLite's dialect; PostgreSQL's date_trunc, to_char, extract, AT TIME ZONE, \
    now() - interval '7 days', ILIKE, FROM leads, unnest(interesse) AS i, x = ANY(interesse) and ::casts are known, too. ILIKE \
    ignores case, LIKE does not; times are ISO 8601 text in UTC, JSON and lists JSON text; texts are ordered by their bytes, \
    capitals first and accented letters last: ORDER BY lower(nome) sorts capitals among small letters";

/// Rows a statement may answer.
const MOST_ROWS: u32 = 1_000;

/// The longest a statement may run: a client gives up at about 60 s.
pub(super) const LONGEST_STATEMENT: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// By the events' own time, latest first.
    #[default]
    Newest,
    /// By the events' own time, earliest first.
    Oldest,
    /// By the time they were stored, latest first: what the last syncs brought.
    LatestStored,
}

impl Order {
    fn of_store(self) -> EventOrder {
        match self {
            Self::Newest => EventOrder::Newest,
            Self::Oldest => EventOrder::Oldest,
            Self::LatestStored => EventOrder::LatestStored,
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EventsArgs {
    /// lead, chat_session, manual or another table's entity.
    #[serde(default)]
    tipo_evento: Option<String>,
    /// Like lead_qualificado.
    #[serde(default)]
    evento: Option<String>,
    /// vendas, engajamento or teste_manual.
    #[serde(default)]
    categoria: Option<String>,
    /// A lead's email, or the lead id of a session.
    #[serde(default)]
    usuario: Option<String>,
    /// The key of a lead, a chat session or another entity.
    #[serde(default)]
    entidade_id: Option<String>,
    /// The events' time from here on: RFC 3339 or a day.
    #[serde(default)]
    from: Option<String>,
    /// Before here.
    #[serde(default)]
    to: Option<String>,
    /// Instead of from and to, as in lead_report: this_week, last_7_days.
    #[serde(default)]
    period: Option<String>,
    /// Only changes of this column, with its value before and after: status_lead.
    #[serde(default)]
    changed: Option<String>,
    #[serde(default)]
    min_valor: Option<f64>,
    #[serde(default)]
    max_valor: Option<f64>,
    /// Default newest.
    #[serde(default)]
    order: Order,
    /// Events to return at most. Default 20.
    #[serde(default = "default_events")]
    #[schemars(range(min = 1, max = 200))]
    limit: u32,
    /// next_cursor of the page before, with the same filters.
    #[serde(default)]
    cursor: Option<String>,
    /// Also the whole source row of each event. Default false.
    #[serde(default)]
    include_dados: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SqlArgs {
    /// One SELECT statement; WITH is fine.
    sql: String,
    /// Rows to return at most. Default 100.
    #[serde(default = "default_rows")]
    #[schemars(range(min = 1, max = 1000))]
    max_rows: u32,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LeadArgs {
    /// The lead's id. Give this or email.
    #[serde(default)]
    id: Option<String>,
    /// The lead's address, in any case. Give this or id.
    #[serde(default)]
    email: Option<String>,
    /// Instead of events and sessions one timeline of both, each change from before to after. Default false.
    #[serde(default)]
    history: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EntityArgs {
    /// A table's name, as the dashboard lists them.
    table: String,
    /// The row's key.
    key: String,
    /// As in get_lead.
    #[serde(default)]
    history: bool,
}

fn default_events() -> u32 {
    20
}

fn default_rows() -> u32 {
    100
}

/// A page of events.
#[derive(Debug, Serialize, JsonSchema)]
struct EventsAnswer {
    events: Vec<EventView>,
    /// Pass it as cursor for the next page; absent when these were the last.
    next_cursor: Option<String>,
    /// The values that there are instead of one that was asked for and no event has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    existing: Vec<ValueCounts>,
    /// What these may lack and why; absent where the store has all of the log.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    behind: Vec<String>,
    /// How to see what is not shown.
    hint: Option<String>,
}

/// A column of a statement's answer.
#[derive(Debug, Serialize, JsonSchema)]
struct ColumnView {
    name: String,
    /// The store's own name of the type.
    r#type: String,
}

/// What a statement answered.
#[derive(Debug, Serialize, JsonSchema)]
struct SqlAnswer {
    /// The store that answered, and so the dialect: postgres or sqlite.
    store: String,
    columns: Vec<ColumnView>,
    /// The values of each row, in the order of the columns.
    rows: Vec<Vec<Value>>,
    /// There are more rows than were returned.
    truncated: bool,
    /// What the operator should mend; the rows are as asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
    /// What the rows may lack and why; absent where the store has all of the log.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    behind: Vec<String>,
    /// How to see what was not returned.
    hint: Option<&'static str>,
}

#[tool_router(router = query_tools, vis = "pub(in crate::mcp)")]
impl SluiceServer {
    #[tool(
        title = "Query raw events",
        description = "Stored events (one for each version of a lead or chat session), filtered and paged. Filters are exact and \
            all must hold; times are UTC. For counts and sums use query_store. Example: {\"evento\": \"lead_qualificado\", \"min_valor\": 80, \"from\": \"2026-05-01\", \"limit\": 10}",
        input_schema = schema::input::<EventsArgs>(),
        output_schema = schema::output::<EventsAnswer>(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn query_raw_events(
        &self,
        given: rmcp::model::JsonObject,
    ) -> Result<Answer<EventsAnswer>, ToolError> {
        let args: EventsArgs = arguments(given)?;
        let limit = in_range("limit", args.limit, MOST_EVENTS)?;
        let order = args.order.of_store();
        let after = args.cursor.as_deref().map(|text| cursor(text, order)).transpose()?;
        let named =
            args.period.as_deref().map(|named| report::period(Some(named), None, None, self.engine.zone));
        let span = named.transpose()?.flatten().and_then(|period| period.span(self.engine.zone));
        if span.is_some() && (args.from.is_some() || args.to.is_some()) {
            return Err(ToolError::argument("period", "give period, or from and to, not both"));
        }
        let mut tipo_evento = args.tipo_evento.map(|tipo| self.known_tipo(tipo)).transpose()?;
        let changed = args.changed.as_deref().map(|name| self.changed(name, &mut tipo_evento)).transpose()?;
        let filter = EventFilter {
            id: None,
            changed,
            tipo_evento,
            evento: args.evento,
            categoria: args.categoria,
            usuario: args.usuario,
            entidade: args.entidade_id,
            from: match span {
                Some((from, _)) => Some(from),
                None => {
                    args.from.as_deref().map(|text| instant("from", text, self.engine.zone)).transpose()?
                }
            },
            to: match span {
                Some((_, to)) => Some(to),
                None => args.to.as_deref().map(|text| instant("to", text, self.engine.zone)).transpose()?,
            },
            min_valor: args.min_valor,
            max_valor: args.max_valor,
        };
        let page = self.engine.questions.events(&filter, order, after, limit).await?;
        let cursors: Vec<EventCursor> =
            page.events.iter().map(|event| EventCursor::of(event, order)).collect();
        let views: Vec<EventView> = page
            .events
            .into_iter()
            .map(|event| {
                let column = filter.changed.as_deref();
                EventView::changed(event, column, args.include_dados, &self.outgoing)
            })
            .collect();
        let events = fitting(views, &mut (LARGEST_ANSWER - AROUND));
        // What did not fit is the beginning of the next page.
        let next = match events.len() {
            all if all == cursors.len() => page.next,
            // One event always fits.
            shown => cursors.get(shown.saturating_sub(1)).copied(),
        };
        let is_cut = events.iter().any(|event| event.is_cut);
        let more = next.map(|_| "there are more: pass next_cursor as cursor, or narrow the filters");
        let hints: Vec<&str> = more.into_iter().chain(is_cut.then_some(CUT)).collect();
        let hint = (!hints.is_empty()).then(|| hints.join("; "));
        let next_cursor = next.map(EventCursor::encode);
        let mut behind = self.store_lacks().await;
        behind.extend(self.engine.questions.trimmed(&filter).await.map(|lack| lack.worded(worded)));
        let wanted = [("evento", filter.evento.as_deref()), ("categoria", filter.categoria.as_deref())];
        let wanted: Vec<_> = wanted.into_iter().filter_map(|(field, value)| Some((field, value?))).collect();
        let existing = if events.is_empty() {
            self.masked(self.engine.questions.existing_instead(IndexName::Eventos, &wanted).await)
        } else {
            Vec::new()
        };
        Ok(Answer(EventsAnswer { events, next_cursor, existing, behind, hint }))
    }

    #[tool(
        title = "Query the store with SQL",
        description = "Answers one read-only SQL statement (joins, WITH, window functions and aggregates are fine) in \
            PostgreSQL's dialect, or SQLite's where sluice runs embedded. It is stopped after 15 s. Tables: \
            eventos_raw (id, tipo_evento, usuario, evento, valor, \"timestamp\", categoria, metadata, dados, entidade_id, versao, \
            processado_em); leads (id, nome, email, telefone, nome_empresa, nome_projeto, interesse, score_qualificacao, status_lead, origem, utm_source, created_at, updated_at, last_interaction_at); chat_sessions (id, lead_id, total_messages, duration_seconds, pages_visited, perguntas_feitas, intencao_detectada, nivel_interesse, started_at, ended_at, is_active), each with more, see sluice://schema/{table}; eventos_agregados (janela_inicio, \
            janela_fim, categoria, evento, total, soma_valor: windows of five minutes). \
            Example: {\"sql\": \"SELECT origem, count(*) FROM leads GROUP BY origem ORDER BY 2 DESC\"}",
        input_schema = schema::input::<SqlArgs>(),
        output_schema = schema::output::<SqlAnswer>(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn query_store(&self, given: rmcp::model::JsonObject) -> Result<Answer<SqlAnswer>, ToolError> {
        let args: SqlArgs = arguments(given)?;
        let rows = in_range("max_rows", args.max_rows, MOST_ROWS)?;
        let limits = QueryLimits {
            rows: usize::try_from(rows).unwrap_or(usize::MAX),
            bytes: LARGEST_ANSWER - AROUND,
            timeout: LONGEST_STATEMENT,
            verbatim: false,
        };
        let (store, mut answer) = self.engine.questions.sql(&args.sql, limits).await?;
        self.outgoing.answer(store, &args.sql, &mut answer);
        let hint = match (answer.truncated, answer.rows.len()) {
            (false, _) => None,
            (true, 0) => {
                Some("the first row is too large to be shown: select fewer columns, or parts of them")
            }
            (true, _) => Some(
                "there are more rows: aggregate, filter, select fewer columns, or page with ORDER BY and LIMIT",
            ),
        };
        let columns = answer
            .columns
            .into_iter()
            .map(|column| ColumnView { name: column.name, r#type: column.kind })
            .collect();
        let mut behind = self.store_lacks().await;
        behind.extend(self.engine.questions.trimmed_in(&args.sql).await.map(|lack| lack.worded(worded)));
        let content = SqlAnswer {
            store: store.to_owned(),
            columns,
            rows: answer.rows,
            truncated: answer.truncated,
            warning: answer.warning,
            behind,
            hint,
        };
        Ok(Answer(content))
    }

    #[tool(
        title = "Get a lead",
        description = "One lead: its current row, its latest 50 events and its latest 20 chat sessions, from the store, and \
            the leads with the same email (why one shows twice). Find it by id, or by email: then the latest changed. Example: {\"email\": \"ana@exemplo.com.br\"}",
        input_schema = schema::input::<LeadArgs>(),
        output_schema = schema::output::<EntityAnswer>(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn get_lead(&self, given: rmcp::model::JsonObject) -> Result<Answer<EntityAnswer>, ToolError> {
        let args: LeadArgs = arguments(given)?;
        let is_by_id = args.id.is_some();
        let key = match (args.id, args.email) {
            (Some(id), None) => EntityKey::Key(id),
            (None, Some(email)) if !email.trim().is_empty() => {
                EntityKey::Lookup { column: "email".to_owned(), value: email.trim().to_owned() }
            }
            _ => return Err(ToolError::argument("id", "give either the lead's id or its email")),
        };
        // Here the key is called id.
        self.entity("leads", &key, args.history)
            .await
            .map_err(|error| if is_by_id { error.renamed("key", "id") } else { error })
    }

    #[tool(
        title = "Get an entity",
        description = "One row of any table by its key: its current state, its latest 50 events, and rows of other tables that refer to it.",
        input_schema = schema::input::<EntityArgs>(),
        output_schema = schema::output::<EntityAnswer>(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn get_entity(&self, given: rmcp::model::JsonObject) -> Result<Answer<EntityAnswer>, ToolError> {
        let args: EntityArgs = arguments(given)?;
        self.entity(&args.table, &EntityKey::Key(args.key), args.history).await
    }
}

impl SluiceServer {
    /// A `tipo_evento` that events can have: of another there are none, which an empty answer would not tell.
    fn known_tipo(&self, tipo: String) -> Result<String, ToolError> {
        let catalog = self.engine.catalog;
        if tipo == MANUAL || catalog.of_entity(&tipo).is_some() {
            return Ok(tipo);
        }
        let known: Vec<&str> = catalog.tables().map(|table| table.definition().entity.as_str()).collect();
        Err(ToolError::argument(
            "tipo_evento",
            format!("no event is a '{tipo}'; use {} or {MANUAL}", known.join(", ")),
        ))
    }

    /// The name in the project of a column whose changes are asked for, and of which table's rows they are.
    fn changed(&self, name: &str, tipo_evento: &mut Option<String>) -> Result<String, ToolError> {
        let has = |table: &Table| {
            let of_type = tipo_evento.as_deref().is_none_or(|tipo| tipo == table.entity);
            of_type && table.definition().column(name).is_some()
        };
        let having: Vec<Table> = self.engine.catalog.tables().filter(has).collect();
        let problem = match having[..] {
            [table] => {
                *tipo_evento = Some(table.entity.clone());
                return Ok(table.definition().source_of(name).to_owned());
            }
            [] => format!("no table has a column '{name}'; sluice://schema/leads lists those of leads"),
            _ => {
                let entities: Vec<&str> =
                    having.iter().map(|table| table.definition().entity.as_str()).collect();
                format!(
                    "several tables have a column '{name}'; say with tipo_evento whose changes: {}",
                    entities.join(", ")
                )
            }
        };
        Err(ToolError::argument("changed", problem))
    }

    async fn entity(
        &self,
        table: &str,
        key: &EntityKey,
        whole: bool,
    ) -> Result<Answer<EntityAnswer>, ToolError> {
        let table = table_named(self.engine.catalog, &TableName(table.to_owned()))?;
        // Only a key that is a text may begin or end with a space.
        let trimmed = match key {
            EntityKey::Key(key) if table.key.kind != KeyKind::Text => EntityKey::Key(key.trim().to_owned()),
            key => key.clone(),
        };
        let found = if whole {
            self.engine.questions.whole_entity(table, &trimmed).await
        } else {
            self.engine.questions.entity(table, &trimmed).await
        };
        let behind = self.store_lacks().await;
        let history = match found {
            Err(error @ EngineError::UnknownEntity { .. }) => {
                return Err(ToolError::from(error).with_causes(&behind));
            }
            found => found?,
        };
        let mut answer = if whole {
            EntityAnswer::in_time(history, &self.outgoing)
        } else {
            EntityAnswer::new(history, &self.outgoing)
        };
        answer.behind.extend(behind);
        Ok(Answer(answer))
    }

    /// What answers from the store lack just now.
    pub(super) async fn store_lacks(&self) -> Vec<String> {
        let lacks = self.engine.questions.store_lacks().await;
        lacks.into_iter().map(|lack| lack.worded(worded)).collect()
    }
}

fn in_range(field: &str, given: u32, most: u32) -> Result<u32, ToolError> {
    if (1..=most).contains(&given) {
        return Ok(given);
    }
    Err(ToolError::argument(field, format!("{given} is out of range; it must be 1 to {most}")))
}

fn cursor(text: &str, order: EventOrder) -> Result<EventCursor, ToolError> {
    EventCursor::decode(text).filter(|cursor| cursor.order == order).ok_or_else(|| {
        ToolError::argument(
            "cursor",
            "is not the next_cursor of a page in this order; leave it out to begin again",
        )
    })
}

/// An instant, or the beginning of a day.
fn instant(field: &str, text: &str, zone: Tz) -> Result<DateTime<Utc>, ToolError> {
    parse_instant(text, zone).ok_or_else(|| {
        ToolError::argument(field, "is not a time; write it as 2026-05-01T12:00:00Z or 2026-05-01")
    })
}
