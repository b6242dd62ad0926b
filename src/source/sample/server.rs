//! The HTTP side: keys, headers, pages.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
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
use chrono::Utc;
use serde_json::{Value, json};
use tower_http::compression::CompressionLayer;

use super::{
    Failure, Fault, SampleProject, SeenRequest, keys, lock,
    table::{Found, Read, SampleTable},
};
use crate::domain::{JsonObject, Table};

/// Everything a test may set and see.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) tables: BTreeMap<String, SampleTable>,
    pub(super) max_rows: Option<usize>,
    pub(super) row_level_security: bool,
    pub(super) openapi: bool,
    pub(super) script: VecDeque<Fault>,
    pub(super) seen: VecDeque<SeenRequest>,
    project: Option<SampleProject>,
}

/// Requests remembered at most: a server may run for weeks.
const MOST_SEEN: usize = 10_000;

type SharedState = Arc<Mutex<State>>;

impl State {
    pub(super) fn set_rows(&mut self, table: &str, rows: Vec<JsonObject>) {
        let Some(table) = self.tables.get_mut(table) else { return };
        table.columns.extend(rows.iter().flat_map(|row| row.keys().cloned()));
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
        self.set_rows(Table::Leads.name(), project.leads().to_vec());
        self.set_rows(Table::ChatSessions.name(), project.sessions().to_vec());
    }

    fn remember(&mut self, request: SeenRequest) {
        if self.seen.len() == MOST_SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(request);
    }

    pub(super) fn upsert(&mut self, table: &str, rows: Vec<JsonObject>) {
        let Some(table) = self.tables.get_mut(table) else { return };
        for row in rows {
            table.columns.extend(row.keys().cloned());
            let id = row.get("id").filter(|id| !id.is_null());
            match table.rows.iter_mut().find(|held| id.is_some() && held.get("id") == id) {
                Some(held) => *held = row,
                None => table.rows.push(row),
            }
        }
    }

    pub(super) fn change(&mut self, table: &str, id: &Value, changes: &JsonObject) {
        let Some(table) = self.tables.get_mut(table) else { return };
        for row in table.rows.iter_mut().filter(|row| row.get("id") == Some(id)) {
            row.extend(changes.clone());
        }
    }

    pub(super) fn drop_column(&mut self, table: &str, column: &str) {
        if let Some(table) = self.tables.get_mut(table) {
            table.columns.remove(column);
            for row in &mut table.rows {
                row.remove(column);
            }
        }
    }

    fn describe(&self) -> Value {
        let definitions: serde_json::Map<String, Value> = self
            .tables
            .iter()
            .map(|(name, table)| {
                let properties: serde_json::Map<String, Value> =
                    table.columns.iter().map(|column| (column.clone(), json!({}))).collect();
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
    let state = lock(&state);
    match role(&headers) {
        None => Failure::wrong_key().into_response(),
        // Supabase shows the description to keys of high privilege only.
        Some(Role::Privileged) if state.openapi => {
            let mut response = Response::new(Body::from(state.describe().to_string()));
            response.headers_mut().insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/openapi+json; charset=utf-8"),
            );
            response
        }
        Some(_) => Failure::new(403, "42501", "permission denied for schema", None).into_response(),
    }
}

async fn read_rows(
    Shared(state): Shared<SharedState>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    let parameters: Vec<(String, String)> =
        url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
    let scripted = {
        let mut state = lock(&state);
        state.remember(seen(&name, &parameters, &headers));
        state.catch_up();
        state.script.pop_front()
    };
    match scripted {
        Some(Fault::Refuse(failure)) => return failure.into_response(),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Delay(pause)) => tokio::time::sleep(pause).await,
        None => {}
    }
    answer(&lock(&state), &name, &parameters, &headers).unwrap_or_else(Failure::into_response)
}

fn answer(
    state: &State,
    name: &str,
    parameters: &[(String, String)],
    headers: &HeaderMap,
) -> Result<Response<Body>, Failure> {
    let role = role(headers).ok_or_else(Failure::wrong_key)?;
    let table = state.tables.get(name).ok_or_else(|| Failure::unknown_table(name))?;
    let mut read = Read::parse(parameters)?;
    if let Some((first, last)) = range(headers) {
        read.offset = first;
        read.limit = last.map(|last| (last + 1).saturating_sub(first)).or(read.limit);
    }
    let hidden = state.row_level_security && role == Role::Low;
    let found = if hidden {
        Found { rows: Vec::new(), total: 0 }
    } else {
        table.read(name, &read, state.max_rows)?
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
    let total = if counted { found.total.to_string() } else { "*".to_owned() };
    let body = Value::Array(found.rows.into_iter().map(Value::Object).collect()).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = if partial { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    if let Ok(range) = HeaderValue::try_from(format!("{shown}/{total}")) {
        headers.insert(header::CONTENT_RANGE, range);
    }
    Ok(response)
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
        key_headers: key_headers.map(str::to_owned).collect(),
        user_agent: text("user-agent"),
        accept_encoding: text("accept-encoding"),
        at: Instant::now(),
    }
}
