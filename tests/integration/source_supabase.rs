//! The source's promises, against a server that speaks PostgREST's language. Needs no service.

mod columns;
mod reading;
mod refusals;
mod telling;

use std::{collections::BTreeSet, time::Duration};

use chrono::{TimeDelta, Utc};
use sluice::{
    config::SupabaseSettings,
    domain::{Catalog, Definition, Json, JsonObject, Table, json::to_value},
    fault::Fault as PartFault,
    source::{
        Page, RowQuery, Scope, Source,
        sample::{Failure, Fault, SampleServer, keys},
        supabase::SupabaseSource,
    },
};

async fn server() -> SampleServer {
    SampleServer::start(0).await.expect("a free port")
}

fn settings(url: &str, key: &str) -> SupabaseSettings {
    SupabaseSettings {
        url: url.parse::<url::Url>().expect("a URL").into(),
        key: key.into(),
        ssl_ca_location: None,
        schema: "public".to_owned(),
        page_size: 1000,
        timeout: Duration::from_secs(5),
        retry_for: Duration::from_secs(5),
        include_columns: Vec::new(),
    }
}

fn source_with(settings: &SupabaseSettings) -> SupabaseSource {
    SupabaseSource::new(settings, Catalog::built_in()).expect("a source")
}

fn source(server: &SampleServer) -> SupabaseSource {
    source_with(&settings(&server.url(), keys::SECRET))
}

fn query(table: Table, page_size: u32) -> RowQuery {
    let since = Utc::now() - TimeDelta::hours(24);
    RowQuery { table, scope: Scope::Changed, since, created_since: None, conditions: Vec::new(), page_size }
}

async fn pages(source: &SupabaseSource, query: &RowQuery) -> Result<Vec<Page>, PartFault> {
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = source.page(query, after.as_ref()).await?;
        after.clone_from(&page.next);
        pages.push(page);
        if after.is_none() {
            return Ok(pages);
        }
    }
}

async fn texts(source: &SupabaseSource, query: &RowQuery) -> Result<Vec<Json>, PartFault> {
    Ok(pages(source, query).await?.into_iter().flat_map(|page| page.rows).collect())
}

async fn read(source: &SupabaseSource, query: &RowQuery) -> Result<Vec<JsonObject>, PartFault> {
    let shown = |row: Json| to_value(row.as_str()).as_object().cloned().expect("an object");
    Ok(texts(source, query).await?.into_iter().map(shown).collect())
}

fn ids(rows: &[JsonObject]) -> BTreeSet<String> {
    rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
}

fn refusal(status: u16, code: &str) -> Fault {
    Fault::Refuse(Failure::new(status, code, "scripted", None))
}

/// A table of one's own.
fn defined(toml: &str) -> Table {
    Table::new(Definition::parse(toml).unwrap_or_else(|error| panic!("{toml}: {error}")))
}

/// What was asked for, of every request for rows.
fn selections(server: &SampleServer) -> Vec<String> {
    let select = |query: &[(String, String)]| {
        query.iter().find(|(name, _)| name == "select").map(|(_, value)| value.clone())
    };
    server.take_requests().iter().filter_map(|request| select(&request.query)).collect()
}
