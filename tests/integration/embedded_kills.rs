//! The embedded server, killed again and again amid its work.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};
use sluice::{
    domain::Catalog,
    index::{Index, IndexName, SearchRequest, Sort, tantivy::TantivyIndex},
    source::sample::{SampleServer, keys},
};

use crate::support::{
    cli::{run, sluice},
    folder::TestFolder,
    http::HttpServer,
    rows::{lead, object},
    table,
};

const LEADS: u128 = 150;

/// How often it is killed; more by `SLUICE_TEST_KILLS`.
fn kills() -> u32 {
    std::env::var("SLUICE_TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(12)
}

/// Every document of an index, by its id, and how often that id stands there.
async fn documents(index: &TantivyIndex, name: IndexName) -> BTreeMap<String, Vec<i64>> {
    let mut found: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut from = 0;
    loop {
        let request = SearchRequest {
            index: name,
            query: None,
            sort: Sort::Oldest,
            from,
            size: 500,
            count_by: Vec::new(),
            count_by_day: false,
            zone: chrono_tz::Tz::UTC,
        };
        let answer = index.search(&request).await.expect("an answer");
        for hit in &answer.hits {
            found
                .entry(hit.id.clone())
                .or_default()
                .push(hit.source.get("versao").and_then(Value::as_i64).unwrap_or_default());
        }
        if answer.hits.len() < 500 {
            return found;
        }
        from += 500;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_server_killed_amid_its_work_holds_every_lead_once_in_its_newest_version() {
    let folder = TestFolder::new();
    let source = SampleServer::start(0).await.expect("a free port");
    let command = |arguments: &[&str]| {
        let mut command = sluice(folder.path(), arguments);
        command.env("SUPABASE_URL", source.url()).env("SUPABASE_KEY", keys::SECRET);
        command.env("SLUICE_BATCH_RECORDS", "20").env("SLUICE_LOG", "warn,sluice=info");
        command
    };
    for kill in 0..kills() {
        let changed = (1..=LEADS).map(|n| {
            let mut row = lead(n, 0);
            row.insert("nome".to_owned(), json!(format!("Ana {kill}/{n}")));
            row
        });
        source.upsert(table("leads"), changed.collect());
        let mut server = HttpServer::of(command(&["serve", "--http", "127.0.0.1:0"])).await;
        let session = server.connect(None).await;
        let call = |tool: &'static str, arguments: Value| {
            let request = CallToolRequestParams::new(tool).with_arguments(object(arguments));
            session.call_tool(request)
        };
        let working = async {
            loop {
                let sync = call("sync_leads_from_supabase", json!({"hours_ago": 24}));
                let inject = call("inject_event", json!({"evento": "teste", "usuario": "ana", "valor": 1}));
                let _ = tokio::join!(sync, inject);
            }
        };
        // At another moment each time, in a way that can be repeated.
        let moment = Duration::from_millis(60 + u64::from(kill * 97 % 700));
        assert!(tokio::time::timeout(moment, working).await.is_err());
        // SIGKILL: nothing is finished.
        server.process.kill().await.expect("killed");
    }
    let mut last = command(&["sync", "leads", "--wait"]);
    last.stdout(Stdio::piped());
    let outcome = run(last).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");

    let database = folder.path().join("data/sluice.db");
    let store = rusqlite::Connection::open(database).expect("the store");
    let stored: BTreeMap<String, Vec<i64>> = store
        .prepare("SELECT id, versao FROM leads")
        .expect("a statement")
        .query_map([], |row| Ok((row.get::<_, String>(0)?, vec![row.get(1)?])))
        .expect("rows")
        .collect::<Result<_, _>>()
        .expect("rows");
    let index = TantivyIndex::new(folder.path().join("data/index"), Catalog::built_in());
    assert_eq!(documents(&index, IndexName::Entities(table("leads"))).await, stored);
    assert_eq!(stored.len(), usize::try_from(LEADS).expect("a number"));
    let events: i64 =
        store.query_row("SELECT count(*) FROM eventos_raw", [], |row| row.get(0)).expect("a count");
    let rollup: i64 =
        store.query_row("SELECT sum(total) FROM eventos_agregados", [], |row| row.get(0)).expect("a sum");
    let indexed = documents(&index, IndexName::Eventos).await;
    assert!(indexed.values().all(|documents| documents.len() == 1), "each event once");
    assert_eq!((events, i64::try_from(indexed.len()).expect("a number")), (rollup, events));
    let mut records = store
        .prepare("SELECT count(*) - count(DISTINCT json_extract(CAST(value AS text), '$.id')) FROM log_records WHERE topic = 0")
        .expect("a statement");
    let doubled: i64 = records.query_row([], |row| row.get(0)).expect("a count");
    assert_eq!(doubled, 0, "each event once in the log as well");
}
