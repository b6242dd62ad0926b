//! Claims, batches, versions and what can never be stored.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sluice::{
    domain::{Entidade, Event},
    fault::FaultKind,
    log::{Position, StartAt},
    sink::{Applied, ApplyError, SinkBatch, Span},
};
use uuid::Uuid;

use crate::support::{
    on_each_adapter,
    stores::{
        Embedded, LOG, Postgres, StoreBench, apply, batch, batch_at, claimed, instant, kind, lead, lead_with,
        manual, rejected_offsets, session, without,
    },
};

on_each_adapter! {
    embedded: Embedded, postgres: Postgres;
    a_batch_lands_in_every_table_and_moves_the_offset,
    the_same_events_delivered_again_change_nothing,
    a_worker_that_lost_its_claim_changes_nothing,
    a_batch_that_does_not_start_where_the_store_stands_is_fenced,
    one_fenced_partition_fences_the_whole_batch,
    a_span_without_events_moves_the_offset,
    an_event_without_a_span_is_refused,
    an_entity_never_goes_back_to_an_older_version,
    an_event_twice_in_a_batch_counts_once,
    what_can_never_be_stored_is_rejected_and_the_rest_is_applied,
    a_row_that_a_trigger_refuses_is_rejected_alone,
    a_row_that_a_trigger_keeps_out_without_a_word_is_rejected_alone,
    a_trigger_that_keeps_events_out_of_the_rollup_is_told,
    a_trigger_that_refuses_a_whole_table_parks_none_of_it_and_is_obeyed_no_more_once_it_is_gone,
    rows_refused_one_batch_after_the_other_are_parked_until_it_is_plain_that_the_trigger_is_to_blame,
    of_an_entity_s_events_the_one_read_last_stays,
    a_failed_batch_leaves_nothing_behind,
    workers_on_the_same_entities_do_not_get_in_each_other_s_way,
    rollups_count_every_row_in_its_five_minutes_whatever_the_year,
    texts_numbers_and_documents_at_their_limits_come_back_whole,
}

async fn a_batch_lands_in_every_table_and_moves_the_offset<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let claim = claimed(&*store).await;
    assert_eq!(claim.start, StartAt::Beginning, "nothing was applied yet");
    assert_eq!(store.applied(LOG).await.expect("offsets"), Some(vec![]), "a claim is no progress");
    let events = vec![lead(1, 0, "Ana"), session(2), manual("teste", json!({"a": 1})), lead(3, 0, "Beto")];
    let applied = store.apply(LOG, &batch(claim, events)).await.expect("applied");
    assert_eq!(applied, Applied { inserted: 4, entities: 3, ..Applied::default() });
    let counts = store.counts().await.expect("it answers");
    assert_eq!(counts, [("eventos_raw".into(), 4), ("leads".into(), 2), ("chat_sessions".into(), 1)]);
    assert_eq!(store.applied(LOG).await.expect("offsets"), Some(vec![Position { partition: 0, offset: 4 }]));
    assert_eq!(store.applied("other").await.expect("offsets"), Some(vec![]), "logs do not mix");
    store.make_visible().await.expect("it is visible");
    let rollup = bench
        .texts(
            "SELECT categoria || ' ' || evento || ' ' || total || ' ' || CAST(soma_valor AS integer)
                FROM eventos_agregados ORDER BY categoria",
        )
        .await;
    assert_eq!(
        rollup,
        ["engajamento chat_session 1 7", "teste_manual teste 1 1", "vendas lead_qualificado 2 170"]
    );
}

async fn the_same_events_delivered_again_change_nothing<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let events = vec![lead(1, 0, "Ana"), session(2), manual("teste", json!({}))];
    apply(&*store, events.clone()).await;
    let before = bench.contents().await;

    // As after a log was rewound: other offsets, the same events.
    let claim = claimed(&*store).await;
    assert_eq!(claim.start, StartAt::Offset(3));
    let applied = store.apply(LOG, &batch(claim, events)).await.expect("applied");
    assert_eq!(applied, Applied { duplicates: 3, stale: 2, ..Applied::default() });
    assert_eq!(bench.contents().await, before);
    assert_eq!(store.applied(LOG).await.expect("offsets"), Some(vec![Position { partition: 0, offset: 6 }]));
}

async fn a_worker_that_lost_its_claim_changes_nothing<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let old = claimed(&*store).await;
    let new = claimed(&*bench.open()).await;
    assert!(new.epoch > old.epoch);
    assert_eq!(kind(store.apply(LOG, &batch(old, vec![lead(1, 0, "Ana")])).await), FaultKind::Fenced);
    let mut poison = manual("teste", json!({}));
    poison.valor = f64::NAN;
    assert_eq!(
        kind(store.apply(LOG, &batch(old, vec![poison])).await),
        FaultKind::Fenced,
        "nor parks anything"
    );
    assert!(bench.contents().await.is_empty());
    assert_eq!(store.applied(LOG).await.expect("offsets"), Some(vec![]));
}

async fn a_batch_that_does_not_start_where_the_store_stands_is_fenced<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let claim = claimed(&*store).await;
    let first = batch_at(claim, 40, vec![lead(1, 0, "Ana")]);
    store.apply(LOG, &first).await.expect("the first may start anywhere");
    let before = bench.contents().await;
    for first in [40, 42, 0] {
        let outcome = store.apply(LOG, &batch_at(claim, first, vec![lead(1, 5, "Bia")])).await;
        assert_eq!(kind(outcome), FaultKind::Fenced, "{first}");
    }
    assert_eq!(bench.contents().await, before);
    store.apply(LOG, &batch_at(claim, 41, vec![lead(1, 5, "Bia")])).await.expect("the right place");
}

async fn one_fenced_partition_fences_the_whole_batch<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let claims = store.claim(LOG, &[1, 0, 1]).await.expect("claims");
    let partitions: Vec<i32> = claims.iter().map(|claim| claim.partition).collect();
    assert_eq!(partitions, [0, 1], "a partition named twice is claimed once");
    bench.open().claim(LOG, &[1]).await.expect("a claim");
    // The partition that is still ours comes first, and must not have moved.
    let mut both = batch(claims[0], vec![lead(1, 0, "Ana")]);
    let other = batch(claims[1], vec![lead(2, 0, "Beto")]);
    both.events.extend(other.events);
    both.spans.extend(other.spans);
    assert_eq!(kind(store.apply(LOG, &both).await), FaultKind::Fenced);
    assert!(bench.contents().await.is_empty());
    assert_eq!(store.applied(LOG).await.expect("offsets"), Some(vec![]));
    let ours = batch(claims[0], vec![lead(1, 0, "Ana")]);
    assert_eq!(store.apply(LOG, &ours).await.expect("applied").inserted, 1, "the rest can go on");
}

async fn a_span_without_events_moves_the_offset<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let claim = claimed(&*store).await;
    let span = Span { partition: 0, epoch: claim.epoch, first: 0, next: 9 };
    let applied =
        store.apply(LOG, &SinkBatch { events: Vec::new(), spans: vec![span] }).await.expect("applied");
    assert_eq!(applied, Applied::default());
    assert_eq!(claimed(&*store).await.start, StartAt::Offset(9));
}

async fn an_event_without_a_span_is_refused<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let mut stray = batch(claimed(&*store).await, vec![lead(1, 0, "Ana")]);
    stray.spans.clear();
    assert_eq!(kind(store.apply(LOG, &stray).await), FaultKind::Invalid);
    assert!(bench.contents().await.is_empty());
}

async fn an_entity_never_goes_back_to_an_older_version<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    apply(&*store, vec![lead(1, 10, "nova")]).await;
    let applied = apply(&*store, vec![lead(1, 0, "velha"), lead(1, 5, "média")]).await;
    assert_eq!(applied, Applied { inserted: 2, stale: 1, ..Applied::default() });
    assert_eq!(bench.texts("SELECT nome FROM leads").await, ["nova"]);
    assert_eq!(apply(&*store, vec![lead(1, 30, "última"), lead(1, 20, "penúltima")]).await.entities, 1);
    assert_eq!(bench.texts("SELECT nome FROM leads").await, ["última"]);
    assert_eq!(bench.number("SELECT count(*) FROM eventos_raw").await, 5, "every version is kept");
}

async fn an_event_twice_in_a_batch_counts_once<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let applied = apply(&*store, vec![lead(1, 0, "Ana"), lead(1, 0, "Ana"), lead(2, 0, "Beto")]).await;
    assert_eq!(applied, Applied { inserted: 2, duplicates: 1, entities: 2, ..Applied::default() });
    assert_eq!(bench.number("SELECT sum(total) FROM eventos_agregados").await, 2);
    assert_eq!(
        bench.texts("SELECT CAST(posicao AS text) FROM eventos_raw ORDER BY posicao").await,
        ["0", "2"]
    );
}

/// Envelopes that sluice never writes, among rows that are as odd as rows may be.
async fn what_can_never_be_stored_is_rejected_and_the_rest_is_applied<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let with_value = |valor: f64| Event { valor, ..manual("teste", json!({})) };
    let with_key = |id: &str| {
        let mut event = lead(9, 0, "Ana");
        // Not one that a row's event has, which may be of before the table's key was another.
        event.id = Uuid::from_u128(0x4000 << 64 | id.len() as u128);
        id.clone_into(&mut event.entidade.id);
        event
    };
    let mut too_early = manual("teste", json!({}));
    too_early.timestamp = instant("-5000-01-01T00:00:00Z");
    let events = vec![
        with_value(f64::INFINITY),
        lead(2, 0, "Ana"),
        with_value(f64::NAN),
        too_early,
        with_value(-1e301),
        lead_with(3, 0, json!({"created_at": "-5000-01-01T00:00:00Z", "nome": "a\0b"})),
        with_value(1e299),
        with_key("7"),
        with_key(&Uuid::from_u128(0xabc).to_string().to_uppercase()),
        with_key(""),
    ];
    let whole = batch(claimed(&*store).await, events);
    let rejected = rejected_offsets(store.apply(LOG, &whole).await);
    assert_eq!(rejected, [0, 2, 3, 4, 7, 8, 9]);
    assert!(bench.contents().await.is_empty());
    assert_eq!(store.apply(LOG, &without(&whole, &rejected)).await.expect("applied").inserted, 3);
    assert_eq!(claimed(&*store).await.start, StartAt::Offset(10), "past the rejected ones as well");
}

async fn a_row_that_a_trigger_refuses_is_rejected_alone<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    bench.execute(B::REFUSING_TRIGGER).await;
    let events = (0..20).map(|id| lead(id, 0, if id == 7 { "proibida" } else { "Ana" })).collect();
    let whole = batch(claimed(&*store).await, events);
    let outcome = store.apply(LOG, &whole).await;
    let Err(ApplyError::Rejected(rejections)) = &outcome else {
        panic!("expected a rejection, got {outcome:?}")
    };
    assert!(
        rejections[0].reason.contains("trigger") && !rejections[0].reason.contains("proibida"),
        "{rejections:?}"
    );
    let rejected = rejected_offsets(outcome);
    assert_eq!(rejected, [7]);
    assert!(bench.contents().await.is_empty());
    assert_eq!(store.apply(LOG, &without(&whole, &rejected)).await.expect("applied").entities, 19);
}

async fn a_row_that_a_trigger_keeps_out_without_a_word_is_rejected_alone<B: StoreBench>() {
    for (when, table, condition) in [
        ("INSERT", "eventos_raw", "new.valor = 7"),
        ("INSERT", "leads", "new.nome = 'calada'"),
        ("UPDATE", "leads", "new.nome = 'calada'"),
        ("DELETE", "leads", "old.nome = 'Ana' AND old.status_lead = 'calada'"),
        ("INSERT", "sluice_removed", "new.versao >= 0"),
    ] {
        let bench = B::new().await;
        let store = bench.open();
        let lead = |id: u128, minutes, nome| {
            let status = if id == 7 { "calada" } else { "novo" };
            lead_with(id, minutes, json!({"nome": nome, "score_qualificacao": id, "status_lead": status}))
        };
        let before: Vec<Event> = (0..10).map(|id| lead(id, 0, "Ana")).collect();
        if when != "INSERT" || table == "sluice_removed" {
            apply(&*store, before.clone()).await;
        }
        bench.execute(&B::silent_trigger(when, table, condition)).await;
        let removal = |event: &Event| {
            let Entidade { id, versao, .. } = &event.entidade;
            Event::removal(
                crate::support::table("leads"),
                id,
                event.id,
                instant("2026-05-02T12:00:00Z"),
                versao + 1,
            )
        };
        let events = match when {
            "DELETE" => before.iter().map(removal).collect(),
            _ if table == "sluice_removed" => {
                vec![lead(1, 1, "Bia"), lead(2, 1, "Bia"), removal(&before[7])]
            }
            _ => (0..10).map(|id| lead(id, 1, if id == 7 { "calada" } else { "Ana" })).collect(),
        };
        let whole = batch(claimed(&*store).await, events);
        let unchanged = bench.contents().await;
        let outcome = store.apply(LOG, &whole).await;
        let Err(ApplyError::Rejected(rejections)) = &outcome else {
            panic!("{when} {table}: expected a rejection, got {outcome:?}")
        };
        let kept_out_of = if when == "INSERT" && table == "eventos_raw" { table } else { "leads" };
        let reason =
            format!("a trigger or a rule that somebody added keeps it out of {kept_out_of} and says nothing");
        assert_eq!(rejections[0].reason, reason, "{when} {table}");
        let rejected = rejected_offsets(outcome);
        assert_eq!(rejected.len(), 1, "{when} {table}");
        assert_eq!(bench.contents().await, unchanged, "{when} {table}");
        let refused =
            whole.events.iter().find(|event| event.position.offset == rejected[0]).expect("of the batch");
        assert_eq!(refused.event.entidade.id, before[7].entidade.id, "{when} {table}");

        let others = without(&whole, &rejected);
        let count = others.events.len() as u64;
        let applied = store.apply(LOG, &others).await.expect("applied");
        assert_eq!((applied.entities, applied.stale), (count, 0), "{when} {table}");
        // What is there already is not asked of the trigger.
        assert_eq!(
            apply(&*store, others.events.into_iter().map(|event| event.event).collect()).await.stale,
            count
        );
    }
}

async fn a_trigger_that_keeps_events_out_of_the_rollup_is_told<B: StoreBench>() {
    for when in ["INSERT", "UPDATE"] {
        let bench = B::new().await;
        let store = bench.open();
        if when == "UPDATE" {
            apply(&*store, vec![lead(1, 0, "Ana")]).await;
        }
        bench.execute(&B::silent_trigger(when, "eventos_agregados", "new.total > 0")).await;
        let whole = batch(claimed(&*store).await, (10..20).map(|id| lead(id, 0, "Ana")).collect());
        let unchanged = bench.contents().await;
        let outcome = store.apply(LOG, &whole).await;
        let Err(ApplyError::Fault(fault)) = outcome else { panic!("expected a fault, got {outcome:?}") };
        assert_eq!(fault.kind, FaultKind::Misconfigured);
        assert!(fault.message.contains("out of eventos_agregados and says nothing"), "{fault}");
        assert_eq!(bench.contents().await, unchanged);
    }
}

async fn a_trigger_that_refuses_a_whole_table_parks_none_of_it_and_is_obeyed_no_more_once_it_is_gone<
    B: StoreBench,
>() {
    let bench = B::new().await;
    let store = bench.open();
    bench.execute(B::REFUSING_TRIGGER).await;
    let mut events: Vec<Event> = (0..20).map(|id| lead(id, 0, "proibida")).collect();
    events.push(session(77));
    let whole = batch(claimed(&*store).await, events);
    let outcome = store.apply(LOG, &whole).await;
    let Err(ApplyError::Fault(fault)) = outcome else { panic!("expected a fault, got {outcome:?}") };
    assert_eq!(fault.kind, FaultKind::Misconfigured);
    assert!(fault.message.contains("every row of leads is refused, 20 in sequence"), "{fault}");
    assert!(bench.contents().await.is_empty());

    bench.execute(&B::drop_trigger("leads")).await;
    assert_eq!(store.apply(LOG, &whole).await.expect("applied").inserted, 21);
}

async fn rows_refused_one_batch_after_the_other_are_parked_until_it_is_plain_that_the_trigger_is_to_blame<
    B: StoreBench,
>() {
    let bench = B::new().await;
    let store = bench.open();
    bench.execute(B::REFUSING_TRIGGER).await;
    for id in 0..7 {
        let whole = batch(claimed(&*store).await, vec![lead(id, 0, "proibida")]);
        let rejected = rejected_offsets(store.apply(LOG, &whole).await);
        store.apply(LOG, &without(&whole, &rejected)).await.expect("applied");
    }
    let eighth = batch(claimed(&*store).await, vec![lead(8, 0, "proibida")]);
    let outcome = store.apply(LOG, &eighth).await;
    assert!(matches!(outcome, Err(ApplyError::Fault(_))), "{outcome:?}");
    // A row that is taken shows that the trigger chooses.
    let both = batch(claimed(&*store).await, vec![lead(8, 0, "proibida"), lead(9, 0, "Ana")]);
    assert_eq!(rejected_offsets(store.apply(LOG, &both).await).len(), 1);
}

async fn of_an_entity_s_events_the_one_read_last_stays<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let nome = async || bench.texts("SELECT nome FROM leads").await;
    apply(&*store, vec![lead(1, 10, "primeira")]).await;
    let version = lead(1, 10, "primeira").entidade.versao;
    let at = |nome: &str, versao: i64| {
        let mut event = lead(1, 10, nome);
        event.entidade.versao = versao;
        event
    };
    // Read later although its own clock says the same.
    assert_eq!(apply(&*store, vec![at("segunda", version + 1)]).await.entities, 1);
    assert_eq!(nome().await, ["segunda"]);
    // Of equal versions the later offset, in one batch and in the next.
    assert_eq!(
        apply(&*store, vec![at("terceira", version + 2), at("quarta", version + 2)]).await.entities,
        1
    );
    assert_eq!(nome().await, ["quarta"]);
    let applied = apply(&*store, vec![at("terceira", version + 2)]).await;
    assert_eq!((applied.duplicates, applied.entities), (1, 1));
    assert_eq!(nome().await, ["terceira"]);
    // Content that returns moves the entity although its event is known.
    let applied = apply(&*store, vec![at("primeira", version + 3)]).await;
    assert_eq!((applied.duplicates, applied.entities), (1, 1));
    assert_eq!(nome().await, ["primeira"]);
    assert_eq!(bench.number("SELECT versao FROM leads").await, version + 3);
    assert_eq!(apply(&*store, vec![at("segunda", version + 1)]).await.stale, 1);
    assert_eq!(nome().await, ["primeira"]);
    assert_eq!(bench.number("SELECT count(*) FROM eventos_raw").await, 4, "each content is one event");
    assert_eq!(bench.number("SELECT sum(total) FROM eventos_agregados").await, 4);
}

async fn a_failed_batch_leaves_nothing_behind<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let claim = claimed(&*store).await;
    bench.execute("ALTER TABLE eventos_agregados RENAME COLUMN total TO hidden").await;
    let whole = batch(claim, vec![lead(1, 0, "Ana"), session(2)]);
    assert_eq!(kind(store.apply(LOG, &whole).await), FaultKind::Misconfigured);
    bench.execute("ALTER TABLE eventos_agregados RENAME COLUMN hidden TO total").await;
    assert!(bench.contents().await.is_empty());
    assert_eq!(store.applied(LOG).await.expect("offsets"), Some(vec![]));
    assert_eq!(store.apply(LOG, &whole).await.expect("applied").inserted, 2);
}

async fn workers_on_the_same_entities_do_not_get_in_each_other_s_way<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let claims = store.claim(LOG, &[0, 1, 2, 3]).await.expect("claims");
    let work = claims.into_iter().map(|claim| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut first = 0;
            for round in 0..10_i64 {
                let mut events: Vec<Event> = (0..200).map(|id| lead(id, round, "Ana")).collect();
                if claim.partition % 2 == 1 {
                    events.reverse();
                }
                store.apply(LOG, &batch_at(claim, first, events)).await.expect("applied");
                first += 200;
            }
        })
    });
    for worker in futures::future::join_all(work).await {
        worker.expect("no worker fails");
    }
    assert_eq!(bench.number("SELECT count(*) FROM eventos_raw").await, 2_000);
    assert_eq!(bench.number("SELECT sum(total) FROM eventos_agregados").await, 2_000);
    let newest = lead(0, 9, "Ana").entidade.versao;
    assert_eq!(bench.number("SELECT min(versao) FROM leads").await, newest);
}

async fn rollups_count_every_row_in_its_five_minutes_whatever_the_year<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let at = |text: &str| Event { timestamp: instant(text), ..manual("teste", json!({})) };
    let instants = [
        "0001-01-01T00:03:00Z",
        "1600-02-29T23:59:59.999999Z",
        "1969-12-31T23:58:00Z",
        "1969-12-31T23:59:59.999999Z",
        "1970-01-01T00:00:00Z",
        "1970-01-01T00:04:59.999999Z",
        "2026-05-01T12:05:00Z",
        "9999-12-31T23:59:59.999999Z",
    ];
    let applied = apply(&*store, instants.iter().map(|text| at(text)).collect()).await;
    assert_eq!(applied.inserted, 8);
    let rows = store
        .apply(LOG, &batch(claimed(&*store).await, instants.iter().map(|text| at(text)).collect()))
        .await
        .expect("applied");
    assert_eq!(rows.inserted, 8, "manual events are each their own");
    let totals =
        bench.texts("SELECT CAST(total AS text) FROM eventos_agregados ORDER BY janela_inicio").await;
    assert_eq!(totals, ["2", "2", "4", "4", "2", "2"], "in the order of time");
    let begins =
        bench.texts("SELECT CAST(janela_inicio AS text) FROM eventos_agregados ORDER BY janela_inicio").await;
    let begins: Vec<DateTime<Utc>> = begins.iter().map(|text| sluice_instant(text)).collect();
    let expected = [
        "0001-01-01T00:00:00Z",
        "1600-02-29T23:55:00Z",
        "1969-12-31T23:55:00Z",
        "1970-01-01T00:00:00Z",
        "2026-05-01T12:05:00Z",
        "9999-12-31T23:55:00Z",
    ];
    assert_eq!(begins, expected.map(instant));
}

/// As either server spells it.
fn sluice_instant(text: &str) -> DateTime<Utc> {
    let text = text.replace(' ', "T");
    let text = text.strip_suffix("+00").map_or_else(|| text.clone(), |text| format!("{text}Z"));
    instant(&text)
}

async fn texts_numbers_and_documents_at_their_limits_come_back_whole<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let mut deep = json!("fundo");
    for _ in 0..55 {
        deep = json!({"a": [deep]});
    }
    let large = json!({
        "nome": "x".repeat(300_000), "score_qualificacao": i64::MAX, "interesse": ["", "NULL", "\u{10ffff}", "'; --"],
        "localizacao": deep, "telefone": "9223372036854775808", "corretor": 18_446_744_073_709_551_615_u64,
    });
    let smallest = json!({"nome": "", "score_qualificacao": i64::MIN, "localizacao": [1, 0.1, true, "a"]});
    let events = vec![
        lead_with(1, 0, large.clone()),
        lead_with(2, 0, smallest),
        lead_with(3, 0, json!({"localizacao": "\\u0000"})),
    ];
    let stored: Vec<Value> = events.iter().map(|event| encoded(event)["dados"].clone()).collect();
    assert_eq!(apply(&*store, events).await.inserted, 3);
    let rows = bench.texts("SELECT CAST(dados AS text) FROM eventos_raw ORDER BY posicao").await;
    let rows: Vec<Value> = rows.iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
    assert_eq!(rows, stored);
    assert_eq!(bench.texts("SELECT nome FROM leads ORDER BY id").await[0].len(), 300_000);
    let scores = bench.texts("SELECT CAST(score_qualificacao AS text) FROM leads ORDER BY id").await;
    assert_eq!(scores[..2], [i64::MAX.to_string(), i64::MIN.to_string()]);
    let metadata = bench.texts("SELECT CAST(metadata AS text) FROM leads ORDER BY id").await;
    assert!(metadata[0].contains("18446744073709551615"), "not rounded");
}

fn encoded(event: &Event) -> Value {
    serde_json::from_slice(&event.encode()).expect("JSON")
}

#[tokio::test]
async fn the_embedded_store_replaces_a_nul_in_columns_as_postgres_and_keeps_it_elsewhere() {
    let bench = Embedded::new().await;
    let store = bench.open();
    apply(&*store, vec![lead(1, 0, "a\0b"), manual("te\0ste", json!({"a\0": "\0"}))]).await;
    let connection = bench.raw();
    let nome: String = connection.query_row("SELECT nome FROM leads", [], |row| row.get(0)).expect("a row");
    assert_eq!(nome, "a\u{fffd}b");
    let evento: String = connection
        .query_row("SELECT evento FROM eventos_raw WHERE tipo_evento = 'manual'", [], |row| row.get(0))
        .expect("a row");
    assert_eq!(evento, "te\0ste");
    let rollups: i64 = connection
        .query_row("SELECT sum(total) FROM eventos_agregados", [], |row| row.get(0))
        .expect("a row");
    assert_eq!(rollups, 2);
}
