//! The HTTP side: keys, headers, pages.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    sync::{Arc, Mutex},
    time::Instant,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, RawQuery, State as Shared},
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
    routing::get,
};
use chrono::{TimeDelta, Utc};
use serde_json::{Map, Value, json};
use tower_http::compression::CompressionLayer;

use super::{
    Failure, Fault, SampleProject, SeenRequest, keys, lock,
    table::{Found, Read, Row, SampleTable},
};
use crate::domain::Json;

/// The schema of requests that name none.
pub(super) const PUBLIC: &str = "public";

/// Everything a test may set and see.
#[derive(Debug, Default)]
pub(super) struct State {
    /// By schema and name.
    pub(super) tables: BTreeMap<(String, String), SampleTable>,
    pub(super) max_rows: Option<usize>,
    /// What every count comes to, whatever is counted.
    pub(super) told_count: Option<usize>,
    /// Row-level security, and of how many rows a policy shows keys of low privilege one; none where that is 0.
    pub(super) row_level_security: Option<usize>,
    pub(super) openapi: bool,
    /// How far the clock that answers are dated by is ahead.
    pub(super) clock: TimeDelta,
    pub(super) script: VecDeque<Fault>,
    pub(super) openapi_script: VecDeque<Fault>,
    pub(super) seen: VecDeque<SeenRequest>,
    pub(super) hook: Option<Hook>,
    project: Option<SampleProject>,
}

/// What a test does before each request for rows is answered.
#[derive(Clone)]
pub(super) struct Hook(pub(super) Arc<dyn Fn(&SeenRequest) + Send + Sync>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// Requests remembered at most: a server may run for weeks.
const MAX_SEEN: usize = 10_000;

type SharedState = Arc<Mutex<State>>;

impl State {
    pub(super) fn table(&mut self, schema: &str, name: &str) -> Option<&mut SampleTable> {
        self.tables.get_mut(&(schema.to_owned(), name.to_owned()))
    }

    pub(super) fn set_rows(&mut self, schema: &str, name: &str, rows: Vec<Row>) {
        let Some(table) = self.table(schema, name) else { return };
        table.learn(&rows);
        table.rows = rows;
    }

    pub(super) fn set_project(&mut self, project: SampleProject) {
        self.show(&project);
        self.project = Some(project);
    }

    pub(super) fn hurry(&mut self, folder: &std::path::Path, count: u64) -> io::Result<()> {
        let Some(mut project) = self.project.take() else { return Ok(()) };
        let hurried = project.hurry(folder, count, Utc::now());
        self.set_project(project);
        hurried
    }

    /// What the project has come to by now.
    fn catch_up(&mut self) {
        if let Some(mut project) = self.project.take() {
            if project.advance(Utc::now()) {
                self.show(&project);
            }
            self.project = Some(project);
        }
    }

    fn show(&mut self, project: &SampleProject) {
        for (name, columns, rows) in project.tables() {
            let rows: Vec<Row> = rows.iter().map(super::table::row_of).collect();
            self.tables
                .entry((PUBLIC.to_owned(), name.to_owned()))
                .or_insert_with(|| SampleTable { columns: columns.unwrap_or_default(), rows: Vec::new() });
            self.set_rows(PUBLIC, name, rows);
        }
    }

    fn remember(&mut self, request: SeenRequest) {
        if self.seen.len() == MAX_SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(request);
    }

    pub(super) fn upsert(&mut self, schema: &str, name: &str, key: &str, rows: Vec<Row>) {
        let Some(table) = self.table(schema, name) else { return };
        table.learn(&rows);
        for row in rows {
            let id = row.get(key).filter(|id| id.as_str() != "null");
            match table.rows.iter_mut().find(|held| id.is_some() && held.get(key) == id) {
                Some(held) => *held = row,
                None => table.rows.push(row),
            }
        }
    }

    pub(super) fn change(&mut self, schema: &str, name: &str, key: (&str, &Json), changes: &Row) {
        let Some(table) = self.table(schema, name) else { return };
        for row in table.rows.iter_mut().filter(|row| row.get(key.0) == Some(key.1)) {
            row.extend(changes.clone());
        }
    }

    pub(super) fn drop_column(&mut self, schema: &str, name: &str, column: &str) {
        if let Some(table) = self.table(schema, name) {
            table.columns.retain(|held| held.name != column);
            for row in &mut table.rows {
                row.remove(column);
            }
        }
    }

    fn describe(&self, schema: &str) -> Value {
        let of_schema = self.tables.iter().filter(|((of, _), _)| of == schema);
        let definitions: Map<String, Value> = of_schema
            .map(|((_, name), table)| {
                let properties: Map<String, Value> =
                    table.columns.iter().map(|column| (column.name.clone(), column.described())).collect();
                (name.clone(), json!({"type": "object", "properties": properties}))
            })
            .collect();
        json!({"swagger": "2.0", "definitions": definitions})
    }
}

pub(super) fn router(state: SharedState) -> Router {
    lock(&state).openapi = true;
    Router::new()
        .route("/rest/v1/", get(describe))
        .route("/rest/v1/{table}", get(read_rows))
        .layer(CompressionLayer::new())
        .with_state(state)
}

async fn describe(Shared(state): Shared<SharedState>, headers: HeaderMap) -> Response<Body> {
    let scripted = lock(&state).openapi_script.pop_front();
    let answer = {
        let state = lock(&state);
        match role(&headers) {
            None => Err(Failure::wrong_key()),
            // Supabase shows the description to keys of high privilege only.
            Some(Role::Privileged) if state.openapi => schema(&state, &headers).map(|schema| {
                response(
                    &state,
                    state.describe(schema).to_string(),
                    "application/openapi+json; charset=utf-8",
                )
            }),
            Some(_) => Err(Failure::new(403, "42501", "permission denied for schema", None)),
        }
    };
    scripted_or(scripted, answer.unwrap_or_else(Failure::into_response)).await
}

async fn read_rows(
    Shared(state): Shared<SharedState>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    let parameters: Vec<(String, String)> =
        url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
    let request = seen(&name, &parameters, &headers);
    // Not under the lock: it changes the project.
    let hook = lock(&state).hook.clone();
    if let Some(Hook(hook)) = hook {
        hook(&request);
    }
    let scripted = {
        let mut state = lock(&state);
        state.remember(request);
        state.catch_up();
        state.script.pop_front()
    };
    if let Some(Fault::Delay(pause)) = &scripted {
        tokio::time::sleep(*pause).await;
    }
    let answer = answer(&lock(&state), &name, &parameters, &headers);
    scripted_or(scripted, answer.unwrap_or_else(Failure::into_response)).await
}

/// The answer, or what a test wants in its place.
async fn scripted_or(scripted: Option<Fault>, answer: Response<Body>) -> Response<Body> {
    match scripted {
        Some(Fault::Refuse(failure)) => failure.into_response(),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::CutOff) => {
            let (parts, body) = answer.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
            Response::from_parts(parts, Body::from(body.slice(..body.len() / 2)))
        }
        Some(Fault::NoRows) => {
            let (parts, _) = answer.into_parts();
            Response::from_parts(parts, Body::from("[]"))
        }
        Some(Fault::WebPage) => {
            let mut page = Response::new(Body::from("<!doctype html><title>We will be back soon</title>"));
            page.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
            page
        }
        Some(Fault::Delay(_)) | None => answer,
    }
}

fn answer(
    state: &State,
    name: &str,
    parameters: &[(String, String)],
    headers: &HeaderMap,
) -> Result<Response<Body>, Failure> {
    let role = role(headers).ok_or_else(Failure::wrong_key)?;
    let schema = schema(state, headers)?;
    let table = state.tables.get(&(schema.to_owned(), name.to_owned()));
    let table = table.ok_or_else(|| Failure::unknown_table(schema, name))?;
    let mut read = Read::parse(parameters)?;
    if let Some((first, last)) = range(headers) {
        read.offset = first;
        read.limit = last.map(|last| (last + 1).saturating_sub(first)).or(read.limit);
    }
    let found = match state.row_level_security.filter(|_| role == Role::Low) {
        Some(0) => Found { rows: Vec::new(), total: 0 },
        Some(one_in) => table.showing_one_in(one_in).read(name, &read, state.max_rows)?,
        None => table.read(name, &read, state.max_rows)?,
    };
    let counted = prefers(headers, "count=exact");
    if counted && read.offset > found.total {
        return Err(Failure::new(416, "PGRST103", "Requested range not satisfiable", None));
    }
    let partial = counted && found.rows.len() < found.total;
    let shown = match found.rows.len() {
        0 => "*".to_owned(),
        rows => format!("{}-{}", read.offset, read.offset + rows - 1),
    };
    let total = if counted { state.told_count.unwrap_or(found.total).to_string() } else { "*".to_owned() };
    let body = format!("[{}]", found.rows.join(", \n "));
    let mut response = response(state, body, "application/json; charset=utf-8");
    *response.status_mut() = if partial { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    if let Ok(range) = HeaderValue::try_from(format!("{shown}/{total}")) {
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    Ok(response)
}

fn response(state: &State, body: String, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    let date = (Utc::now() + state.clock).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(date) = HeaderValue::try_from(date) {
        response.headers_mut().insert(header::DATE, date);
    }
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The schema that a request names.
fn schema<'a>(state: &State, headers: &'a HeaderMap) -> Result<&'a str, Failure> {
    let named = headers.get("accept-profile").and_then(|value| value.to_str().ok()).unwrap_or(PUBLIC);
    if named == PUBLIC || state.tables.keys().any(|(schema, _)| schema == named) {
        return Ok(named);
    }
    Err(Failure::new(406, "PGRST106", &format!("Invalid schema: {named}"), None))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Privileged,
    Low,
}

/// New keys go in `apikey` alone, legacy ones in `Authorization`, too.
fn role(headers: &HeaderMap) -> Option<Role> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (key, bearer) = (text("apikey"), text("authorization"));
    let legacy = bearer.strip_prefix("Bearer ") == Some(key);
    let browser = text("user-agent").starts_with("Mozilla");
    match key {
        keys::SECRET if bearer.is_empty() && !browser => Some(Role::Privileged),
        keys::PUBLISHABLE if bearer.is_empty() => Some(Role::Low),
        keys::SERVICE_ROLE if legacy => Some(Role::Privileged),
        keys::ANON if legacy => Some(Role::Low),
        _ => None,
    }
}

fn prefers(headers: &HeaderMap, what: &str) -> bool {
    headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok()).any(|value| value.contains(what))
}

/// `Range: 0-14`, in rows.
fn range(headers: &HeaderMap) -> Option<(usize, Option<usize>)> {
    let (first, last) = headers.get(header::RANGE)?.to_str().ok()?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()))
}

fn seen(table: &str, query: &[(String, String)], headers: &HeaderMap) -> SeenRequest {
    let text =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let key_headers = ["apikey", "authorization"].into_iter().filter(|name| headers.contains_key(*name));
    SeenRequest {
        path: table.to_owned(),
        query: query.to_vec(),
        schema: text("accept-profile"),
        key_headers: key_headers.map(str::to_owned).collect(),
        user_agent: text("user-agent"),
        accept_encoding: text("accept-encoding"),
        at: Instant::now(),
    }
}
