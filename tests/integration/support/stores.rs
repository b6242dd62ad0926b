//! The adapters of the store port, and the batches tests apply to any of them.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::Connection;
use serde_json::{Value, json};
use sluice::{
    domain::{Catalog, Definition, Event, Json, ManualEvent, SourceRow, Table},
    embedded::EmbeddedDb,
    fault::FaultKind,
    log::{Position, StartAt},
    sink::{Applied, ApplyError, Claim, SinkBatch, SinkEvent, Span},
    store::{
        Begun, Coverage, NewSync, Store, SyncEnd, SyncLease, SyncProgress, SyncState, postgres::PgStore,
        sqlite::SqliteStore,
    },
};
use sqlx::Executor;
use uuid::Uuid;

use super::{folder::TestFolder, postgres::TestDatabase, request, rows::object, table};

pub const LOG: &str = "cluster/eventos";

/// A store of a test's own, on one adapter.
pub trait StoreBench: Sized {
    /// Makes a trigger that refuses a lead of a certain name.
    const REFUSING_TRIGGER: &'static str;
    /// Takes a trigger of a table away.
    fn drop_trigger(table: &str) -> String;

    /// A trigger that keeps rows out of a table without a word: `when` is `INSERT`, `UPDATE` or `DELETE`.
    fn silent_trigger(when: &str, table: &str, condition: &str) -> String;

    /// A store of the built-in tables, which are made.
    async fn new() -> Self {
        let bench = Self::empty().await;
        bench.open().prepare().await.expect("the tables are made");
        bench
    }

    /// A store in which nothing is made yet.
    async fn empty() -> Self;

    /// The store, as another worker has it.
    fn open(&self) -> Arc<dyn Store> {
        self.open_with(Catalog::built_in())
    }

    /// The store, as a worker with these definitions has it.
    fn open_with(&self, catalog: Catalog) -> Arc<dyn Store>;

    /// Runs statements past the store.
    async fn execute(&self, statements: &str);
    /// The first column of a query, which must be text.
    async fn texts(&self, sql: &str) -> Vec<String>;

    async fn number(&self, sql: &str) -> i64 {
        let texts = self.texts(&format!("SELECT CAST(({sql}) AS text)")).await;
        texts[0].parse().unwrap_or_else(|_| panic!("{sql}: {texts:?}"))
    }

    /// Everything a batch may change.
    async fn contents(&self) -> Vec<String> {
        let mut all = Vec::new();
        for sql in [
            "SELECT id || ' ' || evento || ' ' || posicao || ' ' || processado_em FROM eventos_raw ORDER BY id",
            "SELECT id || ' ' || nome || ' ' || versao || ' ' || processado_em FROM leads ORDER BY id",
            "SELECT id || ' ' || versao || ' ' || processado_em FROM chat_sessions ORDER BY id",
            "SELECT janela_inicio || ' ' || evento || ' ' || total || ' ' || soma_valor FROM eventos_agregados
             ORDER BY janela_inicio, evento",
        ] {
            all.extend(self.texts(sql).await);
        }
        all
    }
}

/// The store in a file of a temporary folder.
pub struct Embedded {
    folder: TestFolder,
    db: Arc<EmbeddedDb>,
    /// Only one process writes, so every worker has this one.
    built_in: Arc<SqliteStore>,
}

impl Embedded {
    pub fn raw(&self) -> Connection {
        Connection::open(self.folder.path().join("sluice.db")).expect("the file opens")
    }
}

impl StoreBench for Embedded {
    const REFUSING_TRIGGER: &'static str =
        "CREATE TRIGGER recusa BEFORE INSERT ON leads WHEN new.nome = 'proibida'
        BEGIN SELECT RAISE(ABORT, 'proibida não'); END";

    fn drop_trigger(_table: &str) -> String {
        "DROP TRIGGER recusa".to_owned()
    }

    fn silent_trigger(when: &str, table: &str, condition: &str) -> String {
        format!(
            "CREATE TRIGGER recusa BEFORE {when} ON {table} WHEN {condition} BEGIN SELECT RAISE(IGNORE); END"
        )
    }

    async fn empty() -> Self {
        let folder = TestFolder::new();
        let db = EmbeddedDb::open(folder.path(), "test").expect("an open folder");
        let built_in = Arc::new(SqliteStore::new(db.clone(), Catalog::built_in()));
        Self { folder, db, built_in }
    }

    fn open(&self) -> Arc<dyn Store> {
        self.built_in.clone()
    }

    fn open_with(&self, catalog: Catalog) -> Arc<dyn Store> {
        Arc::new(SqliteStore::new(self.db.clone(), catalog))
    }

    async fn execute(&self, statements: &str) {
        self.raw().execute_batch(statements).expect("the statements run");
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        let connection = self.raw();
        let mut statement = connection.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let rows = statement.query_map([], |row| row.get(0)).expect("the query runs");
        rows.collect::<Result<_, _>>().expect("texts")
    }
}

/// The store in a database of the server that `DATABASE_URL` names.
pub struct Postgres(pub TestDatabase);

impl StoreBench for Postgres {
    const REFUSING_TRIGGER: &'static str = "CREATE FUNCTION recusa() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION '% não', new.nome; END $$;
        CREATE TRIGGER recusa BEFORE INSERT ON leads FOR EACH ROW WHEN (new.nome = 'proibida')
        EXECUTE FUNCTION recusa()";

    fn drop_trigger(table: &str) -> String {
        format!("DROP TRIGGER recusa ON {table}")
    }

    fn silent_trigger(when: &str, table: &str, condition: &str) -> String {
        format!(
            "CREATE FUNCTION cala() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
             CREATE TRIGGER recusa BEFORE {when} ON {table} FOR EACH ROW WHEN ({condition})
             EXECUTE FUNCTION cala()"
        )
    }

    async fn empty() -> Self {
        Self(TestDatabase::create().await)
    }

    fn open_with(&self, catalog: Catalog) -> Arc<dyn Store> {
        Arc::new(PgStore::connect(&self.0.settings(), catalog).expect("a store"))
    }

    async fn execute(&self, statements: &str) {
        self.0.execute(statements).await;
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        use sqlx::Row as _;
        let rows = self.0.connection().await.fetch_all(sql).await;
        rows.unwrap_or_else(|error| panic!("{sql}: {error}")).iter().map(|row| row.get(0)).collect()
    }
}

/// A catalog of these definitions alone.
pub fn catalog(definitions: &[&str]) -> Catalog {
    let parse = |toml: &&str| Definition::parse(toml).unwrap_or_else(|error| panic!("{toml}: {error}"));
    Catalog::of(definitions.iter().map(parse).collect(), chrono_tz::UTC)
}

/// Partition 0, claimed.
pub async fn claimed(store: &dyn Store) -> Claim {
    store.claim(LOG, &[0]).await.expect("a claim")[0]
}

/// Applies events of partition 0 after all that came before.
pub async fn apply(store: &dyn Store, events: Vec<Event>) -> Applied {
    apply_of(Catalog::built_in(), store, events).await
}

/// As [`apply`], of these tables.
pub async fn apply_of(catalog: Catalog, store: &dyn Store, events: Vec<Event>) -> Applied {
    store.apply(LOG, &batch_of(catalog, claimed(store).await, events)).await.expect("applied")
}

pub fn instant(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

/// The whole of a lead, at a version that is `minutes` old or young.
pub fn lead(id: u128, minutes: i64, nome: &str) -> Event {
    lead_with(id, minutes, json!({"nome": nome}))
}

/// The whole of a lead with some columns of the test's own.
pub fn lead_with(id: u128, minutes: i64, more: Value) -> Event {
    let updated_at = instant("2026-05-01T12:00:00Z") + TimeDelta::minutes(minutes);
    let mut row = object(json!({
        "id": Uuid::from_u128(id), "nome": "Ana", "email": "ana@exemplo.com.br", "telefone": "+55 11 90000-0000",
        "nome_empresa": "Padaria São João", "nome_projeto": "Alto da Serra",
        "localizacao": {"cidade": "São Paulo", "uf": "SP"}, "interesse": ["apartamento", "a \"b\", {c}\\"],
        "score_qualificacao": 85, "status_lead": "qualificado", "origem": "google", "utm_source": "s",
        "utm_medium": "m", "utm_campaign": "c", "created_at": "2026-04-01T12:00:00Z",
        "updated_at": updated_at, "last_interaction_at": null, "corretor": "Bia",
    }));
    row.extend(object(more));
    from_row(table("leads"), &Json::from(&row), updated_at.timestamp_micros())
}

pub fn session(id: u128) -> Event {
    session_with(id, json!({}))
}

pub fn session_with(id: u128, more: Value) -> Event {
    let mut row = object(json!({
        "id": Uuid::from_u128(id), "lead_id": "l1", "user_agent": "Mozilla", "ip_address": null, "total_messages": 7,
        "duration_seconds": 120, "pages_visited": ["/", "/planta"], "perguntas_feitas": [],
        "intencao_detectada": "compra", "nivel_interesse": "alto", "started_at": "2026-05-01T12:00:00Z",
        "ended_at": null, "is_active": true,
    }));
    row.extend(object(more));
    from_row(table("chat_sessions"), &Json::from(&row), 1)
}

pub fn manual(evento: &str, metadata: Value) -> Event {
    let event = ManualEvent {
        id: None,
        usuario: "teste".to_owned(),
        evento: evento.to_owned(),
        valor: 1.0,
        metadata: Json::from(&metadata),
    };
    Event::manual(event, instant("2026-05-01T12:00:00Z"))
}

/// A row's event, at this version.
pub fn from_row(table: Table, row: &Json, versao: i64) -> Event {
    let row = SourceRow::read(table, row.clone()).expect("a row");
    row.event(instant("2026-05-01T13:00:00Z"), versao).0
}

/// JSON as it was written.
pub fn verbatim(text: impl Into<String>) -> Json {
    Json::try_from(Bytes::from(text.into())).expect("JSON")
}

/// A batch of partition 0 that follows the claim's start.
pub fn batch(claim: Claim, events: Vec<Event>) -> SinkBatch {
    batch_of(Catalog::built_in(), claim, events)
}

/// As [`batch`], of these tables.
pub fn batch_of(catalog: Catalog, claim: Claim, events: Vec<Event>) -> SinkBatch {
    let first = match claim.start {
        StartAt::Offset(offset) => offset,
        StartAt::Beginning | StartAt::Committed | StartAt::NotBeyond(_) => 0,
    };
    placed(catalog, claim, first, events)
}

pub fn batch_at(claim: Claim, first: i64, events: Vec<Event>) -> SinkBatch {
    placed(Catalog::built_in(), claim, first, events)
}

fn placed(catalog: Catalog, claim: Claim, first: i64, events: Vec<Event>) -> SinkBatch {
    let place = |(offset, event): (i64, Event)| SinkEvent {
        position: Position { partition: claim.partition, offset },
        table: event.table(catalog).expect("a table of the catalog"),
        raw: event.encode(),
        event,
    };
    let events: Vec<SinkEvent> = (first..).zip(events).map(place).collect();
    let next = first + i64::try_from(events.len()).expect("a small batch");
    SinkBatch { events, spans: vec![Span { partition: claim.partition, epoch: claim.epoch, first, next }] }
}

/// The batch without the events at these offsets.
pub fn without(batch: &SinkBatch, offsets: &[i64]) -> SinkBatch {
    let mut rest = batch.clone();
    rest.events.retain(|event| !offsets.contains(&event.position.offset));
    rest
}

pub fn rejected_offsets(outcome: Result<Applied, ApplyError>) -> Vec<i64> {
    match outcome {
        Err(ApplyError::Rejected(rejections)) => rejections.iter().map(|r| r.position.offset).collect(),
        other => panic!("expected rejections, got {other:?}"),
    }
}

pub fn kind(outcome: Result<Applied, ApplyError>) -> FaultKind {
    match outcome {
        Err(ApplyError::Fault(fault)) => fault.kind,
        other => panic!("expected a fault, got {other:?}"),
    }
}

pub fn new_sync(table: Table) -> NewSync {
    NewSync { id: Uuid::now_v7(), request: request(table), log: LOG.to_owned(), owner: "host/1".to_owned() }
}

pub async fn begun(store: &dyn Store, table: Table) -> (Uuid, Box<dyn SyncLease>, Option<Coverage>) {
    let new = new_sync(table);
    let id = new.id;
    match store.begin_sync(new).await.expect("the store answers") {
        Begun::Started { lease, coverage } => (id, lease, coverage),
        Begun::Busy(record) => panic!("busy: {record:?}"),
    }
}

pub fn ended(state: SyncState) -> SyncEnd {
    SyncEnd { state, progress: SyncProgress::default(), error: None, coverage: None }
}

pub async fn state(store: &dyn Store, id: Uuid) -> SyncState {
    store.sync(id).await.expect("the store answers").expect("the sync is known").state
}
