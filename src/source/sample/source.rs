//! The sample project as a source: its server, read over HTTP by the adapter that reads Supabase.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use url::Url;

use super::{SampleProject, SampleServer, keys};
use crate::{
    config::SupabaseSettings,
    domain::{Catalog, Table},
    fault::Fault,
    source::{
        LatestChange, Page, PageToken, RowQuery, Source, SourceHealth, SourceWarning, TableOverview,
        description::{Description, Difference},
        supabase::SupabaseSource,
    },
};

const PART: &str = "sample";

/// A source on generated rows. Its server runs as long as it lives.
pub struct SampleSource {
    /// Stops with the source.
    server: SampleServer,
    reader: SupabaseSource,
    folder: PathBuf,
}

impl SampleSource {
    /// Serves the project whose beginning is remembered in `folder` and makes a client for it.
    ///
    /// # Errors
    /// When loopback can't be listened on, or the folder can't be read or written.
    pub async fn start(folder: &Path, catalog: Catalog) -> Result<Self, Fault> {
        let project = SampleProject::resume(folder).map_err(|error| {
            Fault::misconfigured(
                PART,
                format!("opening the sample project in {} failed: {error}", folder.display()),
                "check that the folder can be written, or set SLUICE_DATA_DIR to another",
            )
        })?;
        let server = SampleServer::start(0).await.map_err(|error| {
            Fault::misconfigured(
                PART,
                format!("serving the sample project on 127.0.0.1 failed: {error}"),
                "check that programs may listen on loopback here, or set SUPABASE_URL to a real project",
            )
        })?;
        server.set_project(project);
        let reader = SupabaseSource::new(&settings(&server)?, catalog)?;
        Ok(Self { server, reader, folder: folder.to_owned() })
    }

    /// Lets `count` things happen in the project now, as they otherwise do one every two minutes.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn hurry(&self, count: u64) -> std::io::Result<()> {
        self.server.hurry(&self.folder, count)
    }
}

fn settings(server: &SampleServer) -> Result<SupabaseSettings, Fault> {
    let url = Url::parse(&server.url()).map_err(|error| {
        Fault::misconfigured(PART, format!("the sample project's address is no URL: {error}"), "report this")
    })?;
    Ok(SupabaseSettings {
        url: url.into(),
        key: keys::SECRET.into(),
        ssl_ca_location: None,
        schema: "public".to_owned(),
        page_size: SupabaseSettings::PAGE_SIZE,
        timeout: Duration::from_secs(30),
        retry_for: Duration::from_secs(10),
        include_columns: Vec::new(),
    })
}

#[async_trait]
impl Source for SampleSource {
    fn name(&self) -> &'static str {
        PART
    }

    fn project(&self) -> String {
        // It listens on another port each time.
        PART.to_owned()
    }

    fn origin(&self, _table: Table) -> String {
        self.project()
    }

    async fn page(&self, query: &RowQuery, after: Option<&PageToken>) -> Result<Page, Fault> {
        self.reader.page(query, after).await
    }

    async fn overview(&self, table: Table) -> Result<TableOverview, Fault> {
        self.reader.overview(table).await
    }

    async fn row_count(&self, table: Table) -> Result<Option<u64>, Fault> {
        self.reader.row_count(table).await
    }

    fn columns(&self, table: Table) -> Option<Vec<String>> {
        self.reader.columns(table)
    }

    fn seed_columns(&self, table: Table, columns: Vec<String>) {
        self.reader.seed_columns(table, columns);
    }

    async fn served(&self, schema: Option<&str>) -> Result<Option<Vec<String>>, Fault> {
        self.reader.served(schema).await
    }

    async fn describe(&self, schema: Option<&str>, table: &str) -> Result<Option<Description>, Fault> {
        self.reader.describe(schema, table).await
    }

    async fn check(&self, table: Table) -> Result<Vec<Difference>, Fault> {
        self.reader.check(table).await
    }

    async fn rows_since(&self, table: Table, at: DateTime<Utc>) -> Result<Option<u64>, Fault> {
        self.reader.rows_since(table, at).await
    }

    async fn latest_change(
        &self,
        table: Table,
        after: DateTime<Utc>,
        before: DateTime<Utc>,
    ) -> Result<Option<LatestChange>, Fault> {
        self.reader.latest_change(table, after, before).await
    }

    async fn health(&self) -> Result<SourceHealth, Fault> {
        let mut health = self.reader.health().await?;
        health.warnings.push(SourceWarning {
            about: "rows",
            problem: "the rows are generated samples".to_owned(),
            next_step: "set SUPABASE_URL and SUPABASE_KEY to read a real project",
        });
        Ok(health)
    }

    fn blind_spot(&self) -> Option<SourceWarning> {
        None
    }
}
