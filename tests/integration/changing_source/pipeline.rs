//! The embedded parts on a sample server, driven step by step beside the model.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use serde_json::Value;
use sluice::{
    config::Settings,
    engine::{Engine, SyncPhase, SyncStatus},
    index::IndexName,
    parts,
    source::sample::{Fault, SampleServer, SeenRequest, keys},
    store::{Reconciliation, SyncRequest},
};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::{
    model::{Asked, Ended, Model},
    steps::{Case, End, Paused, Run, Step},
};
use crate::support::{
    Deaf,
    folder::TestFolder,
    place::{all_of, documents, rows},
    request, table,
};

/// Longest wait for anything; reached only when something is broken.
const PATIENCE: Duration = Duration::from_mins(1);

fn leads() -> IndexName {
    IndexName::Entities(table("leads"))
}

/// What is the case while a sync runs; the server's answers wait for it.
struct Beside {
    model: Model,
    run: Option<Run>,
    requests: u8,
    has_begun: bool,
    /// Hears that the request has come at which the run is to end.
    due: Sender<()>,
}

pub struct Pipeline {
    source: Arc<SampleServer>,
    beside: Arc<Mutex<Beside>>,
    due: Receiver<()>,
    variables: BTreeMap<String, String>,
    running: Option<Running>,
    paused: Vec<&'static str>,
    /// A process was killed: what it was about to remember may be done twice.
    was_killed: bool,
    folder: TestFolder,
    /// Serves the source.
    _runtime: Runtime,
}

/// An engine, in a runtime that can be cut off as a process can be killed.
struct Running {
    runtime: Runtime,
    engine: Arc<Engine>,
}

impl Running {
    fn start(variables: &BTreeMap<String, String>) -> Self {
        let runtime = runtime();
        let settings = Settings::load(variables.clone()).expect("valid settings");
        let engine = runtime.block_on(async {
            let engine = parts::engine(&settings).await.expect("an engine");
            engine.start_drains().await;
            engine
        });
        Self { runtime, engine }
    }

    fn stop(self) {
        self.runtime.block_on(self.engine.shut_down());
        self.cut();
    }

    /// Ends everything where it awaits something.
    fn cut(self) {
        drop(self.engine);
        self.runtime.shutdown_timeout(PATIENCE);
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

impl Beside {
    fn asked(&mut self, source: &SampleServer, request: &SeenRequest) {
        let Some(run) = self.run.take() else { return };
        let at = self.requests;
        self.requests = self.requests.saturating_add(1);
        let mut changed = false;
        for (_, change) in run.during.iter().filter(|(when, _)| *when == at) {
            self.model.apply(change);
            changed = true;
        }
        if changed {
            show(&self.model, source);
        }
        let is_page = request.query.iter().any(|(name, _)| name == "order");
        if is_page && !std::mem::replace(&mut self.has_begun, true) {
            self.model.begin_reading();
        }
        match run.end {
            End::Fault { at: when, kind } if when == at => source.script([kind.fault()]),
            End::Cancel { at: when } if when == at => {
                source.script([Fault::Hang]);
                self.due.send(()).ok();
            }
            End::Kill { at: when, .. } if when == at => {
                self.due.send(()).ok();
            }
            _ => {}
        }
        self.run = Some(run);
    }
}

fn show(model: &Model, source: &SampleServer) {
    source.set_clock(model.ahead);
    source.set_max_rows(Some(model.cap.into()));
    source.set_rows(table("leads"), model.rows());
}

impl Pipeline {
    pub fn new(case: &Case) -> Self {
        let serving = runtime();
        let source = Arc::new(serving.block_on(SampleServer::start(0)).expect("a free port"));
        let (sender, due) = channel();
        let (overlap, ahead) =
            (TimeDelta::minutes(case.overlap_minutes.into()), TimeDelta::seconds(case.ahead.into()));
        let model = Model::new(overlap, ahead, case.cap, case.page_size);
        show(&model, &source);
        let beside = Beside { model, run: None, requests: 0, has_begun: false, due: sender };
        let beside = Arc::new(Mutex::new(beside));
        let (weak, hooked) = (Arc::downgrade(&source), beside.clone());
        source.before_each_answer(move |request| {
            if let Some(source) = weak.upgrade() {
                lock(&hooked).asked(&source, request);
            }
        });
        let folder = TestFolder::new();
        let variables = [
            ("SUPABASE_URL", source.url()),
            ("SUPABASE_KEY", keys::SECRET.to_owned()),
            ("SUPABASE_RETRY_SECONDS", "5".to_owned()),
            ("SUPABASE_PAGE_SIZE", case.page_size.to_string()),
            ("SLUICE_OVERLAP_MINUTES", case.overlap_minutes.to_string()),
            ("SLUICE_DATA_DIR", folder.path().display().to_string()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).into();
        let running = Some(Running::start(&variables));
        Self {
            source,
            beside,
            due,
            variables,
            running,
            paused: Vec::new(),
            was_killed: false,
            folder,
            _runtime: serving,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Beside> {
        lock(&self.beside)
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("an engine runs")
    }

    /// Lets one thing happen, and looks at all that is promised afterwards.
    pub fn take(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Source(change) => {
                let mut beside = self.lock();
                beside.model.apply(change);
                show(&beside.model, &self.source);
                Ok(())
            }
            Step::Sync { hours, resume, limit, run } => {
                let asked = Asked { hours: (*hours).into(), resume: *resume };
                self.sync(asked, *limit, run)?;
                self.look()
            }
            Step::Reconcile(run) => {
                self.resume();
                self.reconcile(run)?;
                self.look()
            }
            Step::Restart => {
                self.running.take().expect("an engine runs").stop();
                self.running = Some(Running::start(&self.variables));
                self.look()
            }
            Step::Pause(sink) => {
                let name = match sink {
                    Paused::Store => "sqlite",
                    Paused::Index => "tantivy",
                };
                let Running { runtime, engine } = self.running();
                runtime.block_on(engine.drains.pause(name, "a test")).expect("paused");
                if !self.paused.contains(&name) {
                    self.paused.push(name);
                }
                Ok(())
            }
            Step::Resume => {
                self.resume();
                self.look()
            }
        }
    }

    /// Whatever came before, a reconciliation mends it.
    pub fn settle(&mut self) -> Result<(), String> {
        self.resume();
        self.look()?;
        let run = Run { during: Vec::new(), end: End::Whole };
        for _ in 0..2 {
            // The first may go on with a reading that was left off.
            self.reconcile(&run)?;
            self.look()?;
        }
        let shown = self.lock().model.rows();
        let keyed = shown.iter().filter(|row| !row["id"].is_null()).count();
        let (held, parked, keyless, promised) = {
            let held = self.held()?;
            let Beside { model, .. } = &*self.lock();
            (held.len(), model.parked, model.keyless(), model.shown(model.keyless()))
        };
        if held != keyed || parked < promised {
            return Err(format!(
                "{held} entities and {parked} letters of {keyed} rows and {keyless} without a key"
            ));
        }
        self.running.take().expect("an engine runs").stop();
        Ok(())
    }

    fn resume(&mut self) {
        for name in std::mem::take(&mut self.paused) {
            let Running { runtime, engine } = self.running();
            runtime.block_on(engine.drains.resume(name)).expect("resumed");
        }
    }

    /// Starts something and follows it to its end.
    fn follow(&mut self, request: SyncRequest, run: &Run) -> Result<Option<SyncStatus>, String> {
        {
            let mut beside = self.lock();
            (beside.requests, beside.has_begun) = (0, false);
            beside.run = Some(run.clone());
        }
        while self.due.try_recv().is_ok() {}
        let Running { runtime, engine } = self.running();
        let id = runtime.block_on(engine.syncs.start(request)).map_err(|error| error.to_string())?;
        let ended = |status: &SyncStatus| {
            if self.paused.is_empty() { status.is_final() } else { status.state != SyncPhase::Running }
        };
        let is_due = match run.end {
            End::Whole | End::Fault { .. } => false,
            End::Cancel { .. } | End::Kill { .. } => self.is_due_before(id, &ended)?,
        };
        if is_due {
            match run.end {
                End::Kill { micros, .. } => {
                    std::thread::sleep(Duration::from_micros(micros.into()));
                    self.running.take().expect("an engine runs").cut();
                    self.was_killed = true;
                    self.lock().run = None;
                    self.running = Some(Running::start(&self.variables));
                    return Ok(None);
                }
                _ => {
                    let Running { runtime, engine } = self.running();
                    runtime.block_on(engine.syncs.cancel(id)).map_err(|error| error.to_string())?;
                }
            }
        }
        let status = self.until(id, &ended)?;
        self.lock().run = None;
        Ok(Some(status))
    }

    /// Whether the request at which the run is to end comes before its end.
    fn is_due_before(&self, id: Uuid, ended: &impl Fn(&SyncStatus) -> bool) -> Result<bool, String> {
        loop {
            if self.due.recv_timeout(Duration::from_millis(5)).is_ok() {
                return Ok(true);
            }
            if ended(&self.status(id)?) {
                return Ok(false);
            }
        }
    }

    fn until(&self, id: Uuid, ended: &impl Fn(&SyncStatus) -> bool) -> Result<SyncStatus, String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = if self.paused.is_empty() {
                let Running { runtime, engine } = self.running();
                let mut nobody = Deaf;
                let waited = engine.syncs.wait_for(id, PATIENCE, &mut nobody);
                runtime.block_on(waited).map_err(|error| error.to_string())?
            } else {
                self.status(id)?
            };
            if ended(&status) {
                return Ok(status);
            }
            if Instant::now() > until {
                return Err(format!("it does not end: {status:?}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn status(&self, id: Uuid) -> Result<SyncStatus, String> {
        let Running { runtime, engine } = self.running();
        runtime.block_on(engine.syncs.status(id)).map_err(|error| error.to_string())
    }

    fn sync(&mut self, asked: Asked, limit: Option<u8>, run: &Run) -> Result<(), String> {
        let (since, coverage) = {
            let beside = self.lock();
            (beside.model.changes(), beside.model.coverage())
        };
        let request = SyncRequest {
            hours_ago: asked.hours,
            limit: limit.map_or(100_000, u32::from),
            resume: asked.resume,
            ..request(table("leads"))
        };
        let status = self.follow(request, run)?;
        let is_whole = status.as_ref().is_some_and(|status| {
            matches!(status.state, SyncPhase::Done | SyncPhase::Draining) && !status.more
        });
        let ended = if is_whole { Ended::Exhausted } else { Ended::Before };
        self.lock().model.synced(asked, since, ended, coverage);
        let Some(status) = status else { return Ok(()) };
        let may_fail = matches!(run.end, End::Fault { .. });
        let may_be_cancelled = matches!(run.end, End::Cancel { .. });
        match status.state {
            SyncPhase::Done | SyncPhase::Draining => Ok(()),
            SyncPhase::Failed if may_fail => Ok(()),
            SyncPhase::Cancelled if may_be_cancelled => Ok(()),
            _ => Err(format!("it ended otherwise than it may: {status:?}")),
        }
    }

    fn reconcile(&mut self, run: &Run) -> Result<(), String> {
        let mut allow_deletes = None;
        // As often as there may be a reason to ask again.
        for is_again in [false, true] {
            let run = if is_again { &Run { during: Vec::new(), end: End::Whole } } else { run };
            let since = self.lock().model.changes();
            let request = SyncRequest {
                reconcile: Some(Reconciliation { allow_deletes, ..Reconciliation::default() }),
                ..request(table("leads"))
            };
            let Some(status) = self.follow(request, run)? else {
                self.lock().model.not_reconciled(since, false);
                return Ok(());
            };
            let error = status.error.clone().unwrap_or_default();
            match status.state {
                SyncPhase::Done => {
                    let report = status.reconcile.as_ref().ok_or("there is no report")?;
                    if report.unexplained != 0 || !report.sinks.iter().all(|sink| sink.proven) {
                        return Err(format!("it is done and the sinks are not proven: {status:?}"));
                    }
                    self.lock().model.reconciled(since);
                    return Ok(());
                }
                SyncPhase::Failed if error.contains("may be removed without asking") && !is_again => {
                    let mut beside = self.lock();
                    beside.model.not_reconciled(since, true);
                    // Rows without a key tell nothing of those that have one.
                    let shown = beside.model.rows().len() - beside.model.keyless();
                    let gone = beside.model.gone();
                    if gone <= 10 && shown > 0 {
                        return Err(format!("it asks, though {gone} rows are gone: {error}"));
                    }
                    allow_deletes = Some(gone as u64);
                }
                SyncPhase::Failed if error.contains("counts") && !run.during.is_empty() && !is_again => {
                    self.lock().model.not_reconciled(since, true);
                }
                SyncPhase::Failed if matches!(run.end, End::Fault { .. }) && !is_again => {
                    self.lock().model.not_reconciled(since, false);
                    return Ok(());
                }
                SyncPhase::Cancelled if matches!(run.end, End::Cancel { .. }) => {
                    self.lock().model.not_reconciled(since, false);
                    return Ok(());
                }
                _ => return Err(format!("it ended otherwise than it may: {status:?}")),
            }
        }
        Ok(())
    }

    /// Looks at everything, unless a sink is paused.
    fn look(&mut self) -> Result<(), String> {
        if !self.paused.is_empty() {
            return Ok(());
        }
        self.applied()?;
        let held = self.held()?;
        let contents: BTreeMap<String, Value> =
            held.iter().map(|(key, (_, row))| (key.clone(), row.clone())).collect();
        self.lock().model.judge("the store", &contents)?;
        self.look_at_index(&held)?;
        self.look_at_events()?;
        self.look_at_log()
    }

    /// Waits until the drains have applied all there is.
    fn applied(&self) -> Result<(), String> {
        let Running { runtime, engine } = self.running();
        let until = Instant::now() + PATIENCE;
        loop {
            // An engine that has just been started may still make its index.
            let lags = runtime.block_on(engine.drains.lag());
            let is_made = runtime.block_on(engine.questions.search(&all_of(leads()))).is_ok();
            if is_made && lags.as_ref().is_ok_and(|lags| lags.iter().all(|lag| lag.total == 0)) {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("the drains do not catch up: {lags:?}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The store's leads: version and row of each.
    fn held(&self) -> Result<BTreeMap<String, (i64, Value)>, String> {
        let sql = "SELECT l.id, l.versao, r.dados, l.nome FROM leads l LEFT JOIN eventos_raw r ON r.id = l.evento_id";
        let mut held = BTreeMap::new();
        for row in self.rows(sql) {
            let [key, version, row, name] = &row[..] else { return Err("four columns".to_owned()) };
            let key = key.as_str().ok_or("no key")?.to_owned();
            let row: Value = match row {
                Value::String(text) => serde_json::from_str(text).map_err(|error| error.to_string())?,
                Value::Object(_) => row.clone(),
                _ => return Err(format!("{key} has no event")),
            };
            if row["nome"] != *name {
                return Err(format!("{key} is called {name}, and its event says {row}"));
            }
            held.insert(key, (version.as_i64().ok_or("no version")?, row));
        }
        Ok(held)
    }

    fn look_at_index(&self, held: &BTreeMap<String, (i64, Value)>) -> Result<(), String> {
        let Running { runtime, engine } = self.running();
        let leads = runtime.block_on(documents(engine, leads(), None));
        let told = |key: &Value, version: &Value, name: &Value| format!("{key} {version} {name}");
        let mut found: Vec<String> =
            leads.iter().map(|lead| told(&lead["id"], &lead["versao"], &lead["nome"])).collect();
        let mut expected: Vec<String> = held
            .iter()
            .map(|(key, (version, row))| told(&key.as_str().into(), &(*version).into(), &row["nome"]))
            .collect();
        found.sort();
        expected.sort();
        if found == expected {
            Ok(())
        } else {
            Err(format!("the index has\n{found:#?}\nand the store\n{expected:#?}"))
        }
    }

    fn look_at_events(&self) -> Result<(), String> {
        let counted = |sql: &str| {
            let mut rows: Vec<String> = self.rows(sql).iter().map(|row| format!("{row:?}")).collect();
            rows.sort();
            rows
        };
        let rolled_up = counted("SELECT evento, sum(total) FROM eventos_agregados GROUP BY evento");
        let recounted = counted("SELECT evento, count(*) FROM eventos_raw GROUP BY evento");
        if rolled_up == recounted {
            Ok(())
        } else {
            Err(format!("rolled up are\n{rolled_up:#?}\nand counted\n{recounted:#?}"))
        }
    }

    /// No event stands in the log twice in a row, and versions grow.
    fn look_at_log(&self) -> Result<(), String> {
        let log = rusqlite::Connection::open_with_flags(
            self.folder.path().join("sluice.db"),
            rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
        )
        .expect("the file opens");
        let values = |topic: i32| -> Vec<Value> {
            let sql = "SELECT value FROM log_records WHERE topic = ? ORDER BY partition, position";
            let mut statement = log.prepare(sql).expect("a statement");
            let values = statement.query_map([topic], |row| row.get::<_, Vec<u8>>(0)).expect("records");
            values.map(|value| serde_json::from_slice(&value.expect("a value")).expect("JSON")).collect()
        };
        let mut newest: BTreeMap<String, (Value, i64)> = BTreeMap::new();
        for event in values(0) {
            let key = event["entidade"]["id"].as_str().ok_or("no entity")?.to_owned();
            let version = event["entidade"]["versao"].as_i64().ok_or("no version")?;
            if let Some((before, older)) = newest.insert(key.clone(), (event["id"].clone(), version)) {
                if before == event["id"] {
                    return Err(format!("the same event of {key} stands in the log twice: {event}"));
                }
                if version <= older {
                    return Err(format!("the version of {key} falls from {older} to {version}"));
                }
            }
        }
        let letters = values(1).len();
        let beside = self.lock();
        let (least, most) = (beside.model.parked, beside.model.keyless());
        if letters < least || (letters > most && !self.was_killed) {
            return Err(format!(
                "{letters} dead letters of {most} rows without a key, {least} of them promised"
            ));
        }
        Ok(())
    }

    fn rows(&self, sql: &str) -> Vec<Vec<Value>> {
        let Running { runtime, engine } = self.running();
        runtime.block_on(rows(engine, sql))
    }
}

fn lock(beside: &Mutex<Beside>) -> MutexGuard<'_, Beside> {
    beside.lock().unwrap_or_else(PoisonError::into_inner)
}
