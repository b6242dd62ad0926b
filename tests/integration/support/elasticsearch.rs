//! A corner of a real Elasticsearch or OpenSearch server for each test.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::{config::ElasticsearchSettings, domain::Catalog, index::elasticsearch::EsIndex, sink::Sink};
use url::Url;
use uuid::Uuid;

/// Indices under a prefix of their own. Dropping it removes them, and their templates.
pub struct Corner {
    pub url: Url,
    pub prefix: String,
    http: reqwest::Client,
}

impl Corner {
    pub fn new() -> Self {
        let url = super::service("ELASTICSEARCH_URL");
        Self {
            url: Url::parse(&url).expect("ELASTICSEARCH_URL is a URL"),
            prefix: format!("t{}-", Uuid::new_v4().simple()),
            http: reqwest::Client::new(),
        }
    }

    /// With its indices made.
    pub async fn prepared() -> (Self, EsIndex) {
        let corner = Self::new();
        let index = corner.index();
        index.prepare().await.expect("prepared");
        (corner, index)
    }

    pub fn index(&self) -> EsIndex {
        self.index_of(Catalog::built_in())
    }

    /// The index of other tables.
    pub fn index_of(&self, catalog: Catalog) -> EsIndex {
        EsIndex::connect(&settings(&self.url, &self.prefix), catalog).expect("usable settings")
    }

    /// An index that reaches this corner through another address.
    pub fn index_at(&self, url: &Url) -> EsIndex {
        EsIndex::connect(&settings(url, &self.prefix), Catalog::built_in()).expect("usable settings")
    }

    /// The alias of a table here.
    pub fn alias(&self, table: &str) -> String {
        format!("{}{table}", self.prefix)
    }

    /// Asks the server itself.
    pub async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let request = self
            .http
            .request(method.parse().expect("a method"), self.url.join(path).expect("a path"))
            .header("content-type", "application/json")
            .body(body.map(|body| body.to_string()).unwrap_or_default());
        let answer = request.send().await.expect("the server answers");
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or(Value::Null))
    }

    /// What a search finds, the way dashboards ask: `q` in Lucene's syntax.
    pub async fn search(&self, table: &str, q: &str) -> Vec<Value> {
        let path = format!("{}/_search", self.alias(table));
        let body = json!({"size": 100, "query": {"query_string": {"query": q}}});
        let (status, found) = self.ask("POST", &path, Some(body)).await;
        assert_eq!(status, 200, "{found}");
        found["hits"]["hits"].as_array().expect("hits").iter().map(|hit| hit["_source"].clone()).collect()
    }

    pub async fn document(&self, table: &str, id: impl std::fmt::Display) -> Value {
        self.ask("GET", &format!("{}/_doc/{id}", self.alias(table)), None).await.1
    }

    async fn remove(url: Url, prefix: String) -> Result<(), reqwest::Error> {
        let http = reqwest::Client::new();
        // What the log is kept in, where the server has data streams.
        http.delete(format!("{url}_data_stream/{prefix}*")).send().await?;
        let list = format!("{url}_cat/indices/{prefix}*?h=index&expand_wildcards=all");
        for index in http.get(list).send().await?.text().await?.split_whitespace() {
            http.delete(format!("{url}{index}")).send().await?;
        }
        http.delete(format!("{url}_index_template/sluice-{prefix}*")).send().await?;
        Ok(())
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        let (url, prefix) = (self.url.clone(), self.prefix.clone());
        // A test that fails must clean up too, and its own runtime can't be waited on from here.
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(Self::remove(url, prefix)).ok()
        });
        if !matches!(cleaned.join(), Ok(Some(()))) {
            eprintln!("could not remove the indices of {}", self.prefix);
        }
    }
}

pub fn settings(url: &Url, prefix: &str) -> ElasticsearchSettings {
    ElasticsearchSettings {
        url: url.clone().into(),
        username: None,
        password: None,
        api_key: None,
        ssl_ca_location: None,
        index_prefix: prefix.to_owned(),
        timeout: Duration::from_secs(30),
    }
}
