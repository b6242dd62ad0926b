//! Alerts, on the embedded parts and on the real ones: told once each, to nobody but whom an operator named.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
};

use async_trait::async_trait;
use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};
use sluice::{
    domain::{Compare, JsonObject, TableName},
    engine::{
        AlertRequest, AlertStatus, Channel, Delivery, Engine, EntityKey, ErasureRequest, Selection, SyncPhase,
    },
    mcp::Webhooks,
    source::{
        Condition,
        sample::{self, SampleColumn},
    },
    store::{AlertRule, Outgoing},
};

use crate::support::{
    cli::run,
    eventually,
    fake_http::{FakeHttp, Reply},
    folder::TestFolder,
    http::HttpServer,
    on_each_adapter,
    place::{Embedded, Place, Real, value},
    request,
    rows::{id, lead, minutes_ago, object},
    sync, table,
};

on_each_adapter! {
    embedded: Embedded, real: Real;
    a_lead_that_arrives_or_comes_to_qualify_is_told_once_and_never_the_past,
    what_waits_outlives_kills_and_is_tried_until_it_is_taken_with_one_id,
    a_target_that_takes_nothing_is_told_of_holds_nothing_up_and_gets_nothing_of_the_erased,
    an_episode_is_told_once_and_once_when_it_is_over,
}

/// A table whose definition not every process has.
const ORDERS: &str = r#"
    name = "pedidos"
    about = "orders"
    entity = "pedido"
    key = { column = "id", type = "bigint" }
    time = { modified = "mudou_em" }
    event = { categoria = "vendas", evento = "pedido" }
    columns = [{ name = "mudou_em", type = "timestamp" }, { name = "nota", type = "text" }]
"#;

/// What stands in a URL that reaches no log, no answer and no error.
const SECRET: &str = "s3gredo-do-webhook";

/// A webhook that answers as it is told to at the moment.
struct Receiver {
    http: FakeHttp,
    status: Arc<AtomicU16>,
}

impl Receiver {
    async fn start() -> Self {
        let status = Arc::new(AtomicU16::new(200));
        let answers = status.clone();
        let http = FakeHttp::start(move |_, _| match answers.load(Ordering::SeqCst) {
            0 => Reply::Hang,
            302 => Reply::AnswerWith(302, "location: http://127.0.0.1:1/", ""),
            429 => Reply::AnswerWith(429, "retry-after: 1", ""),
            status => Reply::Answer(status, "{}"),
        })
        .await;
        Self { http, status }
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn target(&self) -> String {
        format!("vendas={}{SECRET}", self.http.url)
    }

    /// What came so far.
    fn bodies(&self) -> Vec<Value> {
        let requests = self.http.requests();
        requests.iter().map(|one| serde_json::from_slice(&one.body).expect("JSON")).collect()
    }

    /// The keys of the rows that an alert told of.
    fn keys(&self, alert: &str) -> Vec<String> {
        let bodies = self.bodies();
        let of_alert = bodies.iter().filter(|body| body["alert"] == alert);
        of_alert.map(|body| body["key"].as_str().expect("a key").to_owned()).collect()
    }

    async fn heard_of(&self, alert: &str, n: u128) {
        eventually("the webhook hears of the lead", async || self.keys(alert).contains(&id(n))).await;
    }
}

async fn place<P: Place>() -> (P, Receiver) {
    let receiver = Receiver::start().await;
    let mut place = P::new().await;
    place.set("SLUICE_ALERT_TARGETS", &receiver.target());
    place.set("SLUICE_ALERT_ALLOW_PRIVATE", "true");
    (place, receiver)
}

async fn engine(place: &impl Place) -> Arc<Engine> {
    let engine = place.engine().await;
    engine.start_drains().await;
    alerting(place, &engine);
    engine
}

fn alerting(place: &impl Place, engine: &Engine) {
    engine.alerts.start(Arc::new(Webhooks::new(&place.settings())));
}

fn scored(n: u128, score: u32, name: &str) -> JsonObject {
    let mut row = lead(n, 0);
    row.insert("score_qualificacao".to_owned(), json!(score));
    row.insert("nome".to_owned(), json!(name));
    row
}

/// Leads as they are now, synced into both sinks.
async fn bring(place: &impl Place, engine: &Engine, leads: Vec<JsonObject>) {
    place.source().upsert(table("leads"), leads);
    assert_eq!(sync(engine, request(table("leads"))).await.state, SyncPhase::Done);
}

fn hot(name: &str) -> AlertRequest {
    let condition =
        Condition { column: "score_qualificacao".to_owned(), compare: Compare::Gte, value: "80".to_owned() };
    asked(name, AlertRule::Row { table: TableName("leads".to_owned()), conditions: vec![condition] })
}

fn asked(name: &str, rule: AlertRule) -> AlertRequest {
    AlertRequest { name: name.to_owned(), target: Some("vendas".to_owned()), rule }
}

async fn status(engine: &Engine, name: &str) -> AlertStatus {
    let alerts = engine.alerts.list().await.expect("the alerts");
    alerts.into_iter().find(|alert| alert.name == name).expect("the alert")
}

async fn a_lead_that_arrives_or_comes_to_qualify_is_told_once_and_never_the_past<P: Place>() {
    let (place, receiver) = place::<P>().await;
    let engine = engine(&place).await;
    // Another server looks at the same alerts.
    let other = place.engine().await;
    alerting(&place, &other);
    bring(&place, &engine, vec![scored(90, 90, "Ana"), scored(10, 10, "Bia")]).await;

    let trial = engine.alerts.trial(&hot("quentes")).await.expect("a trial");
    assert_eq!(
        (trial.would_have_fired, trial.latest[0].key.as_str()),
        (Some(1), id(90).as_str()),
        "{trial:?}"
    );
    assert_eq!(engine.alerts.list().await.expect("the alerts"), [], "a trial creates nothing");
    engine.alerts.create(hot("quentes"), "ana").await.expect("created");
    engine.alerts.create(hot("quentes"), "bia").await.expect("the same again is no other");
    let every = AlertRule::Row { table: TableName("leads".to_owned()), conditions: Vec::new() };
    assert!(engine.alerts.create(asked("quentes", every.clone()), "bia").await.is_err(), "another is");

    let hostile = "<!channel> Zoé\n& @here";
    let now =
        vec![scored(90, 90, "Ana M."), scored(10, 85, "Bia"), scored(91, 91, hostile), scored(11, 11, "Eva")];
    bring(&place, &engine, now).await;
    receiver.heard_of("quentes", 91).await;
    receiver.heard_of("quentes", 10).await;
    let body = receiver.bodies().into_iter().find(|body| body["key"] == id(91)).expect("it was sent");
    let text = body["text"].as_str().expect("what Slack shows");
    assert!(text.contains("&lt;!channel&gt; Zoé &amp; @\u{2060}here") && !text.contains('\n'), "{text}");
    assert_eq!((&body["row"]["email"], &body["row"]["score_qualificacao"]), (&json!("j***@***"), &json!(91)));
    assert!(!body.to_string().contains("joao91@"), "{body}");

    // They leave and come back, and another one arrives after them.
    bring(&place, &engine, vec![scored(91, 50, hostile), scored(90, 20, "Ana M.")]).await;
    bring(&place, &engine, vec![scored(91, 91, hostile), scored(90, 90, "Ana M.")]).await;
    engine.alerts.create(asked("novos", every), "ana").await.expect("created");
    bring(&place, &engine, vec![scored(92, 92, "Gil")]).await;
    receiver.heard_of("quentes", 92).await;
    receiver.heard_of("novos", 92).await;
    let told = receiver.keys("quentes");
    let once: BTreeSet<String> = told.iter().cloned().collect();
    assert_eq!(told.len(), once.len(), "each once: {told:?}");
    // Of the past only what came to qualify anew.
    assert_eq!(once, [10, 90, 91, 92].map(id).into());

    assert!(engine.alerts.delete("quentes").await.expect("deleted"));
    assert!(!engine.alerts.delete("quentes").await.expect("gone"));
    bring(&place, &engine, vec![scored(93, 93, "Rui")]).await;
    receiver.heard_of("novos", 93).await;
    assert!(!receiver.keys("quentes").contains(&id(93)), "what is deleted tells no more");
    // What is filled again was told, or is of the past.
    place.execute("DROP TABLE leads").await;
    bring(&place, &engine, vec![scored(94, 94, "Lia")]).await;
    eventually("the table is filled again", async || {
        value(&engine, "SELECT count(*) FROM leads").await == json!(7)
    })
    .await;
    bring(&place, &engine, vec![scored(95, 95, "Edu")]).await;
    receiver.heard_of("novos", 95).await;
    assert_eq!(receiver.keys("novos"), [92, 93, 94, 95].map(id), "what was there is not new");
    engine.shut_down().await;
    other.shut_down().await;
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_table_that_the_process_that_looks_does_not_know_wait_for_one_that_does() {
    let (mut place, receiver) = place::<Real>().await;
    // It is the first to look, at whatever it can.
    let stranger = place.engine().await;
    let tables = TestFolder::new();
    std::fs::write(tables.path().join("pedidos.toml"), ORDERS).expect("written");
    place.set("SLUICE_TABLES_DIR", &tables.path().display().to_string());
    let engine = place.engine().await;
    engine.start_drains().await;
    engine.alerts.create(hot("quentes"), "ana").await.expect("created");
    alerting(&place, &stranger);

    let orders = place.settings().catalog.get("pedidos").expect("a table");
    let large = |value: &str| {
        let condition = Condition { column: "id".to_owned(), compare: Compare::Gt, value: value.to_owned() };
        asked("grandes", AlertRule::Row { table: TableName::from(orders), conditions: vec![condition] })
    };
    engine.alerts.create(large("100"), "ana").await.expect("created");
    place.source().create_table("public", "pedidos", SampleColumn::of(orders), &[""; 0]).expect("a table");
    let row = |id: u32| object(json!({"id": id, "nota": "x", "mudou_em": minutes_ago(1)}));
    place.source().set_rows(orders, [99, 101, 1000].into_iter().map(row).collect());
    assert_eq!(sync(&engine, request(orders)).await.state, SyncPhase::Done);
    let refusal = engine.alerts.create(large("cem"), "ana").await.expect_err("no number").to_string();
    assert!(refusal.contains("none of whole numbers"), "{refusal}");
    assert_eq!(engine.alerts.trial(&large("100")).await.expect("a trial").would_have_fired, Some(2));
    eventually("it is told that they wait", async || {
        let told = stranger.inspection.status().await;
        told.problems.iter().any(|one| one.problem.contains("has the definition of pedidos"))
    })
    .await;
    bring(&place, &engine, vec![scored(91, 91, "Ana")]).await;
    receiver.heard_of("quentes", 91).await;

    alerting(&place, &engine);
    eventually("the webhook hears of both", async || receiver.keys("grandes").len() == 2).await;
    let told: BTreeSet<String> = receiver.keys("grandes").into_iter().collect();
    assert_eq!(told, ["101", "1000"].map(str::to_owned).into());
    let told = engine.inspection.status().await;
    assert!(told.problems.iter().all(|one| !one.problem.contains("pedidos")), "{told:?}");
    engine.shut_down().await;
    stranger.shut_down().await;
    place.clean_up().await;
}

/// One target of which never answers.
struct Halting(Mutex<Vec<String>>);

#[async_trait]
impl Channel for Halting {
    fn targets(&self) -> Vec<String> {
        vec!["lento".to_owned(), "vendas".to_owned()]
    }

    async fn send(&self, outgoing: &Outgoing) -> Delivery {
        if outgoing.target == "lento" {
            std::future::pending::<()>().await;
        }
        self.0.lock().expect("no poison").push(outgoing.subject.clone());
        Delivery::Taken
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_does_not_answer_holds_no_other_up() {
    let mut place = Embedded::new().await;
    place.set("SLUICE_ALERT_TARGETS", "lento=https://a.example/,vendas=https://b.example/");
    let engine = place.engine().await;
    engine.start_drains().await;
    let channel = Arc::new(Halting(Mutex::default()));
    engine.alerts.start(channel.clone());
    engine
        .alerts
        .create(AlertRequest { target: Some("lento".to_owned()), ..hot("um") }, "ana")
        .await
        .expect("created");
    engine.alerts.create(hot("outro"), "ana").await.expect("created");
    bring(&place, &engine, (80..84).map(|n| scored(n, 90, "Ana")).collect()).await;
    let misspelt = ["alerts", "create", "mais", "--where", "status_lead=Qualificado", "--try"];
    let misspelt = run(place.command(&misspelt)).await;
    assert!(misspelt.stderr.contains("nobody has the status_lead"), "{misspelt:?}");
    assert!(misspelt.stderr.contains("qualificado (2)"), "{misspelt:?}");
    let beside = run(place.command(&["alerts", "create", "mais"])).await;
    assert!(beside.code != Some(0) && beside.stderr.contains("`default,alerts`"), "{beside:?}");
    eventually("the other hears of all", async || channel.0.lock().expect("no poison").len() == 4).await;
    engine.shut_down().await;
    place.clean_up().await;
}

async fn what_waits_outlives_kills_and_is_tried_until_it_is_taken_with_one_id<P: Place>() {
    let (place, receiver) = place::<P>().await;
    let created = ["alerts", "create", "quentes", "--where", "score_qualificacao>=80", "--target", "vendas"];
    let outcome = run(place.command(&created)).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(
        outcome.stdout.contains("of a row of leads that comes to have score_qualificacao >= 80"),
        "{outcome:?}"
    );
    let alone = run(place.command(&["alerts"])).await;
    assert!(
        alone.stdout.contains("problem: no process looks at the 1 alerts; start `sluice worker`"),
        "{alone:?}"
    );
    place.source().upsert(table("leads"), vec![scored(91, 91, "Ana")]);

    // Killed while the webhook does not answer: nobody knows whether it took it.
    receiver.answer(0);
    for kill in 0..2 {
        // What drains, once killed, keeps the next that drains waiting: one is enough.
        let more: &[&str] = if kill == 0 { &[] } else { &["--without-drains"] };
        let mut server = serving(&place, more).await;
        if kill == 0 {
            call(&server, "sync_leads_from_supabase", json!({"wait": false})).await;
        }
        eventually("it is sent", async || receiver.bodies().len() > kill).await;
        server.process.kill().await.expect("killed");
        // As if a while had passed.
        place.execute("UPDATE sluice_alert_outbox SET due_at = fired_at WHERE due_at IS NOT NULL; DELETE FROM sluice_leases").await;
    }
    receiver.answer(500);
    let server = serving(&place, &[]).await;
    place.source().upsert(table("leads"), vec![scored(92, 92, "Gil")]);
    call(&server, "sync_leads_from_supabase", json!({"wait": false})).await;
    let seen = receiver.bodies().len();
    eventually("it is tried again", async || receiver.bodies().len() > seen).await;
    receiver.answer(429);
    let seen = receiver.bodies().len();
    eventually("it is tried again", async || receiver.bodies().len() > seen).await;
    receiver.answer(200);
    receiver.heard_of("quentes", 92).await;

    let bodies = receiver.bodies();
    let ids: BTreeMap<&str, BTreeSet<&str>> = bodies.iter().fold(BTreeMap::new(), |mut ids, body| {
        let key = body["key"].as_str().expect("a key");
        ids.entry(key).or_default().insert(body["id"].as_str().expect("an id"));
        ids
    });
    assert!(ids.len() == 2 && ids.values().all(|ids| ids.len() == 1), "{ids:?}");
    let headers = receiver.http.requests();
    assert!(headers.iter().all(|one| one.head.contains("idempotency-key: ")), "{headers:?}");
    let listed = call(&server, "list_alerts", json!({})).await;
    assert_eq!(
        (&listed["alerts"][0]["fired"], &listed["targets"], &listed["problems"]),
        (&json!(2), &json!(["vendas"]), &json!([])),
        "{listed}"
    );
    let mut process = server.process;
    process.kill().await.expect("killed");
    place.clean_up().await;
}

async fn serving(place: &impl Place, more: &[&str]) -> HttpServer {
    let mut command = place.command(&["serve", "--http", "127.0.0.1:0"]);
    command.args(more).stdout(Stdio::null());
    HttpServer::of(command).await
}

async fn call(server: &HttpServer, tool: &'static str, arguments: Value) -> Value {
    let session = server.connect(None).await;
    let request = CallToolRequestParams::new(tool).with_arguments(object(arguments));
    let result = session.call_tool(request).await.expect("a result");
    assert_ne!(result.is_error, Some(true), "{result:?}");
    session.cancel().await.expect("the session closes");
    result.structured_content.expect("content")
}

async fn a_target_that_takes_nothing_is_told_of_holds_nothing_up_and_gets_nothing_of_the_erased<P: Place>() {
    let (mut place, receiver) = place::<P>().await;
    let lines = Arc::new(Mutex::new(Vec::new()));
    let tell = async |engine: &Engine, expected: &str| {
        eventually("the alert says what is wrong", async || {
            let problem = status(engine, "quentes").await.problem.unwrap_or_default();
            lines.lock().expect("no poison").push(problem.clone());
            problem.contains(expected)
        })
        .await;
    };
    // By default nothing of this machine or its network is connected to.
    place.set("SLUICE_ALERT_ALLOW_PRIVATE", "false");
    let port = receiver.http.url.port().expect("a port");
    place.set("SLUICE_ALERT_TARGETS", &format!("vendas=https://127.0.0.1:{port}/{SECRET}"));
    let first = engine(&place).await;
    first.alerts.create(hot("quentes"), "ana").await.expect("created");
    let unknown = AlertRequest { target: Some("https://evil.example/".to_owned()), ..hot("outro") };
    let refusal = first.alerts.create(unknown, "ana").await.expect_err("no such target").to_string();
    assert!(refusal.contains("SLUICE_ALERT_TARGETS") && refusal.contains("vendas"), "{refusal}");
    bring(&place, &first, vec![scored(91, 91, "Zuleica Apagada")]).await;
    tell(&first, "not one of the internet").await;
    assert!(receiver.http.requests().is_empty(), "nothing was connected to");
    let told = first.inspection.status().await;
    assert!(
        !told.healthy && told.problems.iter().any(|one| one.problem.contains("the alert 'quentes'")),
        "{told:?}"
    );
    let findings = first.doctor.examine().await;
    assert!(
        findings.iter().any(|one| one.part == "alerts" && one.detail.contains("'quentes'")),
        "{findings:?}"
    );
    assert!(!format!("{told:?}{findings:?}").contains(SECRET));
    first.shut_down().await;
    // Embedded parts are written by one at a time.
    drop(first);

    place.set("SLUICE_ALERT_ALLOW_PRIVATE", "true");
    place.set("SLUICE_ALERT_TARGETS", &receiver.target());
    receiver.answer(302);
    place.execute("UPDATE sluice_alert_outbox SET due_at = fired_at WHERE due_at IS NOT NULL; DELETE FROM sluice_leases").await;
    let second = engine(&place).await;
    tell(&second, "redirect").await;
    receiver.answer(404);
    tell(&second, "nothing at its URL").await;
    assert_eq!(status(&second, "quentes").await.waiting, 1);
    // Whoever is erased is told of no more, and what comes after waits behind nothing.
    let who = ErasureRequest { table: table("leads"), who: EntityKey::Key(id(91)), related: false };
    assert!(second.erasures.erase(&who, "ana").await.expect("erased").complete);
    assert!(!place.dump().await.contains(&id(91)), "no table names whom it erased");
    receiver.answer(400);
    bring(&place, &second, vec![scored(92, 92, "Gil")]).await;
    tell(&second, "1 of the last week never arrived: it does not take what it was sent").await;
    let refused = second.inspection.status().await;
    assert!(refused.problems.iter().all(|one| !one.problem.contains("has taken none")), "{refused:?}");
    // A week later nothing is left of it, though nothing came since.
    place
        .execute("UPDATE sluice_alert_outbox SET fired_at = '2020-01-01T00:00:00Z' WHERE outcome = 'lost'")
        .await;
    assert_eq!(status(&second, "quentes").await.problem, None);
    place
        .execute(&format!(
            "UPDATE sluice_alert_outbox SET fired_at = '{}' WHERE outcome = 'lost'",
            minutes_ago(1)
        ))
        .await;
    receiver.answer(200);
    let before = receiver.bodies().len();
    bring(&place, &second, vec![scored(93, 93, "Rui")]).await;
    receiver.heard_of("quentes", 93).await;
    eventually("it gets through again", async || {
        let status = status(&second, "quentes").await;
        status.waiting == 0
            && status.problem.is_some_and(|problem| problem == "1 of the last week never arrived")
    })
    .await;
    assert!(receiver.bodies()[before..].iter().all(|body| body["key"] == id(93)), "{:?}", receiver.bodies());
    assert!(lines.lock().expect("no poison").iter().all(|line| !line.contains(SECRET)));
    assert!(!place.dump().await.contains(SECRET), "the store knows names, not URLs");
    second.shut_down().await;
    place.clean_up().await;
}

async fn an_episode_is_told_once_and_once_when_it_is_over<P: Place>() {
    let (place, receiver) = place::<P>().await;
    let engine = engine(&place).await;
    bring(&place, &engine, vec![lead(1, 1)]).await;
    let rules = [
        ("cartas", AlertRule::DeadLetters { above: 0 }),
        ("atraso", AlertRule::Lag { records: 0, minutes: 0 }),
        ("falhas", AlertRule::Late { minutes: 0 }),
        ("calma", AlertRule::Lag { records: 0, minutes: 60 }),
    ];
    for (name, rule) in rules {
        let trial = engine.alerts.trial(&asked(name, rule.clone())).await.expect("a trial");
        assert_eq!(trial.would_have_fired, None, "it is not remembered: {name}: {trial:?}");
        engine.alerts.create(asked(name, rule), "ana").await.expect("created");
    }
    let told = || {
        let mut told: BTreeMap<(String, String), usize> = BTreeMap::new();
        for body in receiver.bodies() {
            let part = |name: &str| body[name].as_str().expect("a text").to_owned();
            *told.entry((part("alert"), part("state"))).or_default() += 1;
        }
        told
    };
    let expected = |states: &[&str]| -> BTreeMap<(String, String), usize> {
        let each = ["atraso", "cartas", "falhas"].into_iter();
        each.flat_map(|name| states.iter().map(move |state| ((name.to_owned(), (*state).to_owned()), 1)))
            .collect()
    };

    let broken = |n: u32| {
        object(json!({"id": format!("sem uuid {n}"), "nome": "x", "updated_at": lead(2, 0)["updated_at"]}))
    };
    bring(&place, &engine, vec![broken(1)]).await;
    let sink = engine.questions.store_name();
    engine.drains.pause(sink, "ana").await.expect("paused");
    place.source().upsert(table("leads"), vec![lead(3, 0)]);
    let left = engine.syncs.start(request(table("leads"))).await.expect("a sync");
    eventually("the sink is behind", async || {
        engine.syncs.status(left).await.expect("a status").state == SyncPhase::Draining
    })
    .await;
    let refusal = sample::Failure::new(403, "42501", "permission denied", None);
    place.source().script([sample::Fault::Refuse(refusal)]);
    let failing = engine.syncs.start(request(table("chat_sessions"))).await.expect("a sync");
    eventually("the sync failed", async || {
        engine.syncs.status(failing).await.expect("a status").state == SyncPhase::Failed
    })
    .await;
    eventually("each is told", async || told() == expected(&["fired"])).await;
    // It goes on, and gets worse.
    place.source().upsert(table("leads"), vec![broken(2)]);
    let worse = engine.syncs.start(request(table("leads"))).await.expect("a sync");
    eventually("it is worse", async || {
        let phase = engine.syncs.status(worse).await.expect("a status").state;
        phase != SyncPhase::Running && engine.letters.open_count().await.expect("a count") > 1
    })
    .await;

    engine.drains.resume(sink).await.expect("resumed");
    let all = Selection::Open { sink: None, from: None, limit: 100 };
    eventually("the letters are settled", async || {
        engine.letters.discard(&all, "ana").await.expect("settled");
        engine.letters.open_count().await.expect("a count") == 0
    })
    .await;
    assert_eq!(sync(&engine, request(table("chat_sessions"))).await.state, SyncPhase::Done);
    eventually("each is over", async || told() == expected(&["fired", "resolved"])).await;
    assert!(!status(&engine, "cartas").await.going_on);
    engine.shut_down().await;
    place.clean_up().await;
}
