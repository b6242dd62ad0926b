//! Migrations, claims, batches and poison.

use rand::{RngExt as _, distr::Alphanumeric};
use serde_json::json;
use sluice::{
    domain::Event,
    fault::FaultKind,
    log::{Position, StartAt},
    sink::{Applied, ApplyError, Sink, SinkBatch, Span},
    store::postgres::PgStore,
};
use uuid::Uuid;

use super::{LOG, batch, batch_at, claimed, instant, lead, manual, migrated, session};
use crate::support::postgres::TestDatabase;

/// Everything a batch may change, in one text.
async fn contents(database: &TestDatabase) -> String {
    database
        .one(
            "SELECT concat_ws('|',
                (SELECT json_agg(r ORDER BY r.id) FROM (SELECT id, evento, posicao, ingerido_em FROM eventos_raw) r),
                (SELECT json_agg(l ORDER BY l.id) FROM leads l),
                (SELECT json_agg(c ORDER BY c.id) FROM chat_sessions c),
                (SELECT json_agg(a ORDER BY a.janela_inicio, a.evento) FROM eventos_agregados a),
                (SELECT json_agg(o.next_offset ORDER BY o.partition) FROM sluice_offsets o))",
        )
        .await
}

fn rejected_offsets(outcome: Result<Applied, ApplyError>) -> Vec<i64> {
    match outcome {
        Err(ApplyError::Rejected(rejections)) => rejections.iter().map(|r| r.position.offset).collect(),
        other => panic!("expected rejections, got {other:?}"),
    }
}

fn kind(outcome: Result<Applied, ApplyError>) -> FaultKind {
    match outcome {
        Err(ApplyError::Fault(fault)) => fault.kind,
        other => panic!("expected a fault, got {other:?}"),
    }
}

/// Too long for an index entry, and random so that it can't be compressed into one.
fn endless_evento() -> String {
    rand::rng().sample_iter(Alphanumeric).take(20_000).map(char::from).collect()
}

fn without(batch: &SinkBatch, offsets: &[i64]) -> SinkBatch {
    let mut rest = batch.clone();
    rest.events.retain(|event| !offsets.contains(&event.position.offset));
    rest
}

#[tokio::test]
async fn migrations_run_twice_and_by_several_processes_at_once() {
    let database = TestDatabase::create().await;
    let stores: Vec<PgStore> =
        (0..4).map(|_| PgStore::connect(&database.settings()).expect("a store")).collect();
    let outcomes = futures::future::join_all(stores.iter().map(PgStore::prepare)).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    stores[0].prepare().await.expect("nothing is left to do");
    let health = stores[0].health().await.expect("it answers");
    assert_eq!(health.counts, [("eventos_raw".into(), 0), ("leads".into(), 0), ("chat_sessions".into(), 0)]);
    let commented: i64 = database
        .one(
            "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
              AND relname <> '_sqlx_migrations' AND obj_description(oid) IS NOT NULL",
        )
        .await;
    assert_eq!(commented, 11, "every table says what it is for");
}

#[tokio::test]
async fn a_batch_lands_in_every_table_with_every_column() {
    let (database, store) = migrated().await;
    let claim = claimed(&store).await;
    assert_eq!(claim.start, StartAt::Beginning, "nothing was applied yet");
    let events = vec![lead(1, 0, "Ana"), session(2), manual("teste", json!({"a": 1})), lead(3, 0, "Beto")];
    let applied = store.apply(LOG, &batch(claim, events)).await.expect("applied");
    assert_eq!(applied, Applied { inserted: 4, duplicates: 0, entities: 3, stale: 0 });

    let interesse: Vec<String> = database.one("SELECT interesse FROM leads WHERE nome = 'Ana'").await;
    assert_eq!(interesse, ["apartamento", "a \"b\", {c}\\"]);
    let differing: i64 = database
        .one("SELECT count(*) FROM leads l JOIN eventos_raw r ON r.id = l.evento_id
              WHERE (to_jsonb(l) - '{metadata,versao,evento_id,sincronizado_em,created_at,updated_at}'::text[])
                 <> (r.dados - '{created_at,updated_at}'::text[])
                 OR l.metadata <> r.metadata OR l.metadata->>'corretor' <> 'Bia' OR l.created_at IS NULL
                 OR l.updated_at <> r.timestamp OR l.versao <> r.versao")
        .await;
    assert_eq!(differing, 0, "a lead's columns hold its event's row");
    let differing: i64 = database
        .one(
            "SELECT count(*) FROM chat_sessions c JOIN eventos_raw r ON r.id = c.evento_id
              WHERE (to_jsonb(c) - '{metadata,versao,evento_id,sincronizado_em,started_at}'::text[])
                 <> (r.dados - 'started_at') OR c.started_at <> r.timestamp",
        )
        .await;
    assert_eq!(differing, 0, "a session's columns hold its event's row");
    let rollup: String = database
        .one(
            "SELECT string_agg(format('%s %s %s %s', categoria, evento, total, soma_valor), ', '
                  ORDER BY categoria) FROM eventos_agregados
              WHERE janela_inicio = '2026-05-01T12:00:00Z' AND janela_fim = '2026-05-01T12:05:00Z'",
        )
        .await;
    assert_eq!(rollup, "engajamento chat_session 1 7, teste_manual teste 1 1, vendas lead_qualificado 2 170");
    assert_eq!(store.applied(LOG).await.expect("offsets"), Some(vec![Position { partition: 0, offset: 4 }]));
    assert_eq!(store.applied("other").await.expect("offsets"), Some(vec![]), "logs do not mix");
}

#[tokio::test]
async fn the_same_events_delivered_again_change_nothing() {
    let (database, store) = migrated().await;
    let events = vec![lead(1, 0, "Ana"), session(2), manual("teste", json!({}))];
    store.apply(LOG, &batch(claimed(&store).await, events.clone())).await.expect("applied");
    let before = contents(&database).await;

    // As after a log was rewound: other offsets, the same events.
    let claim = claimed(&store).await;
    assert_eq!(claim.start, StartAt::Offset(3));
    let applied = store.apply(LOG, &batch(claim, events)).await.expect("applied");
    assert_eq!(applied, Applied { inserted: 0, duplicates: 3, entities: 0, stale: 2 });
    assert_eq!(contents(&database).await.replace("[6]", "[3]"), before);
}

#[tokio::test]
async fn a_worker_that_lost_its_claim_changes_nothing() {
    let (database, store) = migrated().await;
    let old = claimed(&store).await;
    let new = claimed(&PgStore::connect(&database.settings()).expect("a store")).await;
    assert!(new.epoch > old.epoch);
    let before = contents(&database).await;
    assert_eq!(kind(store.apply(LOG, &batch(old, vec![lead(1, 0, "Ana")])).await), FaultKind::Fenced);
    let poison = manual("a\0", json!({}));
    assert_eq!(
        kind(store.apply(LOG, &batch(old, vec![poison])).await),
        FaultKind::Fenced,
        "nor parks anything"
    );
    assert_eq!(contents(&database).await, before);
}

#[tokio::test]
async fn a_batch_that_does_not_start_where_the_store_stands_is_fenced() {
    let (database, store) = migrated().await;
    let claim = claimed(&store).await;
    store
        .apply(LOG, &batch_at(claim, 40, vec![lead(1, 0, "Ana")]))
        .await
        .expect("the first may start anywhere");
    let before = contents(&database).await;
    for first in [40, 42, 0] {
        let outcome = store.apply(LOG, &batch_at(claim, first, vec![lead(1, 5, "Bia")])).await;
        assert_eq!(kind(outcome), FaultKind::Fenced, "{first}");
    }
    assert_eq!(contents(&database).await, before);
    store.apply(LOG, &batch_at(claim, 41, vec![lead(1, 5, "Bia")])).await.expect("the right place");
}

#[tokio::test]
async fn one_fenced_partition_fences_the_whole_batch() {
    let (database, store) = migrated().await;
    let claims = store.claim(LOG, &[1, 0, 1]).await.expect("claims");
    assert_eq!(claims.len(), 2, "a partition named twice is claimed once");
    claimed(&PgStore::connect(&database.settings()).expect("a store")).await;
    let mut both = batch(claims[0], vec![lead(1, 0, "Ana")]);
    let other = batch(claims[1], vec![lead(2, 0, "Beto")]);
    both.events.extend(other.events);
    both.spans.extend(other.spans);
    assert_eq!(kind(store.apply(LOG, &both).await), FaultKind::Fenced);
    assert_eq!(database.one::<i64>("SELECT count(*) FROM eventos_raw").await, 0);
}

#[tokio::test]
async fn a_span_without_events_moves_the_offset() {
    let (_database, store) = migrated().await;
    let claim = claimed(&store).await;
    let span = Span { partition: 0, epoch: claim.epoch, first: 0, next: 9 };
    let applied =
        store.apply(LOG, &SinkBatch { events: Vec::new(), spans: vec![span] }).await.expect("applied");
    assert_eq!(applied, Applied::default());
    assert_eq!(claimed(&store).await.start, StartAt::Offset(9));
}

#[tokio::test]
async fn an_event_without_a_span_is_refused() {
    let (_database, store) = migrated().await;
    let mut stray = batch(claimed(&store).await, vec![lead(1, 0, "Ana")]);
    stray.spans.clear();
    assert_eq!(kind(store.apply(LOG, &stray).await), FaultKind::Invalid);
}

#[tokio::test]
async fn an_entity_never_goes_back_to_an_older_version() {
    let (database, store) = migrated().await;
    let first = batch(claimed(&store).await, vec![lead(1, 10, "nova")]);
    store.apply(LOG, &first).await.expect("applied");
    let stale = batch(claimed(&store).await, vec![lead(1, 0, "velha"), lead(1, 5, "média")]);
    let applied = store.apply(LOG, &stale).await.expect("applied");
    assert_eq!(applied, Applied { inserted: 2, duplicates: 0, entities: 0, stale: 1 });
    assert_eq!(database.one::<String>("SELECT nome FROM leads").await, "nova");
    let newer = batch(claimed(&store).await, vec![lead(1, 30, "última"), lead(1, 20, "penúltima")]);
    assert_eq!(store.apply(LOG, &newer).await.expect("applied").entities, 1);
    assert_eq!(database.one::<String>("SELECT nome FROM leads").await, "última");
    assert_eq!(database.one::<i64>("SELECT count(*) FROM eventos_raw").await, 5, "every version is kept");
}

#[tokio::test]
async fn an_event_twice_in_a_batch_counts_once() {
    let (database, store) = migrated().await;
    let events = vec![lead(1, 0, "Ana"), lead(1, 0, "Ana"), lead(2, 0, "Beto")];
    let applied = store.apply(LOG, &batch(claimed(&store).await, events)).await.expect("applied");
    assert_eq!(applied, Applied { inserted: 2, duplicates: 1, entities: 2, stale: 0 });
    assert_eq!(database.one::<i64>("SELECT sum(total)::int8 FROM eventos_agregados").await, 2);
}

#[tokio::test]
async fn what_postgres_can_never_store_is_rejected_and_the_rest_is_applied() {
    let (database, store) = migrated().await;
    let claim = claimed(&store).await;
    let mut too_large = manual("teste", json!({}));
    too_large.valor = f64::INFINITY;
    let mut too_early = manual("teste", json!({}));
    too_early.timestamp = instant("-5000-01-01T00:00:00Z");
    let events: Vec<Event> = vec![
        lead(1, 0, "a\0b"),
        lead(2, 0, "Ana"),
        manual("teste", json!({"a": [{"b\0": 1}]})),
        manual("te\0ste", json!({})),
        manual("teste", json!({"a": "only looks like \\u0000"})),
        too_large,
        too_early,
    ];
    let whole = batch(claim, events);
    let rejected = rejected_offsets(store.apply(LOG, &whole).await);
    assert_eq!(rejected, [0, 2, 3, 5, 6]);
    assert_eq!(database.one::<i64>("SELECT count(*) FROM eventos_raw").await, 0);
    let applied = store.apply(LOG, &without(&whole, &rejected)).await.expect("applied");
    assert_eq!(applied.inserted, 2);
    assert_eq!(claimed(&store).await.start, StartAt::Offset(7), "past the rejected ones as well");
}

#[tokio::test]
async fn what_only_the_server_refuses_is_found_among_the_others() {
    let (database, store) = migrated().await;
    let claim = claimed(&store).await;
    let mut events: Vec<Event> = (0..300).map(|i| lead(i, 0, "Ana")).collect();
    events[17] = manual(&endless_evento(), json!({}));
    events[299] = manual(&endless_evento(), json!({}));
    events[120] = lead(120, 0, "proibida");
    database.execute("ALTER TABLE leads ADD CONSTRAINT sem_proibidas CHECK (nome <> 'proibida')").await;
    let whole = batch(claim, events);
    let before = contents(&database).await;
    let outcome = store.apply(LOG, &whole).await;
    let Err(ApplyError::Rejected(rejections)) = &outcome else {
        panic!("expected rejections, got {outcome:?}")
    };
    assert_eq!(
        rejections[1].reason,
        "a constraint is violated (SQLSTATE 23514, constraint sem_proibidas of leads)"
    );
    assert!(rejections.iter().all(|rejection| rejection.reason.len() < 200), "no reason carries a value");
    let rejected = rejected_offsets(outcome);
    assert_eq!(rejected, [17, 120, 299]);
    assert_eq!(contents(&database).await, before, "looking for them left nothing behind");
    assert_eq!(store.apply(LOG, &without(&whole, &rejected)).await.expect("applied").inserted, 297);
}

#[tokio::test]
async fn a_failed_batch_leaves_nothing_behind() {
    let (database, store) = migrated().await;
    let claim = claimed(&store).await;
    let before = contents(&database).await;
    // Entities are written before this table: the failure comes last.
    database.execute("ALTER TABLE eventos_agregados RENAME TO hidden").await;
    let whole = batch(claim, vec![lead(1, 0, "Ana"), session(2)]);
    assert_eq!(kind(store.apply(LOG, &whole).await), FaultKind::Misconfigured);
    database.execute("ALTER TABLE hidden RENAME TO eventos_agregados").await;
    assert_eq!(contents(&database).await, before);
    assert_eq!(store.apply(LOG, &whole).await.expect("applied").inserted, 2);
}

#[tokio::test]
async fn workers_on_the_same_entities_do_not_deadlock() {
    let (database, store) = migrated().await;
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
    assert_eq!(database.one::<i64>("SELECT count(*) FROM eventos_raw").await, 2_000);
    assert_eq!(database.one::<i64>("SELECT sum(total)::int8 FROM eventos_agregados").await, 2_000);
    let newest = lead(0, 9, "Ana").entidade.versao;
    assert_eq!(database.one::<i64>("SELECT min(versao) FROM leads").await, newest);
}

#[tokio::test]
async fn a_store_comes_back_when_the_server_ended_its_sessions() {
    let (database, store) = migrated().await;
    let claim = claimed(&store).await;
    database
        .execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                  WHERE datname = current_database() AND application_name = 'sluice'",
        )
        .await;
    let whole = batch(claim, vec![lead(1, 0, "Ana")]);
    let outcome = match store.apply(LOG, &whole).await {
        Err(ApplyError::Fault(fault)) => {
            assert_eq!(fault.kind, FaultKind::Transient, "{fault}");
            store.apply(LOG, &whole).await
        }
        other => other,
    };
    assert_eq!(outcome.expect("applied").inserted, 1);
    assert_eq!(database.one::<Uuid>("SELECT id FROM leads").await, Uuid::from_u128(1));
}
