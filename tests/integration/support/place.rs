//! The same pipeline on the embedded parts and on the real ones, for tests that both must pass.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Value, json};
use sluice::{
    config::Settings,
    domain::Catalog,
    engine::Engine,
    index::{Index, IndexName, SearchRequest, Sort, elasticsearch::EsIndex, tantivy::TantivyIndex},
    parts,
    source::sample::{SampleServer, keys},
    store::QueryLimits,
};

use super::{Pipeline, folder::TestFolder, service};

/// A pipeline of a test's own, and a hand in its index.
pub trait Place: Sized {
    /// Makes a trigger that lets nothing be remembered of what was appended.
    const FORGETTING_TRIGGER: &'static str;
    /// Takes it away.
    const DROP_FORGETTING_TRIGGER: &'static str;

    async fn new() -> Self;
    fn source(&self) -> &SampleServer;
    /// Changes a setting for engines and processes made from here on.
    fn set(&mut self, name: &str, value: &str);
    fn settings(&self) -> Settings;
    fn index(&self) -> Arc<dyn Index>;
    fn command(&self, arguments: &[&str]) -> tokio::process::Command;
    /// Deletes every document of an index behind the engine's back, while no engine runs.
    async fn delete_all(&self, index: IndexName);
    /// Puts documents into the index of the leads that stand for none, while no engine runs; tells how many.
    async fn add_strays(&self) -> u64;
    /// Deletes the indices as a whole, while no engine runs.
    async fn delete_indices(&self);
    /// Removes all events of the log but the last of each partition, as its retention would, while no engine runs.
    async fn cut_log(&self);
    /// Runs statements in the store behind the engine's back.
    async fn execute(&self, sql: &str);
    /// Everything that the tables of the store and the documents of every index hold, as text.
    async fn dump(&self) -> String;
    /// Makes a trigger that lets no lead of the name `proibida` into the store.
    async fn refuse_a_name(&self);
    /// Takes it away.
    async fn refuse_no_name(&self);
    /// All that there is in log, store and index, in a form that changes with every write.
    async fn contents(&self) -> Vec<String>;
    async fn clean_up(self);

    async fn engine(&self) -> Arc<Engine> {
        parts::engine(&self.settings()).await.expect("an engine")
    }
}

pub struct Embedded {
    folder: TestFolder,
    source: SampleServer,
    more: BTreeMap<String, String>,
}

impl Embedded {
    fn variables(&self) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::from([
            ("SUPABASE_URL".to_owned(), self.source.url()),
            ("SUPABASE_KEY".to_owned(), keys::SECRET.to_owned()),
            ("SUPABASE_RETRY_SECONDS".to_owned(), "2".to_owned()),
            ("SLUICE_TOOLS".to_owned(), "all".to_owned()),
            ("SLUICE_DATA_DIR".to_owned(), self.folder.path().display().to_string()),
        ]);
        variables.extend(self.more.clone());
        variables
    }

    fn index_folder(&self) -> PathBuf {
        self.folder.path().join("index")
    }
}

impl Place for Embedded {
    const FORGETTING_TRIGGER: &'static str = "
        CREATE TRIGGER esquece BEFORE INSERT ON sluice_appended BEGIN SELECT RAISE(ABORT, 'não'); END";
    const DROP_FORGETTING_TRIGGER: &'static str = "DROP TRIGGER esquece";

    async fn new() -> Self {
        let source = SampleServer::start(0).await.expect("a free port");
        Self { folder: TestFolder::new(), source, more: BTreeMap::new() }
    }

    fn source(&self) -> &SampleServer {
        &self.source
    }

    fn set(&mut self, name: &str, value: &str) {
        self.more.insert(name.to_owned(), value.to_owned());
    }

    fn settings(&self) -> Settings {
        Settings::load(self.variables()).expect("valid settings")
    }

    fn index(&self) -> Arc<dyn Index> {
        Arc::new(TantivyIndex::new(self.index_folder(), Catalog::built_in()))
    }

    fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.args(arguments).env_clear().envs(self.variables());
        command.current_dir(self.folder.path()).kill_on_drop(true);
        command
    }

    async fn delete_all(&self, index: IndexName) {
        let generation = self.index_folder().join(format!("{index}-000001"));
        let opened = tantivy::Index::open_in_dir(generation).expect("the generation opens");
        let mut writer = opened.writer::<tantivy::TantivyDocument>(30_000_000).expect("nobody writes");
        writer.delete_all_documents().expect("deleted");
        writer.commit().expect("committed");
    }

    async fn add_strays(&self) -> u64 {
        let generation = self.index_folder().join("leads-000001");
        let opened = tantivy::Index::open_in_dir(generation).expect("the generation opens");
        opened.tokenizers().register("words-2", tantivy::tokenizer::SimpleTokenizer::default());
        let field = |name| opened.schema().get_field(name).expect("a field");
        let mut stray = tantivy::TantivyDocument::new();
        stray.add_bytes(field("_id"), b"zzz");
        stray.add_bytes(field("_source"), br#"{"id":"zzz","nome":"x","versao":1}"#);
        stray.add_i64(field("_version"), 1);
        let mut writer = opened.writer::<tantivy::TantivyDocument>(30_000_000).expect("nobody writes");
        writer.add_document(stray).expect("added");
        writer.commit().expect("committed");
        1
    }

    async fn delete_indices(&self) {
        std::fs::remove_dir_all(self.index_folder()).expect("deleted");
    }

    async fn cut_log(&self) {
        self.execute(
            "DELETE FROM log_records AS r WHERE topic = 0 AND position < (
                 SELECT max(position) FROM log_records WHERE topic = 0 AND partition = r.partition)",
        )
        .await;
    }

    async fn execute(&self, sql: &str) {
        let store = rusqlite::Connection::open(self.folder.path().join("sluice.db")).expect("the file opens");
        store.busy_timeout(Duration::from_secs(20)).expect("a timeout");
        store.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn dump(&self) -> String {
        let path = self.folder.path().join("sluice.db");
        let store = rusqlite::Connection::open(&path).expect("the file opens");
        let mut tables = store
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
            .expect("a question");
        let tables: Vec<String> = tables
            .query_map([], |row| row.get(0))
            .expect("an answer")
            .collect::<Result<_, _>>()
            .expect("names");
        let mut dump = String::new();
        for table in tables {
            let mut all = store.prepare(&format!("SELECT * FROM \"{table}\"")).expect("a question");
            let columns = all.column_count();
            let mut rows = all.query([]).expect("an answer");
            while let Some(row) = rows.next().expect("a row") {
                for column in 0..columns {
                    use rusqlite::types::ValueRef;
                    match row.get_ref(column).expect("a value") {
                        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                            dump.push_str(&String::from_utf8_lossy(bytes));
                        }
                        other => write!(dump, "{other:?}").expect("a text grows"),
                    }
                    dump.push('\n');
                }
            }
        }
        for entry in std::fs::read_dir(self.index_folder()).expect("the index") {
            let generation = entry.expect("an entry").path();
            if !generation.join("meta.json").is_file() {
                continue;
            }
            let opened = tantivy::Index::open_in_dir(&generation).expect("the generation opens");
            let source = opened.schema().get_field("_source").expect("documents");
            let searcher = opened.reader().expect("a reader").searcher();
            for segment in searcher.segment_readers() {
                let documents = segment.get_store_reader(1).expect("a reader");
                for at in segment.doc_ids_alive() {
                    use tantivy::schema::Value as _;
                    let document: tantivy::TantivyDocument = documents.get(at).expect("a document");
                    let bytes = document.get_first(source).and_then(|value| value.as_bytes());
                    dump.push_str(&String::from_utf8_lossy(bytes.expect("its source")));
                    dump.push('\n');
                }
            }
        }
        dump
    }

    async fn refuse_a_name(&self) {
        self.execute(<super::stores::Embedded as super::stores::StoreBench>::REFUSING_TRIGGER).await;
    }

    async fn refuse_no_name(&self) {
        self.execute(&<super::stores::Embedded as super::stores::StoreBench>::drop_trigger("leads")).await;
    }

    async fn contents(&self) -> Vec<String> {
        let store = rusqlite::Connection::open(self.folder.path().join("sluice.db")).expect("the file opens");
        let texts = |sql: &str| -> Vec<String> {
            let mut statement = store.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            let columns = statement.column_count();
            let rows = statement.query_map([], |row| {
                (0..columns).map(|column| Ok(format!("{:?}", row.get_ref(column)?))).collect()
            });
            rows.expect("rows")
                .map(|row: rusqlite::Result<Vec<String>>| row.expect("a row").join("|"))
                .collect()
        };
        let mut contents = texts("SELECT name, sql FROM sqlite_master ORDER BY 1");
        let tables: Vec<String> = store
            .prepare("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")
            .expect("tables")
            .query_map([], |row| row.get(0))
            .expect("tables")
            .collect::<rusqlite::Result<_>>()
            .expect("tables");
        for table in tables {
            contents.extend(texts(&format!("SELECT '{table}', * FROM \"{table}\"")));
        }
        let index = files_below(&self.index_folder());
        contents.extend(index);
        contents
    }

    async fn clean_up(self) {}
}

pub struct Real(pub Pipeline);

impl Place for Real {
    const FORGETTING_TRIGGER: &'static str = "
        CREATE FUNCTION esquece() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''não''; END';
        CREATE TRIGGER esquece BEFORE INSERT ON sluice_appended FOR EACH ROW EXECUTE FUNCTION esquece()";
    const DROP_FORGETTING_TRIGGER: &'static str = "DROP TRIGGER esquece ON sluice_appended";

    async fn new() -> Self {
        Self(Pipeline::new().await)
    }

    fn source(&self) -> &SampleServer {
        &self.0.source
    }

    fn set(&mut self, name: &str, value: &str) {
        self.0.set(name, value);
    }

    fn settings(&self) -> Settings {
        self.0.settings()
    }

    fn index(&self) -> Arc<dyn Index> {
        let settings = self.settings().elasticsearch.expect("Elasticsearch is named");
        Arc::new(EsIndex::connect(&settings, Catalog::built_in()).expect("usable settings"))
    }

    fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        self.0.command(arguments)
    }

    async fn delete_all(&self, index: IndexName) {
        let alias = format!("{}{index}", self.0.variables["ELASTICSEARCH_INDEX_PREFIX"]);
        let (http, base) = (reqwest::Client::new(), service("ELASTICSEARCH_URL"));
        let all = format!("{base}/{alias}/_search?size=10000&_source=false");
        let found: Value = http.get(all).send().await.expect("hits").json().await.expect("JSON");
        let hits = found["hits"]["hits"].as_array().expect("hits");
        let deletions = hits.iter().map(|hit| format!("{}\n", json!({"delete": {"_id": hit["_id"]}})));
        let deleted = http
            .post(format!("{base}/{alias}/_bulk?refresh=true"))
            .header("content-type", "application/x-ndjson")
            .body(deletions.collect::<String>())
            .send()
            .await
            .expect("an answer");
        assert!(!hits.is_empty() && deleted.status().is_success());
    }

    async fn add_strays(&self) -> u64 {
        let key = super::rows::id(1);
        let strays = [
            ("zzz", json!({"id": "zzz", "nome": "x", "versao": 1})),
            ("sem-chave", json!({"nome": "ninguém"})),
            ("também-sem-chave", json!({"nome": "ninguém"})),
            ("outra", json!({"id": key, "nome": "duas vezes"})),
            ("mais-uma", json!({"id": key, "nome": "três vezes"})),
            ("roteada?routing=longe&", json!({"id": "roteada"})),
        ];
        let alias = format!("{}leads", self.0.variables["ELASTICSEARCH_INDEX_PREFIX"]);
        for (id, source) in &strays {
            let and = if id.contains('?') { "" } else { "?" };
            let url = format!("{}/{alias}/_doc/{id}{and}refresh=true", service("ELASTICSEARCH_URL"));
            let answer = reqwest::Client::new().put(url).json(source).send().await.expect("an answer");
            assert!(answer.status().is_success(), "{answer:?}");
        }
        strays.len() as u64
    }

    async fn delete_indices(&self) {
        for index in ["eventos", "leads", "chat_sessions"] {
            let name = format!("{}{index}-000001", self.0.variables["ELASTICSEARCH_INDEX_PREFIX"]);
            let url = format!("{}/{name}", service("ELASTICSEARCH_URL"));
            let answer = reqwest::Client::new().delete(url).send().await.expect("an answer");
            assert!(answer.status().is_success(), "{answer:?}");
        }
    }

    async fn cut_log(&self) {
        let log = parts::Parts::open(&self.settings()).expect("parts").log;
        let mut cut = rdkafka::TopicPartitionList::new();
        for extent in log.extents().await.expect("the log").iter().filter(|extent| extent.high > 1) {
            let last = rdkafka::Offset::Offset(extent.high - 1);
            cut.add_partition_offset(&self.0.variables["KAFKA_TOPIC"], extent.partition, last)
                .expect("listed");
        }
        let admin: rdkafka::admin::AdminClient<rdkafka::client::DefaultClientContext> =
            super::rows::config().create().expect("an admin client");
        admin.delete_records(&cut, &rdkafka::admin::AdminOptions::new()).await.expect("removed");
    }

    async fn execute(&self, sql: &str) {
        self.0.execute(sql).await;
    }

    async fn dump(&self) -> String {
        let mut store = super::connect(&self.0.variables["DATABASE_URL"]).await;
        let tables: Vec<String> =
            sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()")
                .fetch_all(&mut store)
                .await
                .expect("the tables");
        let mut dump = String::new();
        for table in tables {
            let all = format!("SELECT coalesce(string_agg(t::text, E'\\n'), '') FROM \"{table}\" AS t");
            let rows: String = sqlx::query_scalar(&all).fetch_one(&mut store).await.expect("the rows");
            dump.push_str(&rows);
        }
        let (http, base) = (reqwest::Client::new(), service("ELASTICSEARCH_URL"));
        let prefix = &self.0.variables["ELASTICSEARCH_INDEX_PREFIX"];
        let refreshed = http.post(format!("{base}/{prefix}*/_refresh")).send().await.expect("an answer");
        assert!(refreshed.status().is_success());
        let all = format!("{base}/{prefix}*/_search?size=10000");
        dump + &http.get(all).send().await.expect("an answer").text().await.expect("documents")
    }

    async fn refuse_a_name(&self) {
        // A server makes its tables in the background.
        super::eventually("the table is there", async || {
            self.0.try_number("SELECT 1::int8 FROM pg_class WHERE oid = to_regclass('leads')").await.is_some()
        })
        .await;
        self.execute(<super::stores::Postgres as super::stores::StoreBench>::REFUSING_TRIGGER).await;
    }

    async fn refuse_no_name(&self) {
        self.execute(&<super::stores::Postgres as super::stores::StoreBench>::drop_trigger("leads")).await;
    }

    async fn contents(&self) -> Vec<String> {
        let mut connection = super::connect(&self.0.variables["DATABASE_URL"]).await;
        let tables = "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1";
        let tables: Vec<String> =
            sqlx::query_scalar(tables).fetch_all(&mut connection).await.expect("the tables");
        let mut contents = tables.clone();
        for table in tables {
            let digest = format!(
                "SELECT coalesce(md5(string_agg(t::text || t.xmin::text, ',' ORDER BY t::text)), '') FROM \"{table}\" AS t"
            );
            let digest: String =
                sqlx::query_scalar(&digest).fetch_one(&mut connection).await.expect("a digest");
            contents.push(digest);
        }
        let all = format!(
            "{}/{}*?expand_wildcards=all",
            service("ELASTICSEARCH_URL"),
            self.0.variables["ELASTICSEARCH_INDEX_PREFIX"]
        );
        contents.push(reqwest::get(all).await.expect("an answer").text().await.expect("text"));
        let parts = parts::Parts::open(&self.settings()).expect("parts");
        for topic in [parts.log.identity().await, parts.log.dead_letters_identity().await] {
            contents.push(topic.map_or_else(|fault| fault.to_string(), |topic| topic.to_string()));
        }
        let extents = parts.log.extents().await;
        contents.push(extents.map_or_else(|fault| fault.to_string(), |extents| format!("{extents:?}")));
        contents
    }

    async fn clean_up(self) {
        self.0.clean_up().await;
    }
}

/// The files below a folder, with their sizes and times.
fn files_below(folder: &std::path::Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            let known = path.metadata().expect("a file");
            files.push(format!("{} {} {:?}", path.display(), known.len(), known.modified().ok()));
        }
    }
    files.sort();
    files
}

/// The rows that a statement answers with.
pub async fn rows(engine: &Engine, sql: &str) -> Vec<Vec<Value>> {
    let limits =
        QueryLimits { rows: 1_000, bytes: 1 << 20, timeout: Duration::from_secs(20), verbatim: false };
    let (_, answer) =
        engine.questions.sql(sql, limits).await.unwrap_or_else(|fault| panic!("{sql}: {fault}"));
    answer.rows
}

/// The one value that a statement answers with.
pub async fn value(engine: &Engine, sql: &str) -> Value {
    rows(engine, sql).await.pop().and_then(|mut row| row.pop()).unwrap_or_else(|| panic!("{sql}: no row"))
}

/// Asks for all documents of an index, but at most 100.
pub fn all_of(index: IndexName) -> SearchRequest {
    SearchRequest {
        index,
        query: None,
        sort: Sort::Newest,
        from: 0,
        size: 100,
        count_by: Vec::new(),
        count_by_day: false,
        zone: chrono_tz::Tz::UTC,
    }
}

/// The documents of an index that match, at most 100.
pub async fn documents(engine: &Engine, index: IndexName, query: Option<&str>) -> Vec<Value> {
    let request = SearchRequest { query: query.map(str::to_owned), ..all_of(index) };
    let answer = engine.questions.search(&request).await.expect("an answer");
    answer.hits.into_iter().map(|hit| Value::Object(hit.source)).collect()
}
