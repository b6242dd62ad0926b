//! The source on Supabase: PostgREST, read by keyset pages.
//!
//! # Guarantee
//!
//! A page's rows are the bytes that the server sent, so one odd row never spoils its page. Supabase caps a page in
//! silence, so only an empty page is the end of a pass; and a page is the most that is held. What is selected does not
//! change because the project once refuses to describe itself: see [`columns`]. Instants are the server's own.

mod columns;
mod describe;
mod errors;
mod http;
mod key;
mod overview;
mod query;

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;

use self::{
    columns::{Columns, hidden},
    errors::{Verdict, verdict},
    http::{Http, Refusal, Reply, Request, Unreadable, unreadable},
    query::Parameters,
};
use super::{
    LatestChange, Page, PageToken, Pass, Place, RowQuery, Scope, Source, SourceHealth, SourceWarning,
    TableOverview,
    description::{Description, Difference, DifferenceKind},
};
use crate::{
    config::SupabaseSettings,
    domain::{Catalog, Json, Table, json, parse_instant},
    fault::Fault,
};

const PART: &str = "supabase";

/// The smallest page a slow statement is cut down to; large rows are read one by one if need be.
const MIN_SLOW_PAGE: u32 = 10;

/// The source on a Supabase project.
pub struct SupabaseSource {
    http: Http,
    catalog: Catalog,
    /// Columns that are read although they are read only on request, by their names downstream.
    asked_for: Vec<String>,
    known: Mutex<HashMap<Table, Known>>,
}

/// What is remembered of a table.
#[derive(Clone)]
struct Known {
    columns: Columns,
    /// Rows that the server gave at a time, where it could not give as many as were asked for.
    page_size: Option<u32>,
}

/// A page as it was read.
struct ReadPage {
    rows: Vec<Json>,
    columns: Columns,
    asked_at: DateTime<Utc>,
    /// How many rows there are, where they were counted.
    total: Option<u64>,
}

impl SupabaseSource {
    /// Makes the client; asks nothing yet.
    ///
    /// # Errors
    /// When the settings make no client.
    pub fn new(settings: &SupabaseSettings, catalog: Catalog) -> Result<Self, Fault> {
        Ok(Self {
            http: Http::new(settings)?,
            catalog,
            asked_for: settings.include_columns.clone(),
            known: Mutex::new(HashMap::new()),
        })
    }

    async fn rows(
        &self,
        what: &str,
        path: &str,
        schema: Option<&str>,
        query: &[(String, String)],
    ) -> Result<(Reply, Vec<Json>), Refusal> {
        self.rows_preferring("timezone=UTC", what, path, schema, query).await
    }

    async fn rows_preferring(
        &self,
        prefer: &str,
        what: &str,
        path: &str,
        schema: Option<&str>,
        query: &[(String, String)],
    ) -> Result<(Reply, Vec<Json>), Refusal> {
        let request = Request { what, path, schema, query, prefer, accept: "application/json" };
        self.http.get(&request, |reply| rows_of(&reply.body)).await
    }

    /// The project's description of itself; nothing where it refuses to tell.
    async fn openapi(&self, schema: Option<&str>) -> Result<Option<Json>, Fault> {
        let what = "listing columns";
        let request = Request {
            what,
            path: "",
            schema,
            query: &[],
            prefer: "timezone=UTC",
            accept: "application/openapi+json",
        };
        let read = |reply: &Reply| {
            Json::try_from(reply.body.clone())
                .map_err(|error| unreadable(&reply.body, &error, "a description of the project"))
        };
        match self.http.get(&request, read).await {
            Ok((_, openapi)) => Ok(Some(openapi)),
            // Only the key's role and the project's own settings can refuse it.
            Err(Refusal::Answer { status: 401 | 403 | 404 | 406, .. }) => Ok(None),
            Err(refusal) => Err(self.http.fault(what, refusal)),
        }
    }

    /// The columns a table has: what the project tells now, else what it told last and what is read of the
    /// definition's. A column of these that is missing is found out by asking.
    async fn columns_now(&self, table: Table) -> Result<Columns, Fault> {
        // What is selected does not depend on what the project tells.
        if hidden(table, &self.asked_for).is_empty() {
            return Ok(Columns::expected(table));
        }
        let known = self.known().get(&table).map(|known| known.columns.clone());
        let remembered = known.filter(|columns| columns.listed);
        let remembered = remembered.map(|columns| columns.and_expected(&self.asked_for));
        let openapi = match self.openapi(table.definition().source.schema.as_deref()).await {
            Ok(openapi) => openapi,
            Err(fault) => match remembered {
                Some(remembered) => {
                    tracing::warn!(%table, error = %fault, "the project does not list columns now: those it listed before are read");
                    return Ok(remembered);
                }
                // With fewer columns every row would be another one.
                None => return Err(fault),
            },
        };
        let listed = openapi.and_then(|openapi| Columns::listed(table, &openapi));
        Ok(listed.or(remembered).unwrap_or_else(|| Columns::expected(table)))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Table, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads one page of a pass, with fewer rows where the server can't give as many and without the columns that
    /// turn out to be missing.
    async fn read(&self, query: &RowQuery, token: &PageToken, first: bool) -> Result<ReadPage, Fault> {
        let table = query.table;
        let what = format!("reading {table}");
        let known = self.known().get(&table).cloned();
        let mut known = match known {
            Some(known) if !first => known,
            _ => Known { columns: self.columns_now(table).await?, page_size: None },
        };
        let source = &table.definition().source;
        let prefer = if token.pass == Pass::Keyless { "timezone=UTC, count=exact" } else { "timezone=UTC" };
        let mut size = known.page_size.map_or(query.page_size, |size| size.min(query.page_size)).max(1);
        loop {
            let parameters: Parameters = query::page(query, &known.columns, token, size, &self.asked_for);
            let schema = source.schema.as_deref();
            let asked = self.rows_preferring(prefer, &what, table.source_name(), schema, &parameters).await;
            let refusal = match asked {
                Ok((reply, rows)) => {
                    known.page_size = Some(size.saturating_mul(2)).filter(|size| *size < query.page_size);
                    let columns = known.columns.clone();
                    self.known().insert(table, known);
                    let total = overview::total(&reply);
                    return Ok(ReadPage { rows, columns, asked_at: reply.asked_at, total });
                }
                Err(refusal) => refusal,
            };
            match &refusal {
                Refusal::TooLarge if size > 1 => {
                    size /= 2;
                    continue;
                }
                Refusal::Answer { status, error } => {
                    if let Some(column) = error.missing_column(table.source_name())
                        && !is_needed(query, column)
                        && known.columns.remove(column)
                    {
                        continue;
                    }
                    // Counting takes as long whatever the page.
                    if verdict(*status, error.code()) == Verdict::Smaller
                        && token.pass != Pass::Keyless
                        && size > MIN_SLOW_PAGE
                    {
                        size = (size / 2).max(MIN_SLOW_PAGE);
                        continue;
                    }
                }
                Refusal::TooLarge | Refusal::Fault(_) => {}
            }
            return Err(match token.pass {
                Pass::Keyless => self.keyless_fault(&what, refusal),
                Pass::Timeless | Pass::Timed => self.http.fault(&what, refusal),
            });
        }
    }

    /// Sees that there are as many rows without a key as are counted: each of them stands for a row that a reading did not
    /// show, so a count that is wrong would hide what is missing.
    async fn show_keyless(
        &self,
        query: &RowQuery,
        columns: &Columns,
        token: &PageToken,
        counted: u64,
    ) -> Result<(), Fault> {
        let table = query.table;
        let what = format!("reading {table}");
        let mut last: Parameters = query::page(query, columns, token, 1, &self.asked_for);
        last.push(query::parameter("offset", counted.saturating_sub(1)));
        let schema = table.definition().source.schema.as_deref();
        match self.rows(&what, table.source_name(), schema, &last).await {
            Ok((_, rows)) if !rows.is_empty() => Ok(()),
            Ok(_) | Err(Refusal::Answer { status: 416, .. }) => Err(Fault::transient(
                PART,
                format!(
                    "reading {table} from {}: {counted} rows are counted that have no key, and the last of them is not \
                     shown, so it can't be told whether rows are missing",
                    self.http.host
                ),
                "try again, and look whether a proxy or cache between here and the project changes Content-Range or cuts \
                 answers",
            )),
            Err(refusal) => Err(self.keyless_fault(&what, refusal)),
        }
    }

    /// Why rows without a key could not be counted or shown: no time column helps to find those.
    fn keyless_fault(&self, what: &str, refusal: Refusal) -> Fault {
        let is_slow = matches!(
            &refusal,
            Refusal::Answer { status, error } if verdict(*status, error.code()) == Verdict::Smaller
        );
        let mut fault = self.http.fault(what, refusal);
        if is_slow {
            fault.advice = "looking for rows without a key took too long: index the column that the definition names as the \
                            key, or that it is made of where it is a view's"
                .into();
        }
        fault
    }

    /// Whether the first of the tables that is there shows any row, and the server's time. Counts nothing: that takes the
    /// longer the more there is.
    async fn pulse(&self) -> Result<(Option<bool>, Option<DateTime<Utc>>), Fault> {
        let mut forbidden = None;
        for table in self.catalog.tables() {
            let definition = table.definition();
            let query = [
                query::parameter("select", query::name(definition.key_source())),
                query::parameter("limit", 1),
            ];
            let (what, schema) = (format!("looking at {table}"), definition.source.schema.as_deref());
            match self.rows(&what, table.source_name(), schema, &query).await {
                Ok((reply, rows)) => return Ok((Some(!rows.is_empty()), reply.clock)),
                Err(Refusal::Answer { error, .. }) if error.is_missing_table() => {}
                Err(refusal) => {
                    let is_forbidden =
                        matches!(&refusal, Refusal::Answer { error, .. } if error.is_forbidden());
                    let fault = self.http.fault(&what, refusal);
                    if !is_forbidden {
                        return Err(fault);
                    }
                    forbidden.get_or_insert(fault);
                }
            }
        }
        forbidden.map_or(Ok((None, None)), Err)
    }
}

/// Whether reading without the column would read other rows than were asked for.
fn is_needed(query: &RowQuery, source: &str) -> bool {
    let definition = query.table.definition();
    source == definition.key_source()
        || query.conditions.iter().any(|asked| definition.source_of(&asked.column) == source)
}

/// The rows of an answer, each as the server sent it.
fn rows_of(body: &Bytes) -> Result<Vec<Json>, Unreadable> {
    // A database in another encoding can send what is no text: only the row it is in is changed.
    let body = match String::from_utf8_lossy(body) {
        Cow::Borrowed(_) => body.clone(),
        Cow::Owned(mended) => Bytes::from(mended),
    };
    let rows: Vec<&RawValue> =
        serde_json::from_slice(&body).map_err(|error| unreadable(&body, &error, "a list of rows"))?;
    Ok(rows.into_iter().map(|row| Json::within(&body, row)).collect())
}

#[async_trait]
impl Source for SupabaseSource {
    fn name(&self) -> &'static str {
        PART
    }

    fn get_ready(&self) {
        self.http.get_ready();
    }

    fn project(&self) -> String {
        self.http.project().to_owned()
    }

    fn origin(&self, table: Table) -> String {
        let place = self.http.place(table.definition().source.schema.as_deref());
        let key = self.http.key();
        let seen = if key.sees_everything() { "everything" } else { key.as_str() };
        let definition = table.definition();
        let asked_for: Vec<&str> = definition
            .columns
            .iter()
            .filter(|column| column.on_request && self.asked_for.contains(&column.name))
            .map(|column| column.name.as_str())
            .collect();
        format!("{place} {} {seen} {}", definition.source_name(), asked_for.join(","))
    }

    async fn page(&self, query: &RowQuery, after: Option<&PageToken>) -> Result<Page, Fault> {
        let start = PageToken { pass: Pass::Timeless, last: None };
        let token = after.unwrap_or(&start);
        let read = self.read(query, token, after.is_none()).await?;
        let ReadPage { rows, columns, asked_at: read_at, total } = read;
        let (without_key, tells_changes) = (0, columns.has_modification_time());
        if token.pass == Pass::Keyless {
            let shown = rows.len() as u64;
            let without_key = total.unwrap_or_default().max(shown);
            if without_key > shown {
                self.show_keyless(query, &columns, token, without_key).await?;
            }
            return Ok(Page { rows, read_at, watermark: None, tells_changes, next: None, without_key });
        }
        let time = columns.time();
        if rows.is_empty() {
            let next = match (token.pass, &query.scope) {
                (_, Scope::Keys(_)) => None,
                (Pass::Timeless, Scope::Changed) if time.is_some() => Some(Pass::Timed),
                _ => Some(Pass::Keyless),
            };
            let next = next.map(|pass| PageToken { pass, last: None });
            return Ok(Page { rows, read_at, watermark: None, tells_changes, next, without_key });
        }
        let last = last_place(query.table, &rows, time, token);
        let last = last.ok_or_else(|| stuck(query.table, &self.http.host))?;
        if token.last.as_ref() == Some(&last) {
            return Err(stuck(query.table, &self.http.host));
        }
        let watermark = watermark(query.table, &columns, token.pass, &last.at);
        // All that were asked for: there can't be more.
        let is_last = matches!(&query.scope, Scope::Keys(keys) if rows.len() >= keys.len());
        let next = (!is_last).then_some(PageToken { pass: token.pass, last: Some(last) });
        Ok(Page { rows, read_at, watermark, tells_changes, next, without_key })
    }

    async fn overview(&self, table: Table) -> Result<TableOverview, Fault> {
        self.overview_of(table).await
    }

    async fn row_count(&self, table: Table) -> Result<Option<u64>, Fault> {
        match self.counted(table, None).await {
            Ok((_, count)) => Ok(Some(count)),
            // Counting a large table may take longer than the project lets a statement run.
            Err(Refusal::Answer { status, error }) if verdict(status, error.code()) == Verdict::Smaller => {
                Ok(None)
            }
            Err(refusal) => Err(self.http.fault(&format!("counting {table}"), refusal)),
        }
    }

    fn columns(&self, table: Table) -> Option<Vec<String>> {
        let known = self.known();
        known.get(&table).filter(|known| known.columns.listed).map(|known| known.columns.names())
    }

    fn seed_columns(&self, table: Table, columns: Vec<String>) {
        // Where nothing is hidden the project is not asked any more, and would not tell of a column that was added.
        if hidden(table, &self.asked_for).is_empty() {
            return;
        }
        let mut known = self.known();
        let is_told = known.get(&table).is_some_and(|known| known.columns.listed);
        if let Some(columns) = Columns::named(table, columns)
            && !is_told
        {
            known.insert(table, Known { columns, page_size: None });
        }
    }

    async fn served(&self, schema: Option<&str>) -> Result<Option<Vec<String>>, Fault> {
        Ok(self.openapi(schema).await?.as_ref().map(describe::tables))
    }

    async fn describe(&self, schema: Option<&str>, table: &str) -> Result<Option<Description>, Fault> {
        self.description(schema, table).await
    }

    async fn check(&self, table: Table) -> Result<Vec<Difference>, Fault> {
        let mut found = self.differences_of(table).await?;
        let is_read =
            |one: &Difference| !matches!(one.kind, DifferenceKind::Key | DifferenceKind::MissingTable);
        if found.iter().all(is_read) {
            found.extend(self.without_key(table).await);
        }
        Ok(found)
    }

    async fn rows_since(&self, table: Table, at: DateTime<Utc>) -> Result<Option<u64>, Fault> {
        for column in times(table) {
            let later = format!("{}.gt.{}", query::name(column), query::quoted(&query::spelled(at, table)));
            match self.counted(table, Some(later)).await {
                Ok((_, count)) => return Ok(Some(count)),
                Err(refusal) if refusal.is_without(table, column) => {}
                Err(refusal) => return Err(self.http.fault(&format!("counting {table}"), refusal)),
            }
        }
        Ok(None)
    }

    async fn latest_change(
        &self,
        table: Table,
        after: DateTime<Utc>,
        before: DateTime<Utc>,
    ) -> Result<Option<LatestChange>, Fault> {
        for column in times(table) {
            match self.newest(table, column, Some((after, before))).await {
                Ok((asked_at, at)) => return Ok(Some(LatestChange { at, asked_at })),
                Err(refusal) if refusal.is_without(table, column) => {}
                Err(refusal) => {
                    return Err(self.http.fault(&format!("looking for changes of {table}"), refusal));
                }
            }
        }
        Ok(None)
    }

    async fn health(&self) -> Result<SourceHealth, Fault> {
        let (shows_rows, clock) = self.pulse().await?;
        let mut warnings = Vec::new();
        warnings.extend(self.blind_spot());
        if shows_rows.is_none() {
            warnings.push(SourceWarning {
                about: "tables",
                problem: format!("the project serves none of the tables {}", self.catalog.names()),
                next_step: "check SUPABASE_URL and SUPABASE_SCHEMA, or define the tables it has",
            });
        }
        Ok(SourceHealth { host: self.http.host.clone(), key: self.http.key().as_str(), clock, warnings })
    }

    fn blind_spot(&self) -> Option<SourceWarning> {
        let key = self.http.key();
        (!key.sees_everything()).then(|| SourceWarning {
            about: "row-level security",
            problem: format!(
                "this key ({}) sees only the rows that a policy of row-level security shows it, and none where there is \
                 no policy: what it sees need not be all, and no count can tell",
                key.as_str()
            ),
            next_step: "if there should be more rows, use a secret key in SUPABASE_KEY, or add a policy for this one",
        })
    }
}

/// The columns that tell when a row was changed, by their names in the project: where it has not the first, rows are read by
/// the second.
fn times(table: Table) -> impl Iterator<Item = &'static str> {
    let (definition, time) = (table.definition(), &table.definition().time);
    [&time.modified, &time.created].into_iter().flatten().map(|column| definition.source_of(column))
}

/// Where the last row stands that tells; `None` where none does, since the server did not answer what was asked.
fn last_place(table: Table, rows: &[Json], time: Option<&str>, token: &PageToken) -> Option<Place> {
    rows.iter().rev().find_map(|row| {
        let members = row.members()?;
        let verbatim = |name: &str| {
            let value = members.get(name)?;
            let is_scalar = !value.starts_with(['{', '[']);
            is_scalar.then(|| json::text(value).map_or_else(|| value.to_owned(), Cow::into_owned))
        };
        let key = verbatim(table.definition().key_source())?;
        let at = match (token.pass, time) {
            (Pass::Timed, Some(time)) => verbatim(time)?,
            _ => String::new(),
        };
        Some(Place { at, key })
    })
}

fn watermark(table: Table, columns: &Columns, pass: Pass, at: &str) -> Option<DateTime<Utc>> {
    (pass == Pass::Timed && columns.has_modification_time())
        .then(|| parse_instant(at, table.zone()))
        .flatten()
}

fn stuck(table: Table, host: &str) -> Fault {
    Fault::misconfigured(
        PART,
        format!("reading {table} from {host} failed: the server showed the same page again"),
        "check that no proxy or cache between here and Supabase ignores the query, and that the key is unique",
    )
}

/// A refusal that is about one table or column alone, and not about reaching the project.
fn is_of_the_table(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Answer { status, error } if *status != 401 || error.is_forbidden())
}

/// What a fault of such a refusal says, in one sentence.
fn told(fault: &Fault) -> String {
    format!("{}; {}", fault.message, fault.advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_of_rows_is_another_in_another_schema_below_another_path_and_by_another_key() {
        use crate::source::sample::keys;
        let leads = Catalog::built_in().get("leads").expect("leads");
        let origin = |url: &str, schema: &str, key: &str| {
            let settings = SupabaseSettings {
                url: url::Url::parse(url).expect("a URL").into(),
                key: key.into(),
                ssl_ca_location: None,
                schema: schema.to_owned(),
                page_size: SupabaseSettings::PAGE_SIZE,
                timeout: std::time::Duration::from_secs(1),
                retry_for: std::time::Duration::from_secs(1),
                include_columns: Vec::new(),
            };
            SupabaseSource::new(&settings, Catalog::built_in()).expect("a client").origin(leads)
        };
        let one = origin("https://a.example", "public", keys::SECRET);
        assert_eq!(one, origin("https://a.example/", "public", keys::SECRET));
        assert!(!one.contains(keys::SECRET), "{one}");
        for (url, schema, key) in [
            ("https://a.example", "vendas", keys::SECRET),
            ("https://a.example/dois", "public", keys::SECRET),
            ("http://a.example", "public", keys::SECRET),
            ("https://a.example", "public", keys::ANON),
        ] {
            assert_ne!(one, origin(url, schema, key));
        }
    }

    #[test]
    fn a_row_in_another_encoding_spoils_no_other_row() {
        let body = Bytes::from_static(b"[{\"id\":1,\"nome\":\"Jo\xe3o\"},\n {\"id\":2, \"n\":1e999}]");
        let Ok(rows) = rows_of(&body) else { panic!("no rows") };
        let texts: Vec<&str> = rows.iter().map(Json::as_str).collect();
        assert_eq!(texts, ["{\"id\":1,\"nome\":\"Jo\u{fffd}o\"}", "{\"id\":2, \"n\":1e999}"]);
    }
}
