//! What a batch of many new events becomes in Postgres, which is copied where the table is as sluice made it: the same as
//! by the statement that writes few of them, whatever the rows are and whatever somebody made of the table.

use serde_json::json;
use sluice::{
    domain::Event,
    sink::{ApplyError, Sink},
};
use sqlx::Executor;

use crate::{
    store_postgres::migrated,
    support::{
        postgres::TestDatabase,
        stores::{
            LOG, apply, batch, claimed, instant, lead, lead_with, manual, rejected_offsets, session, without,
        },
    },
};

/// More than are written one statement at a time.
const MANY: u32 = 300;

/// Rows of the last batch that were not copied: a copy writes in a transaction within the batch's.
const STATED: &str = "SELECT count(*) FROM eventos_raw WHERE xmin = (SELECT xmin FROM sluice_offsets)";

const COUNTED: &str =
    "SELECT concat_ws(' ', sum(total), sum(soma_valor), max(categoria)) FROM eventos_agregados";
const THERE: &str = "SELECT concat_ws(' ', count(*), sum(valor)::float8, max(categoria)) FROM eventos_raw";

fn many() -> Vec<Event> {
    (1..=MANY).map(|id| lead(id.into(), 0, "Ana")).collect()
}

/// Events of every kind, whose values lie at the edges of what their columns hold.
fn odd() -> Vec<Event> {
    let mut events: Vec<Event> = (0..MANY / 2)
        .map(|id| {
            let kind = usize::try_from(id % 4).expect("small");
            let minutes = [0, -200_000_000, 3_000_000_000, 1][kind];
            let nome = ["", "a \"b\", {c}\\ \n\t", "São \u{1f680}", "\u{0} nulo"][kind];
            let dados = json!({
                "nome": nome,
                "score_qualificacao": id, "email": null, "interesse": [["a"], null],
                "valor": 1e300, "n": 12_345_678_901_234_567_890_u64, "longo": "x".repeat(9_000),
            });
            lead_with(id.into(), minutes, dados)
        })
        .collect();
    events.extend((MANY / 2..MANY - 2).map(|id| session(id.into())));
    events.extend([manual("evento 'à mão'", json!({"a": {"b": [1.50, -0.0]}})), {
        let mut event = manual("antigo", json!({}));
        (event.valor, event.timestamp) = (-1e15, instant("-4711-01-01T00:00:00.000001Z"));
        event
    }]);
    events
}

/// All of the tables that a batch writes, but for when.
async fn contents(database: &TestDatabase) -> String {
    database
        .one(
            "SELECT concat_ws('|',
                (SELECT string_agg((to_jsonb(e) - 'processado_em' - 'ingerido_em')::text, ',' ORDER BY e.id) FROM eventos_raw e),
                (SELECT string_agg((to_jsonb(l) - 'processado_em')::text, ',' ORDER BY l.id) FROM leads l),
                (SELECT string_agg(a::text, ',' ORDER BY a.janela_inicio, a.evento) FROM eventos_agregados a))",
        )
        .await
}

#[tokio::test]
async fn many_events_become_what_few_at_a_time_do() {
    let ((copied, many), (stated, few)) = tokio::join!(migrated(), migrated());
    let whole = batch(claimed(&many).await, odd());
    assert_eq!(many.apply(LOG, &whole).await.expect("applied").inserted, u64::from(MANY));
    assert_eq!(copied.one::<i64>(STATED).await, 0);
    for piece in whole.events.chunks(100) {
        let part = batch(claimed(&few).await, piece.iter().map(|event| event.event.clone()).collect());
        assert_eq!(part.events[0].position, piece[0].position);
        assert_eq!(few.apply(LOG, &part).await.expect("applied").inserted, 100);
        assert_eq!(stated.one::<i64>(STATED).await, 100);
    }
    assert_eq!(contents(&copied).await, contents(&stated).await);
    let again = apply(&many, whole.events.into_iter().map(|event| event.event).collect()).await;
    assert_eq!((again.inserted, again.duplicates), (0, u64::from(MANY)));
    assert_eq!(contents(&copied).await, contents(&stated).await);
}

#[tokio::test]
async fn what_somebody_made_of_the_table_is_minded() {
    for (change, categoria) in [
        ("ALTER TABLE eventos_raw ALTER valor TYPE numeric", "vendas"),
        ("ALTER TABLE eventos_raw ALTER versao TYPE float8", "vendas"),
        ("ALTER TABLE eventos_raw ALTER metadata TYPE text", "vendas"),
        ("CREATE DOMAIN nome AS text; ALTER TABLE eventos_raw ALTER usuario TYPE nome", "vendas"),
        (
            "ALTER TABLE eventos_raw ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
             CREATE POLICY tudo ON eventos_raw USING (true) WITH CHECK (true)",
            "vendas",
        ),
        (
            "CREATE FUNCTION muda() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN NEW.valor := 1.5; NEW.categoria := 'mudada'; RETURN NEW; END $$;
             CREATE TRIGGER muda BEFORE INSERT ON eventos_raw FOR EACH ROW EXECUTE FUNCTION muda()",
            "mudada",
        ),
    ] {
        let (database, store) = migrated().await;
        database.execute(change).await;
        let whole = batch(claimed(&store).await, many());
        assert_eq!(store.apply(LOG, &whole).await.expect(change).inserted, u64::from(MANY), "{change}");
        assert_eq!(database.one::<i64>(STATED).await, i64::from(MANY), "{change}");
        assert_eq!(database.one::<String>(COUNTED).await, database.one::<String>(THERE).await, "{change}");
        let values = "SELECT concat_ws(' ', max(categoria), max(usuario), sum(versao)::int8, max(metadata::jsonb->>'nome'))
                      FROM eventos_raw";
        let sum: i64 = many().iter().map(|event| event.entidade.versao).sum();
        let usuario = &many()[0].usuario;
        assert_eq!(
            database.one::<String>(values).await,
            format!("{categoria} {usuario} {sum} Ana"),
            "{change}"
        );
    }
}

#[tokio::test]
async fn a_trigger_that_is_made_meanwhile_is_minded() {
    let (database, store) = migrated().await;
    let whole = batch(claimed(&store).await, many());
    let mut other = database.connection().await;
    let trigger = "BEGIN;
         CREATE FUNCTION cala() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
         CREATE TRIGGER cala BEFORE INSERT ON eventos_raw FOR EACH ROW WHEN (new.valor = 77) EXECUTE FUNCTION cala()";
    other.execute(sqlx::raw_sql(trigger)).await.expect("made, and not committed");
    let applying = tokio::spawn({
        let store = store.clone();
        async move { store.apply(LOG, &whole).await }
    });
    database.waits_with("LOCK TABLE eventos_raw%").await;
    other.execute("COMMIT").await.expect("committed");
    assert_eq!(applying.await.expect("no panic").expect("applied").inserted, u64::from(MANY));
    assert_eq!(database.one::<i64>(STATED).await, i64::from(MANY));
}

#[tokio::test]
async fn an_event_that_somebody_else_inserts_meanwhile_is_there_once_and_counted_once() {
    let (database, store) = migrated().await;
    let events = many();
    let whole = batch(claimed(&store).await, events.clone());
    let mut other = database.inserting(events[7].id).await;
    let applying = tokio::spawn({
        let store = store.clone();
        async move { store.apply(LOG, &whole).await }
    });
    database.waits_with("COPY eventos_raw%").await;
    other.execute("COMMIT").await.expect("committed");
    let applied = applying.await.expect("no panic").expect("applied");
    assert_eq!((applied.inserted, applied.duplicates), (u64::from(MANY) - 1, 1));
    assert_eq!(database.one::<i64>("SELECT count(*) FROM eventos_raw").await, i64::from(MANY));
    assert_eq!(
        database.one::<i64>("SELECT sum(total)::int8 FROM eventos_agregados").await,
        i64::from(MANY) - 1
    );
}

#[tokio::test]
async fn what_a_constraint_refuses_of_many_is_found_and_the_others_are_copied() {
    let (database, store) = migrated().await;
    database.execute("ALTER TABLE eventos_raw ADD CHECK (entidade_id NOT LIKE '%077')").await;
    let whole = batch(claimed(&store).await, many());
    let rejected = rejected_offsets(store.apply(LOG, &whole).await);
    assert_eq!(rejected, [0x77 - 1]);
    let applied = store.apply(LOG, &without(&whole, &rejected)).await.expect("applied");
    assert_eq!(applied.inserted, u64::from(MANY) - 1);
    assert_eq!(database.one::<i64>(STATED).await, 0, "they are copied");
    assert_eq!(database.one::<String>(COUNTED).await, database.one::<String>(THERE).await);
}

#[tokio::test]
async fn a_rollup_that_does_not_take_what_is_copied_is_told() {
    let (database, store) = migrated().await;
    database
        .execute(
            "CREATE FUNCTION cala() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
             CREATE TRIGGER cala BEFORE INSERT ON eventos_agregados FOR EACH ROW EXECUTE FUNCTION cala()",
        )
        .await;
    let whole = batch(claimed(&store).await, many());
    let outcome = store.apply(LOG, &whole).await;
    let Err(ApplyError::Fault(fault)) = outcome else { panic!("expected a fault, got {outcome:?}") };
    assert!(fault.message.contains("out of eventos_agregados and says nothing"), "{fault}");
}

#[tokio::test]
async fn what_was_counted_before_it_was_trimmed_is_not_counted_again() {
    let (database, store) = migrated().await;
    let whole = batch(claimed(&store).await, many());
    for (i, event) in whole.events[..20].iter().enumerate() {
        let (event, versao) = (&event.event, event.event.entidade.versao);
        // Ten are of the past, ten have come back.
        let below = if i % 2 == 0 { versao } else { versao + 1 };
        let trimmed = format!(
            "INSERT INTO sluice_trimmed (entidade_id, tipo_evento, id, below, janela_inicio, categoria, evento, valor)
             VALUES ('{}', '{}', '{}', {below}, now(), 'x', 'x', 0)",
            event.entidade.id, event.tipo_evento, event.id
        );
        database.execute(&trimmed).await;
    }
    let applied = store.apply(LOG, &whole).await.expect("applied");
    assert_eq!(applied.inserted, u64::from(MANY) - 10);
    assert_eq!(database.one::<i64>(STATED).await, 0, "they are copied");
    assert_eq!(
        database.one::<i64>("SELECT sum(total)::int8 FROM eventos_agregados").await,
        i64::from(MANY) - 20
    );
}
