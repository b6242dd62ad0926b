//! The source on Supabase: PostgREST, read by keyset pages.
//!
//! Supabase caps a page in silence, so only an empty page is the end of a pass; and a page is the most that is held.

mod columns;
mod errors;
mod http;
mod key;
mod overview;
mod query;

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;

use self::{
    columns::Columns,
    errors::{Verdict, verdict},
    http::{Http, Refusal, Request},
    key::KeyKind,
    query::Parameters,
};
use super::{Overview, Page, PageToken, Pass, RowQuery, Source, SourceHealth, SourceWarning};
use crate::{
    config::SupabaseSettings,
    domain::{JsonObject, Table, parse_instant},
    fault::Fault,
};

const PART: &str = "supabase";

/// The smallest page a slow statement is cut down to.
const SMALLEST_PAGE: u32 = 10;

/// The source on a Supabase project.
pub struct SupabaseSource {
    http: Http,
    key: KeyKind,
    include_ip_address: bool,
    columns: Mutex<HashMap<Table, Columns>>,
}

impl SupabaseSource {
    /// Makes the client; asks nothing yet.
    ///
    /// # Errors
    /// When the settings make no client.
    pub fn new(settings: &SupabaseSettings) -> Result<Self, Fault> {
        Ok(Self {
            http: Http::new(settings)?,
            key: KeyKind::of(&settings.key),
            include_ip_address: settings.include_ip_address,
            columns: Mutex::new(HashMap::new()),
        })
    }

    async fn rows(
        &self,
        what: &str,
        table: Table,
        query: &[(String, String)],
    ) -> Result<Vec<JsonObject>, Refusal> {
        let request =
            Request { what, path: table.name(), query, prefer: "timezone=UTC", accept: "application/json" };
        let reply = self.http.get(&request).await?;
        serde_json::from_slice(&reply.body).map_err(|_| {
            Refusal::Fault(Fault::misconfigured(
                PART,
                format!("{what} from {} failed: the answer is no list of rows", self.http.host),
                "check that SUPABASE_URL leads to a Supabase project",
            ))
        })
    }

    /// Asks the project which columns a table has. It may refuse to tell: then those sluice knows are tried.
    async fn discover(&self, table: Table) -> Columns {
        let request = Request {
            what: "listing columns",
            path: "",
            query: &[],
            prefer: "timezone=UTC",
            accept: "application/openapi+json",
        };
        let listed = match self.http.get(&request).await {
            Ok(reply) => Columns::listed(table, &reply.body),
            Err(_) => None,
        };
        let columns = listed.unwrap_or_else(|| Columns::expected(table));
        self.remember(table, columns.clone());
        columns
    }

    fn remember(&self, table: Table, columns: Columns) {
        self.columns.lock().unwrap_or_else(PoisonError::into_inner).insert(table, columns);
    }

    async fn columns(&self, table: Table, first_page: bool) -> Columns {
        let known = self.columns.lock().unwrap_or_else(PoisonError::into_inner).get(&table).cloned();
        match known {
            Some(columns) if !first_page => columns,
            _ => self.discover(table).await,
        }
    }

    /// Reads one page of a pass, with a smaller size where the statement takes too long and without the columns
    /// that turn out to be missing.
    async fn read(
        &self,
        query: &RowQuery,
        token: &PageToken,
        first: bool,
    ) -> Result<(Vec<JsonObject>, Columns), Fault> {
        let table = query.table;
        let what = format!("reading {table}");
        let mut columns = self.columns(table, first).await;
        let mut size = query.page_size;
        loop {
            let parameters: Parameters = query::page(query, &columns, token, size, self.include_ip_address);
            let refusal = match self.rows(&what, table, &parameters).await {
                Ok(rows) => return Ok((rows, columns)),
                Err(refusal) => refusal,
            };
            if let Refusal::Answer { status, error } = &refusal {
                if let Some(column) = error.missing_column()
                    && column != "id"
                    && columns.remove(column)
                {
                    self.remember(table, columns.clone());
                    continue;
                }
                if verdict(*status, error.code()) == Verdict::Smaller && size > SMALLEST_PAGE {
                    size = (size / 2).max(SMALLEST_PAGE);
                    continue;
                }
            }
            return Err(self.http.fault(&what, refusal));
        }
    }
}

#[async_trait]
impl Source for SupabaseSource {
    fn name(&self) -> &'static str {
        PART
    }

    async fn page(&self, query: &RowQuery, after: Option<&PageToken>) -> Result<Page, Fault> {
        let start = PageToken { pass: Pass::Timeless, last: None };
        let token = after.unwrap_or(&start);
        let read_at = Utc::now();
        let (rows, columns) = self.read(query, token, after.is_none()).await?;
        let time = columns.time();
        if rows.is_empty() {
            let timed = PageToken { pass: Pass::Timed, last: None };
            let next = (token.pass == Pass::Timeless && time.is_some()).then_some(timed);
            return Ok(Page { rows, read_at, watermark: None, next });
        }
        let last = last_key(&rows, time, token.pass).ok_or_else(|| no_key(query.table, &self.http.host))?;
        if token.last.as_ref() == Some(&last) {
            return Err(stuck(query.table, &self.http.host));
        }
        let watermark = watermark(&columns, token.pass, &last.0);
        Ok(Page { rows, read_at, watermark, next: Some(PageToken { pass: token.pass, last: Some(last) }) })
    }

    async fn overview(&self) -> Result<Overview, Fault> {
        self.count_everything().await
    }

    async fn health(&self) -> Result<SourceHealth, Fault> {
        let (leads, clock) = self.pulse().await?;
        let mut warnings = Vec::new();
        if leads == 0 {
            warnings.extend(self.empty_hint());
        }
        Ok(SourceHealth { host: self.http.host.clone(), key: self.key.as_str(), clock, warnings })
    }

    fn empty_hint(&self) -> Option<SourceWarning> {
        (!self.key.sees_everything()).then(|| SourceWarning {
            about: "row-level security",
            problem: format!(
                "a {} key sees nothing where row-level security has no policy for it",
                self.key.as_str()
            ),
            next_step: "if there should be rows, use a secret key in SUPABASE_KEY, or add a policy for this one",
        })
    }
}

/// Time and id of the last row that has them, as the server spelt them. A row without an id is a dead letter, not
/// an end.
fn last_key(rows: &[JsonObject], time: Option<&str>, pass: Pass) -> Option<(String, String)> {
    rows.iter().rev().find_map(|row| {
        let id = match row.get("id")? {
            Value::String(id) => id.clone(),
            Value::Number(id) => id.to_string(),
            _ => return None,
        };
        let at = match (pass, time) {
            (Pass::Timed, Some(time)) => row.get(time)?.as_str()?.to_owned(),
            _ => String::new(),
        };
        Some((at, id))
    })
}

fn watermark(columns: &Columns, pass: Pass, at: &str) -> Option<DateTime<Utc>> {
    (pass == Pass::Timed && columns.has_modification_time()).then(|| parse_instant(at)).flatten()
}

fn no_key(table: Table, host: &str) -> Fault {
    Fault::misconfigured(
        PART,
        format!("reading {table} from {host} failed: a whole page of rows has no id to go on from"),
        "give the table or view an id column that is never null",
    )
}

fn stuck(table: Table, host: &str) -> Fault {
    Fault::misconfigured(
        PART,
        format!("reading {table} from {host} failed: the server showed the same page again"),
        "check that no proxy or cache between here and Supabase ignores the query",
    )
}
