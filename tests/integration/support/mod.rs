//! The harness: a pipeline of its own for every test, on the shared real servers.

pub mod cli;
pub mod client;
pub mod elasticsearch;
pub mod events;
pub mod every_type;
pub mod fake_http;
pub mod folder;
pub mod gate;
pub mod http;
pub mod indices;
pub mod logs;
pub mod place;
pub mod pooler;
pub mod postgres;
pub mod raw_http;
pub mod raw_kafka;
pub mod read_log;
pub mod rows;
pub mod servers;
pub mod stores;
#[cfg(unix)]
pub mod terminal;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::Value;
use sluice::{
    config::Settings,
    domain::{Catalog, Table},
    engine::{Engine, SyncStatus, SyncWatcher},
    parts,
    source::{
        Condition,
        sample::{SampleServer, keys},
    },
    store::SyncRequest,
};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use self::postgres::{on_database, owned_database};

/// A suite's tests, once for each adapter: the module's name tells which.
macro_rules! on_each_adapter {
    ($embedded:ident: $with_nothing:ty, $real:ident: $with_server:ty; $($test:ident),+ $(,)?) => {
        mod $embedded {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test::<$with_nothing>().await;
            })+
        }
        mod $real {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test::<$with_server>().await;
            })+
        }
    };
}
pub(crate) use on_each_adapter;

/// Longest wait for anything; reached only when something is broken.
const PATIENCE: Duration = Duration::from_secs(90);

/// A variable that leads to a real server.
pub fn service(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: run tools/test, or tools/services start and eval \"$(tools/services env)\""
        )
    })
}

/// A sample source, a database, topics, groups and indices that nobody else uses.
pub struct Pipeline {
    pub source: SampleServer,
    pub variables: BTreeMap<String, String>,
    id: String,
    admin_url: String,
    /// The data folder: the user's own is shared by whatever else runs.
    _folder: folder::TestFolder,
}

impl Pipeline {
    pub async fn new() -> Self {
        Self::on(&service("DATABASE_ADMIN_URL"), &service("DATABASE_URL")).await
    }

    /// With its database on the server of `admin_url`, for the login of `own_url`.
    pub async fn on(admin_url: &str, own_url: &str) -> Self {
        let admin_url = admin_url.to_owned();
        let id = Uuid::new_v4().simple().to_string()[..12].to_owned();
        let source = SampleServer::start(0).await.expect("a free port");
        let mut admin = connect(&admin_url).await;
        let folder = folder::TestFolder::new();
        let name = format!("t_{id}");
        let statement = owned_database(&name, own_url);
        sqlx::query(&statement).execute(&mut admin).await.expect("a new database");
        let variables = [
            ("SUPABASE_URL", source.url()),
            ("SUPABASE_KEY", keys::SECRET.to_owned()),
            ("SUPABASE_RETRY_SECONDS", "2".to_owned()),
            ("SLUICE_TOOLS", "all".to_owned()),
            ("KAFKA_BOOTSTRAP_SERVERS", service("KAFKA_BOOTSTRAP_SERVERS")),
            ("KAFKA_TOPIC", format!("t-{id}")),
            ("KAFKA_PARTITIONS", "3".to_owned()),
            ("SLUICE_GROUP_PREFIX", format!("t-{id}")),
            ("DATABASE_URL", on_database(own_url, &name)),
            ("DATABASE_MAX_CONNECTIONS", "4".to_owned()),
            ("ELASTICSEARCH_URL", service("ELASTICSEARCH_URL")),
            ("ELASTICSEARCH_INDEX_PREFIX", format!("t-{id}-")),
            ("SLUICE_DATA_DIR", folder.path().display().to_string()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).into();
        Self { source, variables, id, admin_url, _folder: folder }
    }

    /// Changes a setting for engines and processes made from here on.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.insert(name.to_owned(), value.into());
    }

    pub fn settings(&self) -> Settings {
        Settings::load(self.variables.clone()).expect("valid settings")
    }

    /// An engine in this process, not yet draining.
    pub async fn engine(&self) -> Arc<Engine> {
        parts::engine(&self.settings()).await.expect("an engine")
    }

    /// The real program, with this pipeline's settings and no others.
    pub fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sluice"));
        // Away from any .env of the developer's.
        command.args(arguments).env_clear().envs(&self.variables).current_dir(std::env::temp_dir());
        command.kill_on_drop(true);
        command
    }

    /// The one number a query answers with.
    pub async fn number(&self, sql: &str) -> i64 {
        let mut connection = connect(&self.variables["DATABASE_URL"]).await;
        let number = sqlx::query_scalar(sql).fetch_one(&mut connection).await;
        number.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// As [`Pipeline::number`], of what may not be there just now.
    pub async fn try_number(&self, sql: &str) -> Option<i64> {
        let mut connection = PgConnection::connect(&self.variables["DATABASE_URL"]).await.ok()?;
        sqlx::query_scalar(sql).fetch_one(&mut connection).await.ok()
    }

    /// The one text a query answers with.
    pub async fn text(&self, sql: &str) -> String {
        let mut connection = connect(&self.variables["DATABASE_URL"]).await;
        let text = sqlx::query_scalar(sql).fetch_one(&mut connection).await;
        text.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Runs a statement.
    pub async fn execute(&self, sql: &str) {
        let mut connection = connect(&self.variables["DATABASE_URL"]).await;
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// What the index answers to a query in Lucene's syntax, as Kibana would put it.
    pub async fn search(&self, index: &str, query: &str) -> Value {
        let path = format!("t-{}-{index}/_search", self.id);
        let query = [("q", query), ("track_total_hits", "true")];
        serde_json::from_str(&ask_index(Method::GET, &path, &query).await).expect("JSON")
    }

    /// How many documents match.
    pub async fn hits(&self, index: &str, query: &str) -> i64 {
        let answer = self.search(index, query).await;
        answer["hits"]["total"]["value"].as_i64().unwrap_or_else(|| panic!("no hits in {answer}"))
    }

    /// As [`Pipeline::hits`], of what may not be there just now.
    pub async fn try_hits(&self, index: &str, query: &str) -> Option<i64> {
        self.search(index, query).await["hits"]["total"]["value"].as_i64()
    }

    /// A document by its id.
    pub async fn document(&self, index: &str, id: &str) -> Value {
        let path = format!("t-{}-{index}/_doc/{id}", self.id);
        serde_json::from_str(&ask_index(Method::GET, &path, &[]).await).expect("JSON")
    }

    /// Rows of the events table, of the rollup, and of both event stores must agree.
    pub async fn assert_events(&self, expected: i64) {
        assert_eq!(self.number("SELECT count(*) FROM eventos_raw").await, expected, "eventos_raw");
        let rolled_up = self.number("SELECT coalesce(sum(total), 0)::bigint FROM eventos_agregados").await;
        assert_eq!(rolled_up, expected, "eventos_agregados");
        assert_eq!(self.hits("eventos", "*").await, expected, "the index of events");
    }

    /// As [`Pipeline::assert_events`], and every event by its identity: none missing, none of another making.
    pub async fn assert_events_in_full(&self, expected: i64) {
        self.assert_events(expected).await;
        assert_eq!(self.number("SELECT count(DISTINCT entidade_id) FROM eventos_raw").await, expected);
        assert_eq!(self.number("SELECT count(*) FROM leads").await, expected);
        assert_eq!(self.hits("leads", "*").await, expected, "the index of leads");
    }

    /// Gives everything back to the servers.
    pub async fn clean_up(self) {
        let mut admin = connect(&self.admin_url).await;
        sqlx::query(&format!("DROP DATABASE t_{} WITH (FORCE)", self.id))
            .execute(&mut admin)
            .await
            .expect("the database is dropped");
        let topic = &self.variables["KAFKA_TOPIC"];
        rows::delete_topics(&[topic, &format!("{topic}.dlq")]).await;
        self.clean_up_indices().await;
    }

    /// Gives back what is on the shared search server, where the rest is on servers that end with the test.
    pub async fn clean_up_indices(&self) {
        let prefix = format!("t-{}-", self.id);
        let list = format!("_cat/indices/{prefix}*");
        let query = [("h", "index"), ("expand_wildcards", "all")];
        let indices = ask_index(Method::GET, &list, &query).await;
        let indices = indices.split_whitespace().map(str::to_owned);
        for path in indices.chain([format!("_index_template/sluice-{prefix}*")]) {
            ask_index(Method::DELETE, &path, &[]).await;
        }
    }
}

/// What the index answers at last: a server with much to do breaks a connection off now and then, which is no test's matter.
async fn ask_index(method: Method, path: &str, query: &[(&str, &str)]) -> String {
    let url = format!("{}/{path}", service("ELASTICSEARCH_URL"));
    let mut answer = None;
    eventually("the index answers", async || {
        let sent = reqwest::Client::new().request(method.clone(), &url).query(query).send().await;
        match sent {
            Ok(sent) => answer = sent.text().await.ok(),
            Err(error) => println!("{method} {path}: {error:?}"),
        }
        answer.is_some()
    })
    .await;
    answer.unwrap_or_default()
}

pub async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("PostgreSQL answers; is it running? tools/services start")
}

/// A table in the binary.
pub fn table(name: &str) -> Table {
    Catalog::built_in().get(name).unwrap_or_else(|| panic!("no table {name} is in the binary"))
}

/// A request for everything of the last day.
pub fn request(table: Table) -> SyncRequest {
    SyncRequest {
        table: table.into(),
        hours_ago: 24,
        limit: 100_000,
        conditions: Vec::new(),
        resume: false,
        reappend: false,
        reconcile: None,
        since: None,
    }
}

/// What a column must be, by the name that a table's definition gives to the condition.
pub fn condition(table: Table, filter: &str, value: &str) -> Condition {
    let filter = &table.definition().filters[filter];
    Condition { column: filter.column.clone(), compare: filter.compare, value: value.to_owned() }
}

/// Runs a sync and waits until it is queryable everywhere.
pub async fn sync(engine: &Engine, request: SyncRequest) -> SyncStatus {
    let id = engine.syncs.start(request).await.expect("a sync");
    finished(engine, id).await
}

/// Waits for a sync's end.
pub async fn finished(engine: &Engine, id: Uuid) -> SyncStatus {
    let status = engine.syncs.wait_for(id, PATIENCE, &mut Deaf).await.expect("a status");
    assert!(status.is_final(), "the sync did not end: {status:?}");
    status
}

/// Polls until something holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let polling = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // A question may wait without end, too.
    let in_time = tokio::time::timeout(PATIENCE, polling).await;
    assert!(in_time.is_ok(), "not within {} s: {what}", PATIENCE.as_secs());
}

/// Waits without wanting to hear of it.
pub struct Deaf;

#[async_trait::async_trait]
impl SyncWatcher for Deaf {
    async fn saw(&mut self, _: &SyncStatus) {}
}
