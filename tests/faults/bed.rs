//! A pipeline to break: the same on the real parts and on the embedded ones, with a look at everything it holds.

use std::{
    collections::BTreeMap,
    process::Stdio,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sluice::{
    domain::{Catalog, Event},
    engine::{Engine, LetterFilter, LetterState, SyncPhase},
    index::{Hit, Index as _, IndexName, SearchRequest, Sort, tantivy::TantivyIndex},
    log::{Extent, Topic},
    parts::{Parts, engine_settings},
    source::{sample::SampleServer, supabase::SupabaseSource},
};
use tokio::process::{Child, Command};

use crate::{
    check::{Entity, Findings, Key, Seen, Truth, Window, judge},
    dice::Dice,
    support::{
        Pipeline, connect,
        place::{Embedded, Place, Real},
        rows::{lead, session},
        service, table,
    },
};

/// Longest wait for anything that must come: reached only when something is broken.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// The tables that are watched, and the column that tells a row's contents apart.
const TABLES: [(&str, &str); 2] = [("leads", "nome"), ("chat_sessions", "total_messages")];

/// Records read from the topic at a time.
const CHUNK: i64 = 20_000;

pub trait Bed: Place {
    /// What the store is called.
    const STORE: &'static str;
    const DROP_TRIGGER: &'static str;
    /// How a command is told to drain as well, where nothing else does.
    const DRAINING: &'static [&'static str];

    /// A worker beside what is injected, where the parts are not one process's alone.
    fn helper(&self) -> Option<Child>;

    /// Looks into the two sinks, past every adapter where one can.
    async fn look_into_sinks(&self, log: &str, seen: &mut Seen);

    /// Brings in all that the source has, and waits until there is nothing left to apply.
    async fn settle(&self) -> Vec<String>;
}

/// An engine of this process, which drains nothing, and its parts.
fn inspector<B: Bed>(bed: &B) -> (Engine, Parts) {
    let settings = bed.settings();
    let parts = Parts::open(&settings).expect("the parts open");
    let supabase = settings.supabase.as_ref().expect("Supabase is named");
    let source = SupabaseSource::new(supabase, settings.catalog).expect("a source");
    let engine = Engine::new(
        settings.catalog,
        std::sync::Arc::new(source),
        parts.log.clone(),
        parts.store.clone(),
        parts.index.clone(),
        engine_settings(&settings),
    );
    (engine, parts)
}

/// Everything that the sinks, the log and the engine hold.
pub async fn look<B: Bed>(bed: &B) -> Seen {
    let mut seen = Seen::default();
    let (engine, parts) = inspector(bed);
    let log = parts.log.identity().await.expect("the log's identity").to_string();
    for extent in parts.log.extents().await.expect("the log's extents") {
        let mut low = extent.low;
        while low < extent.high {
            let high = extent.high.min(low + CHUNK);
            let range = Extent { partition: extent.partition, low, high };
            let records = parts.log.records(Topic::Events, &[range]).await.expect("records");
            for event in records.iter().filter_map(|record| Event::decode(record.value.as_ref()).ok()) {
                let one = seen.log.entry(event.id.to_string()).or_insert((0, event.entidade.id));
                one.0 += 1;
            }
            low = high;
        }
    }
    let filter = LetterFilter { sink: None, state: Some(LetterState::Open) };
    let page = engine.letters.page(&filter, None, 1_000).await.expect("dead letters");
    for letter in page.letters {
        let key = letter.record.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned());
        let name = match letter.header("sink") {
            Some(sink) => format!("{sink} {}", key.unwrap_or_default()),
            None => format!("row {}", letter.header("table").unwrap_or_default()),
        };
        seen.letters.insert(letter.header("dead_letter_id").unwrap_or_default(), name);
    }
    for sync in engine.syncs.recent(20).await.expect("the syncs") {
        if matches!(sync.state, SyncPhase::Running | SyncPhase::Draining) {
            seen.open.push(format!("a sync of {} is {:?}", sync.table, sync.state));
        }
    }
    for index in engine.rebuilds.under_way().await.expect("the rebuilds") {
        seen.open.push(format!("{index} is being rebuilt"));
    }
    for lag in engine.drains.lag().await.expect("the lag") {
        let sink = if lag.sink == parts.store.name() { "the store" } else { "the index" };
        seen.lag.insert(sink, lag.total);
    }
    bed.look_into_sinks(&log, &mut seen).await;
    engine.shut_down().await;
    seen
}

/// A bed with small batches and pages, so that there is much to be killed between.
pub async fn small_batches<B: Bed>() -> B {
    let mut bed = B::new().await;
    bed.set("SLUICE_BATCH_RECORDS", "10");
    bed.set("SLUICE_TOOLS", "all");
    bed.set("SUPABASE_PAGE_SIZE", "20");
    bed
}

/// What the source has.
pub fn truth(source: &SampleServer) -> Truth {
    let mut truth = Truth::default();
    for (name, column) in TABLES {
        for row in source.rows(table(name)) {
            let Some(key) = row["id"].as_str() else { continue };
            truth.rows.insert((name, key.to_owned()), mark(row.get(column)));
        }
    }
    truth
}

fn mark(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// Lets everything come to rest and compares it with the source.
pub async fn checked<B: Bed>(bed: &B) -> Findings {
    checked_with(bed, |_| {}).await
}

/// As [`checked`], of a truth that is more than the source's rows.
pub async fn checked_with<B: Bed>(bed: &B, more: impl Fn(&mut Truth)) -> Findings {
    let troubles = bed.settle().await;
    let mut truth = truth(bed.source());
    more(&mut truth);
    let mut found = judge(&truth, &look(bed).await);
    found.other.extend(troubles);
    found
}

/// As [`checked_with`], where something heals by itself and nobody can tell when it has.
pub async fn checked_in_time<B: Bed>(bed: &B, more: impl Fn(&mut Truth)) -> Findings {
    let mut found = Findings::default();
    comes(PATIENCE, async || {
        found = checked_with(bed, &more).await;
        found.are_none()
    })
    .await;
    found
}

/// Changes and adds leads, and some sessions, so that whatever runs has something to do.
pub fn change<B: Bed>(bed: &B, dice: &mut Dice, round: u32, count: u32) {
    let known = 150 + u64::from(round) * 10;
    let changed = (0..count).map(|_| {
        let n = u128::from(dice.below(known) + 1);
        let mut row = lead(n, 0);
        row.insert("nome".to_owned(), json!(format!("Ana {n} na rodada {round}")));
        row
    });
    bed.source().upsert(table("leads"), changed.collect());
    let sessions = (0..count / 8).map(|_| session(u128::from(dice.below(40) + 1), 5, round * 8 + 3));
    bed.source().upsert(table("chat_sessions"), sessions.collect());
}

/// A process whose words nobody wants.
pub fn quietly(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the program starts")
}

/// Runs a command to its end; what went wrong, if anything did.
pub async fn run_to_end(mut command: Command, what: &str) -> Option<String> {
    command.stdin(Stdio::null());
    let Ok(output) = tokio::time::timeout(PATIENCE, command.output()).await else {
        return Some(format!("{what} did not end within {} s", PATIENCE.as_secs()));
    };
    let output = output.expect("the program runs");
    let (said, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = log.lines().collect();
    let said = format!("{said}{}", lines[lines.len().saturating_sub(6)..].join("\n"));
    (!output.status.success()).then(|| format!("{what} ended with {:?}: {}", output.status, said.trim()))
}

/// Sends a signal.
pub fn signal(process: &Child, signal: rustix::process::Signal) {
    let Some(id) = process.id().and_then(|id| i32::try_from(id).ok()) else { return };
    let id = rustix::process::Pid::from_raw(id).expect("a process id");
    // One that has ended meanwhile can't be reached, and needs not be.
    rustix::process::kill_process(id, signal).ok();
}

/// Has a helper leave, so that nobody waits for its session to run out.
pub async fn dismiss(helper: Option<Child>) {
    if let Some(mut helper) = helper {
        signal(&helper, rustix::process::Signal::TERM);
        helper.wait().await.expect("an end");
    }
}

/// SIGKILL, and waits until nothing of the process is left.
pub async fn kill(process: &mut Child) {
    process.kill().await.expect("killed");
}

/// Waits for something; whether it came.
pub async fn comes(within: Duration, mut holds: impl AsyncFnMut() -> bool) -> bool {
    let until = Instant::now() + within;
    while !holds().await {
        if Instant::now() > until {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    true
}

/// Syncs both tables in processes of their own.
async fn sync_both<B: Bed>(bed: &B, more: &[&str]) -> Vec<String> {
    let mut troubles = Vec::new();
    for name in ["leads", "chat-sessions"] {
        let arguments = [&["sync", name], more].concat();
        let began = Instant::now();
        // The server sees after a moment only that the session of a sync that was killed is gone.
        loop {
            let trouble = run_to_end(bed.command(&arguments), &arguments.join(" ")).await;
            match trouble {
                Some(text) if text.contains("runs already") && began.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                // Which rows those are is judged by [`judge`], letter by letter.
                Some(text) if text.contains(": done.") && text.contains("are parked as dead letters") => {
                    break;
                }
                trouble => break troubles.extend(trouble),
            }
        }
    }
    troubles
}

/// Waits until nothing is left to apply; what is wrong if that does not come.
pub async fn applied<B: Bed>(bed: &B) -> Option<String> {
    let (engine, _) = inspector(bed);
    let comes = comes(PATIENCE, async || {
        let lag = engine.drains.lag().await;
        lag.is_ok_and(|lag| lag.iter().all(|lag| lag.total == 0))
    });
    let came = comes.await;
    engine.shut_down().await;
    (!came).then(|| format!("not applied within {} s", PATIENCE.as_secs()))
}

impl Bed for Real {
    const STORE: &'static str = "postgres";
    const DROP_TRIGGER: &'static str = "DROP FUNCTION recusa() CASCADE";
    const DRAINING: &'static [&'static str] = &[];

    fn helper(&self) -> Option<Child> {
        Some(quietly(self.command(&["worker"])))
    }

    /// Something else must drain meanwhile.
    async fn settle(&self) -> Vec<String> {
        let mut troubles = sync_both(self, &[]).await;
        troubles.extend(applied(self).await);
        troubles
    }

    async fn look_into_sinks(&self, log: &str, seen: &mut Seen) {
        look_into_postgres(&self.0, log, seen).await;
        for (name, column) in TABLES {
            for hit in documents_of(&self.0, name, &["versao", column]).await {
                let entity = Entity {
                    versao: hit["_source"]["versao"].as_i64().unwrap_or_default(),
                    mark: mark(hit["_source"].get(column)),
                };
                let key = hit["_id"].as_str().expect("an id").to_owned();
                seen.index.entry((name, key)).or_default().push(entity);
            }
        }
        for hit in documents_of(&self.0, "eventos", &[]).await {
            *seen.indexed.entry(hit["_id"].as_str().expect("an id").to_owned()).or_default() += 1;
        }
    }
}

async fn look_into_postgres(pipeline: &Pipeline, log: &str, seen: &mut Seen) {
    let mut store = connect(&pipeline.variables["DATABASE_URL"]).await;
    for (name, column) in TABLES {
        let sql = format!("SELECT id::text, versao, coalesce({column}::text, '') FROM {name}");
        let rows: Vec<(String, i64, String)> =
            sqlx::query_as(&sql).fetch_all(&mut store).await.expect("rows");
        for (key, versao, mark) in rows {
            seen.store.entry((name, key)).or_default().push(Entity { versao, mark });
        }
        let sql =
            "SELECT entity, versao FROM sluice_appended WHERE NOT removed AND log = $1 AND table_name = $2";
        let rows = sqlx::query_as(sql).bind(log).bind(name).fetch_all(&mut store).await.expect("rows");
        seen.appended.extend(rows.into_iter().map(|(key, versao): (String, i64)| ((name, key), versao)));
    }
    let sql = r#"SELECT id::text, categoria, evento, valor, extract(epoch FROM "timestamp")::double precision FROM eventos_raw"#;
    let rows: Vec<(String, String, String, f64, f64)> =
        sqlx::query_as(sql).fetch_all(&mut store).await.expect("rows");
    for (id, categoria, evento, valor, seconds) in rows {
        *seen.raw.entry(id).or_default() += 1;
        #[allow(clippy::cast_possible_truncation, reason = "an instant's whole seconds")]
        count(seen, seconds.floor() as i64, categoria, evento, valor);
    }
    let sql = "SELECT extract(epoch FROM janela_inicio)::bigint, categoria, evento, total, soma_valor FROM eventos_agregados";
    let rows: Vec<(i64, String, String, i64, f64)> =
        sqlx::query_as(sql).fetch_all(&mut store).await.expect("rows");
    seen.rollup.extend(
        rows.into_iter().map(|(at, categoria, evento, total, sum)| ((at, categoria, evento), (total, sum))),
    );
}

fn count(seen: &mut Seen, seconds: i64, categoria: String, evento: String, valor: f64) {
    let window: Window = (seconds - seconds.rem_euclid(300), categoria, evento);
    let (total, sum) = seen.recount.entry(window).or_default();
    *total += 1;
    *sum += valor;
}

/// Every document of an index, as the server itself shows them.
pub async fn documents_of(pipeline: &Pipeline, index: &str, columns: &[&str]) -> Vec<Value> {
    let (http, base) = (reqwest::Client::new(), service("ELASTICSEARCH_URL"));
    let alias = format!("{}{index}", pipeline.variables["ELASTICSEARCH_INDEX_PREFIX"]);
    let ask = async |path: &str, body: Value| -> Value {
        let asked = http.post(format!("{base}/{path}")).json(&body).send().await.expect("an answer");
        asked.json().await.expect("JSON")
    };
    ask(&format!("{alias}/_refresh"), json!({})).await;
    let first = json!({"size": 5_000, "sort": ["_doc"], "_source": columns, "seq_no_primary_term": true});
    let mut page = ask(&format!("{alias}/_search?scroll=1m"), first).await;
    let mut all = Vec::new();
    loop {
        let hits = page["hits"]["hits"].as_array().unwrap_or_else(|| panic!("no hits: {page}"));
        if hits.is_empty() {
            return all;
        }
        all.extend(hits.iter().cloned());
        page = ask("_search/scroll", json!({"scroll": "1m", "scroll_id": page["_scroll_id"]})).await;
    }
}

impl Bed for Embedded {
    const STORE: &'static str = "sqlite";
    const DROP_TRIGGER: &'static str = "DROP TRIGGER recusa";
    const DRAINING: &'static [&'static str] = &["--wait"];

    fn helper(&self) -> Option<Child> {
        None
    }

    async fn settle(&self) -> Vec<String> {
        sync_both(self, &["--wait"]).await
    }

    async fn look_into_sinks(&self, log: &str, seen: &mut Seen) {
        let folder = self.settings().data_dir;
        look_into_sqlite(&folder.join("sluice.db"), log, seen);
        let index = TantivyIndex::new(folder.join("index"), Catalog::built_in());
        for (name, column) in TABLES {
            for hit in documents(&index, IndexName::Entities(table(name))).await {
                let entity = Entity {
                    versao: hit.source.get("versao").and_then(Value::as_i64).unwrap_or_default(),
                    mark: mark(hit.source.get(column)),
                };
                seen.index.entry((name, hit.id)).or_default().push(entity);
            }
        }
        for hit in documents(&index, IndexName::Eventos).await {
            *seen.indexed.entry(hit.id).or_default() += 1;
        }
    }
}

fn look_into_sqlite(path: &std::path::Path, log: &str, seen: &mut Seen) {
    let store = rusqlite::Connection::open(path).expect("the store");
    let all = |sql: &str| -> Vec<Vec<rusqlite::types::Value>> {
        let mut statement = store.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| (0..columns).map(|n| row.get(n)).collect()).expect("rows");
        rows.collect::<Result<_, _>>().expect("rows")
    };
    let text = |value: &rusqlite::types::Value| match value {
        rusqlite::types::Value::Text(text) => text.clone(),
        rusqlite::types::Value::Integer(number) => number.to_string(),
        rusqlite::types::Value::Null => String::new(),
        other => panic!("no text: {other:?}"),
    };
    let integer = |value: &rusqlite::types::Value| match value {
        rusqlite::types::Value::Integer(number) => *number,
        other => panic!("no integer: {other:?}"),
    };
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    let number = |value: &rusqlite::types::Value| match value {
        rusqlite::types::Value::Integer(number) => *number as f64,
        rusqlite::types::Value::Real(number) => *number,
        other => panic!("no number: {other:?}"),
    };
    let seconds = |value: &rusqlite::types::Value| {
        let text = text(value);
        text.parse::<DateTime<Utc>>().unwrap_or_else(|error| panic!("{text}: {error}")).timestamp()
    };
    for (name, column) in TABLES {
        for row in all(&format!("SELECT id, versao, {column} FROM {name}")) {
            let entity = Entity { versao: integer(&row[1]), mark: text(&row[2]) };
            seen.store.entry((name, text(&row[0]))).or_default().push(entity);
        }
        let sql = format!(
            "SELECT entity, versao FROM sluice_appended WHERE NOT removed AND log = '{log}' AND table_name = '{name}'"
        );
        let rows: BTreeMap<Key, i64> =
            all(&sql).iter().map(|row| ((name, text(&row[0])), integer(&row[1]))).collect();
        seen.appended.extend(rows);
    }
    for row in all(r#"SELECT id, categoria, evento, valor, "timestamp" FROM eventos_raw"#) {
        *seen.raw.entry(text(&row[0])).or_default() += 1;
        count(seen, seconds(&row[4]), text(&row[1]), text(&row[2]), number(&row[3]));
    }
    for row in all("SELECT janela_inicio, categoria, evento, total, soma_valor FROM eventos_agregados") {
        let window = (seconds(&row[0]), text(&row[1]), text(&row[2]));
        seen.rollup.insert(window, (integer(&row[3]), number(&row[4])));
    }
}

/// Every document of an index of ours: by halves of time where there are more than can be paged through.
async fn documents(index: &TantivyIndex, name: IndexName) -> Vec<Hit> {
    let search = async |query: Option<String>, from: usize| {
        let request = SearchRequest {
            index: name,
            query,
            sort: Sort::Oldest,
            from: u32::try_from(from).expect("few documents"),
            size: 500,
            count_by: Vec::new(),
            count_by_day: false,
            zone: chrono_tz::Tz::UTC,
        };
        index.search(&request).await.expect("an answer")
    };
    let now = Utc::now();
    let mut spans = vec![(now - TimeDelta::days(1), now + TimeDelta::days(1))];
    let mut all = Vec::new();
    while let Some((from, to)) = spans.pop() {
        let query = format!("processado_em:[\"{}\" TO \"{}\"}}", from.to_rfc3339(), to.to_rfc3339());
        let mut answer = search(Some(query.clone()), 0).await;
        if answer.total > 10_000 {
            let middle = from + (to - from) / 2;
            spans.extend([(middle, to), (from, middle)]);
            continue;
        }
        let mut seen = 0;
        while !answer.hits.is_empty() {
            seen += answer.hits.len();
            all.extend(answer.hits);
            answer = search(Some(query.clone()), seen).await;
        }
    }
    assert_eq!(all.len() as u64, search(None, 0).await.total, "no document is left out or told twice");
    all
}
