//! What only Postgres has of the store: migrations by several processes, its own types, what the server refuses,
//! sessions. Everything else is in `store_conformance`.

use std::time::Duration;

use rand::{RngExt as _, distr::Alphanumeric};
use serde_json::json;
use sluice::{
    domain::{Catalog, Event, TableName},
    fault::FaultKind,
    log::{Extent, StartAt},
    sink::{ApplyError, Sink},
    source::Condition,
    store::{
        Appended, Begun, Difference, DifferenceKind, Erasures as _, EventFilter, EventOrder, Ledger as _,
        Operations, QueryLimits, Questions, ReconcileReport, Store as _, SyncEnd, SyncProgress, SyncState,
        postgres::PgStore, tables::StoreTable,
    },
};
use sqlx::{Connection as _, Executor};
use uuid::Uuid;

use crate::support::{
    connect, eventually,
    postgres::TestDatabase,
    service,
    stores::{
        LOG, apply, batch, begun, claimed, ended, from_row, lead, lead_with, manual, new_sync,
        rejected_offsets, session, state, verbatim, without,
    },
    table,
};

pub async fn migrated() -> (TestDatabase, PgStore) {
    let database = TestDatabase::create().await;
    let store = PgStore::connect(&database.settings(), Catalog::built_in()).expect("a store");
    store.prepare().await.expect("migrations run");
    (database, store)
}

/// Everything a batch may change, in one text.
async fn contents(database: &TestDatabase) -> String {
    database
        .one(
            "SELECT concat_ws('|',
                (SELECT json_agg(r ORDER BY r.id) FROM (SELECT id, evento, posicao, processado_em FROM eventos_raw) r),
                (SELECT json_agg(l ORDER BY l.id) FROM leads l),
                (SELECT json_agg(c ORDER BY c.id) FROM chat_sessions c),
                (SELECT json_agg(a ORDER BY a.janela_inicio, a.evento) FROM eventos_agregados a),
                (SELECT json_agg(o.next_offset ORDER BY o.partition) FROM sluice_offsets o))",
        )
        .await
}

/// Too long for an index entry, and random so that it can't be compressed into one.
fn endless_evento() -> String {
    rand::rng().sample_iter(Alphanumeric).take(20_000).map(char::from).collect()
}

async fn end_sessions(database: &TestDatabase, name: &str) {
    database
        .execute(&format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = '{name}'"
        ))
        .await;
}

#[tokio::test]
async fn migrations_run_twice_and_by_several_processes_at_once() {
    let database = TestDatabase::create().await;
    let stores: Vec<PgStore> = (0..4)
        .map(|_| PgStore::connect(&database.settings(), Catalog::built_in()).expect("a store"))
        .collect();
    let outcomes = futures::future::join_all(stores.iter().map(PgStore::prepare)).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    stores[0].prepare().await.expect("nothing is left to do");
    let counts = stores[0].counts().await.expect("it answers");
    assert_eq!(counts, [("eventos_raw".into(), 0), ("leads".into(), 0), ("chat_sessions".into(), 0)]);
    let commented: i64 = database
        .one(
            "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
              AND relname <> '_sqlx_migrations' AND obj_description(oid) IS NOT NULL",
        )
        .await;
    let tables: i64 = database
        .one(
            "SELECT count(*) - 1 FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
        )
        .await;
    assert_eq!(commented, tables, "every table says what it is for");
}

#[tokio::test]
async fn a_table_of_entities_has_the_types_comments_and_indexes_its_definition_asks_for() {
    let (database, store) = migrated().await;
    let described = StoreTable::of(table("leads"));
    let columns: String = database
        .one(
            "SELECT string_agg(attname || ' ' || replace(format_type(atttypid, atttypmod), 'timestamp with time zone', 'timestamptz')
                    || ' ' || col_description(attrelid, attnum), E'\n' ORDER BY attnum)
             FROM pg_attribute WHERE attrelid = 'leads'::regclass AND attnum > 0",
        )
        .await;
    let expected: Vec<String> = described
        .columns
        .iter()
        .map(|column| format!("{} {} {}", column.name, column.kind, column.meaning))
        .collect();
    assert_eq!(columns.lines().collect::<Vec<_>>(), expected);
    assert_eq!(database.one::<String>("SELECT obj_description('leads'::regclass)").await, described.about);
    let indexes: Vec<String> = database
        .one(
            "SELECT array_agg(indexdef ORDER BY indexname) FROM pg_indexes WHERE tablename IN ('leads', 'chat_sessions')
             AND indexname NOT LIKE '%_pkey'",
        )
        .await;
    assert_eq!(
        indexes,
        [
            "CREATE INDEX \"chat_sessions.lead_id\" ON public.chat_sessions USING hash (lead_id)",
            "CREATE INDEX \"chat_sessions.started_at\" ON public.chat_sessions USING btree (started_at)",
            "CREATE INDEX \"leads.created_at\" ON public.leads USING btree (created_at)",
            "CREATE INDEX \"leads.email\" ON public.leads USING hash (lower(email))",
        ]
    );
    database.execute("ALTER TABLE leads DROP COLUMN email").await;
    store.prepare().await.expect("the column is made anew");
    let index: i64 = database.one("SELECT count(*) FROM pg_indexes WHERE indexname = 'leads.email'").await;
    assert_eq!(index, 1, "with its index");
}

#[tokio::test]
async fn schemas_of_one_database_hold_stores_that_know_nothing_of_each_other() {
    let database = TestDatabase::create().await;
    // What a project's own table looks like to a sluice that shares its database.
    database.execute("CREATE TABLE public.leads (id bigint); CREATE SCHEMA a; CREATE SCHEMA b").await;
    let mut held = Vec::new();
    for schema in ["a", "b"] {
        let mut settings = database.settings();
        let url = format!("{}?options=-c%20search_path%3D{schema},public", database.url());
        settings.url = url.into();
        let store = PgStore::connect(&settings, Catalog::built_in()).expect("a store");
        store.prepare().await.expect("its tables are made");
        assert_eq!(apply(&store, vec![lead(1, 0, schema)]).await.entities, 1);
        held.push(begun(&store, table("leads")).await);
        assert_eq!(state(&store, held[held.len() - 1].0).await, SyncState::Running);
        assert_eq!(store.facts().await.expect("facts").pending_migrations, 0);
    }
    assert_eq!(database.one::<String>("SELECT string_agg(nome, ',') FROM a.leads").await, "a");
    assert_eq!(database.one::<String>("SELECT string_agg(nome, ',') FROM b.leads").await, "b");
    assert_eq!(database.one::<i64>("SELECT count(*) FROM public.leads").await, 0);
}

#[tokio::test]
async fn a_value_of_any_length_can_be_looked_up_by() {
    let (_database, store) = migrated().await;
    let long = endless_evento();
    apply(&store, vec![lead_with(1, 0, json!({"email": long}))]).await;
    let found =
        store.entities_by(table("leads"), "email", &long.to_uppercase(), 9).await.expect("it answers");
    assert_eq!(found.len(), 1, "no index refuses it");
}

#[tokio::test]
async fn what_was_appended_last_is_looked_up_without_reading_what_else_is_remembered() {
    let (database, store) = migrated().await;
    // As in a first sync: the server has not looked at the tables yet, nor will it.
    database
        .execute(&format!(
            "ALTER TABLE sluice_appended SET (autovacuum_enabled = off);
             ALTER TABLE sluice_parked_letters SET (autovacuum_enabled = off);
             ALTER TABLE sluice_resolved_letters SET (autovacuum_enabled = off);
             INSERT INTO sluice_appended SELECT '{LOG}', 'leads', md5(n::text), gen_random_uuid(), n FROM generate_series(1, 50000) AS n;
             INSERT INTO sluice_parked_letters
                 SELECT '{LOG}', 0, n, gen_random_uuid(), 'leads', md5(n::text) FROM generate_series(1, 50000) AS n;
             INSERT INTO sluice_resolved_letters
                 SELECT '{LOG}', 7, n, gen_random_uuid(), 'discarded', 'ana' FROM generate_series(1, 50000) AS n"
        ))
        .await;
    let entities: Vec<String> = database
        .connection()
        .await
        .fetch_all("SELECT md5(n::text) FROM generate_series(20001, 21000) AS n")
        .await
        .expect("names")
        .iter()
        .map(|row| sqlx::Row::get(row, 0))
        .collect();
    let (_, mut lease, _) = begun(&store, table("leads")).await;
    // A statement is planned for any values once it was run a few times.
    for _ in 0..8 {
        assert_eq!(lease.last_appended(&entities).await.expect("it answers").len(), 1_000);
    }
    lease.finish(ended(SyncState::Succeeded)).await.expect("it finishes");
    let extents: Vec<Extent> =
        (0..10).map(|n| Extent { partition: 7, low: n * 100, high: n * 100 + 10 }).collect();
    assert_eq!(store.parked(LOG, table("leads"), &entities).await.expect("letters").len(), 1_000);
    for round in 0..8 {
        assert_eq!(store.settled_count(LOG, &extents).await.expect("a count"), 99);
        let leads = TableName::from(table("leads"));
        let settled = store.settle_mended(LOG, &leads, &entities).await.expect("settled");
        assert_eq!(settled, if round == 0 { 1_000 } else { 0 });
    }
    // What a session has read is told when it ends.
    store.close().await;
    let read = async |table: &str| -> i64 {
        let sql = format!(
            "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = '{table}'"
        );
        database.one(&sql).await
    };
    eventually("the sessions have told", async || {
        read("sluice_appended").await >= 8_000 && read("sluice_parked_letters").await >= 1_000
    })
    .await;
    let (appended, parked, settled) = (
        read("sluice_appended").await,
        read("sluice_parked_letters").await,
        read("sluice_resolved_letters").await,
    );
    assert!(appended < 8_100, "{appended} rows of 50,000 were read for 8 times 1,000 entities");
    assert!(parked < 4_000, "{parked} rows were read to settle 1,000 letters");
    assert!(settled < 4_000, "{settled} rows were read to count 99 letters 8 times");
    // An index that is read whole, to be met with another, gives no row.
    let sql =
        "SELECT sum(idx_tup_read)::int8 FROM pg_stat_user_indexes WHERE relname = 'sluice_parked_letters'";
    let of_indices: i64 = database.one(sql).await;
    assert!(
        of_indices < 20_000,
        "{of_indices} entries were read to look 9 times for letters of 1,000 entities"
    );
}

#[tokio::test]
async fn every_column_holds_what_its_event_s_row_holds() {
    let (database, store) = migrated().await;
    apply(&store, vec![lead(1, 0, "Ana"), session(2), manual("teste", json!({"a": 1})), lead(3, 0, "Beto")])
        .await;

    let interesse: Vec<String> = database.one("SELECT interesse FROM leads WHERE nome = 'Ana'").await;
    assert_eq!(interesse, ["apartamento", "a \"b\", {c}\\"]);
    let differing: i64 = database
        .one(
            "SELECT count(*) FROM leads l JOIN eventos_raw r ON r.id = l.evento_id
              WHERE (to_jsonb(l) - '{metadata,versao,evento_id,processado_em,created_at,updated_at}'::text[])
                 <> (r.dados - '{created_at,updated_at,corretor}'::text[])
                 OR l.metadata <> r.metadata OR l.metadata->>'corretor' <> 'Bia' OR l.created_at IS NULL
                 OR l.updated_at <> r.timestamp OR l.versao <> r.versao",
        )
        .await;
    assert_eq!(differing, 0, "a lead's columns hold its event's row");
    let differing: i64 = database
        .one(
            "SELECT count(*) FROM chat_sessions c JOIN eventos_raw r ON r.id = c.evento_id
              WHERE (to_jsonb(c) - '{metadata,versao,evento_id,processado_em,started_at}'::text[])
                 <> (r.dados - 'started_at') OR c.started_at <> r.timestamp",
        )
        .await;
    assert_eq!(differing, 0, "a session's columns hold its event's row");
}

#[tokio::test]
async fn a_nul_in_an_envelope_s_own_texts_is_rejected_and_the_rest_is_applied() {
    let (database, store) = migrated().await;
    let claim = claimed(&store).await;
    let events: Vec<Event> = vec![
        lead(1, 0, "a\0b"),
        Event { usuario: "a\0b".to_owned(), ..lead(2, 0, "Ana") },
        manual("teste", json!({"a": [{"b\0": 1}]})),
        manual("te\0ste", json!({})),
        manual("teste", json!({"a": "only looks like \\u0000"})),
    ];
    let whole = batch(claim, events);
    let rejected = rejected_offsets(store.apply(LOG, &whole).await);
    assert_eq!(rejected, [1, 3]);
    assert_eq!(database.one::<i64>("SELECT count(*) FROM eventos_raw").await, 0);
    let applied = store.apply(LOG, &without(&whole, &rejected)).await.expect("applied");
    assert_eq!((applied.inserted, applied.replaced), (3, 2), "what stands in rows and metadata is replaced");
    assert_eq!(claimed(&store).await.start, StartAt::Offset(5), "past the rejected ones as well");
}

#[tokio::test]
async fn numbers_at_their_limits_are_taken_and_their_row_can_be_read_again() {
    let (_database, store) = migrated().await;
    let edges = [
        "1e15990".to_owned(),
        "9".repeat(15_990),
        format!("0.{}e-7900", "1".repeat(8_000)),
        format!("-{}.5e7900", "1".repeat(8_000)),
    ];
    let many = "1e15000,".repeat(50_000);
    let row = format!("{{\"id\":\"{}\",\"corretor\":[{},{many}0]}}", Uuid::from_u128(1), edges.join(","));
    let applied = apply(&store, vec![from_row(table("leads"), &verbatim(row), 1)]).await;
    assert_eq!((applied.inserted, applied.entities), (1, 1));
    assert!(
        applied.replaced > 48_000,
        "written out they would be longer than any text: {}",
        applied.replaced
    );
    let page = store.events(&EventFilter::default(), EventOrder::Newest, None, 1).await.expect("it is read");
    let dados = page.events[0].dados.as_str();
    assert!(dados.contains(&edges[1]) && dados.contains("\"1e15000\"") && dados.len() < 40_000_000);
}

#[tokio::test]
async fn a_trigger_that_refuses_everything_parks_nothing() {
    let (database, store) = migrated().await;
    database
        .execute(
            "CREATE FUNCTION recusa() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'não'; END $$;
             CREATE TRIGGER recusa BEFORE INSERT ON eventos_raw FOR EACH ROW EXECUTE FUNCTION recusa()",
        )
        .await;
    let whole = batch(claimed(&store).await, (0..20).map(|id| lead(id, 0, "Ana")).collect());
    let outcome = store.apply(LOG, &whole).await;
    let Err(ApplyError::Fault(fault)) = outcome else { panic!("expected a fault, got {outcome:?}") };
    assert_eq!(fault.kind, FaultKind::Misconfigured);
    assert!(fault.to_string().contains("every row of leads is refused, 20 in sequence"), "{fault}");
}

#[tokio::test]
async fn what_somebody_added_to_the_tables_is_told() {
    let (database, store) = migrated().await;
    assert!(store.facts().await.expect("facts").additions.is_empty(), "sluice adds none itself");
    database
        .execute(
            "CREATE FUNCTION pula() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
             CREATE TRIGGER pula BEFORE UPDATE ON leads FOR EACH ROW EXECUTE FUNCTION pula();
             CREATE TRIGGER pausada BEFORE UPDATE ON leads FOR EACH ROW EXECUTE FUNCTION pula();
             ALTER TABLE leads DISABLE TRIGGER pausada;
             CREATE RULE nada AS ON DELETE TO chat_sessions DO INSTEAD NOTHING;
             ALTER TABLE eventos_raw ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        )
        .await;
    assert_eq!(
        store.facts().await.expect("facts").additions,
        ["row-level security on eventos_raw", "the rule nada on chat_sessions", "the trigger pula on leads"]
    );
}

#[tokio::test]
async fn a_table_that_somebody_gave_a_column_which_must_be_filled_is_told_as_taking_no_row() {
    let (database, store) = migrated().await;
    let told = async || {
        let told = store.refused_tables().await.expect("tables");
        assert_eq!(store.facts().await.expect("facts").refused.len(), told.len(), "doctor tells the same");
        told.into_iter().map(|(table, fault)| (table, fault.to_string())).collect::<Vec<_>>()
    };
    database
        .execute(
            "ALTER TABLE chat_sessions ADD COLUMN vazia int, ADD COLUMN cheia int NOT NULL DEFAULT 1,
                 ADD COLUMN numero int GENERATED ALWAYS AS IDENTITY;
             ALTER TABLE leads ALTER COLUMN nome SET NOT NULL",
        )
        .await;
    assert_eq!(told().await, [], "these take rows");
    database
        .execute("ALTER TABLE leads ADD COLUMN \"Fk dba\" int NOT NULL; ALTER TABLE eventos_raw ADD COLUMN fk int NOT NULL")
        .await;
    let [(leads, of_leads), ("eventos_raw", of_events)] = &told().await[..] else { panic!("two tables") };
    assert!(
        *leads == "leads" && of_leads.contains("takes no row: somebody added Fk dba to it"),
        "{of_leads}"
    );
    assert!(of_leads.contains("run ALTER TABLE leads ALTER COLUMN \"Fk dba\" DROP NOT NULL,"), "{of_leads}");
    assert!(of_events.contains("ALTER COLUMN \"fk\" DROP NOT NULL"), "{of_events}");
    database.execute("ALTER TABLE eventos_raw DROP COLUMN fk").await;
    let whole = batch(claimed(&store).await, vec![lead(1, 0, "Ana")]);
    let Err(ApplyError::Rejected(rejections)) = store.apply(LOG, &whole).await else {
        panic!("it is refused")
    };
    assert!(rejections[0].reason.ends_with("(SQLSTATE 23502, column Fk dba of leads)"), "{rejections:?}");
    // What fills it may be a trigger.
    database
        .execute(
            "CREATE FUNCTION preenche() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.\"Fk dba\" := 1; RETURN NEW; END $$;
             CREATE TRIGGER preenche BEFORE INSERT ON leads FOR EACH ROW EXECUTE FUNCTION preenche()",
        )
        .await;
    assert_eq!(told().await, []);
    store.apply(LOG, &whole).await.expect("applied");
}

#[tokio::test]
async fn a_trigger_may_refuse_a_row_under_a_code_of_its_own() {
    let (database, store) = migrated().await;
    database
        .execute(
            "CREATE FUNCTION recusa() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE EXCEPTION '% não', new.nome USING ERRCODE = 'LD001'; END $$;
             CREATE TRIGGER recusa BEFORE INSERT ON leads FOR EACH ROW WHEN (new.nome = 'proibida')
                EXECUTE FUNCTION recusa()",
        )
        .await;
    let events = (0..20).map(|id| lead(id, 0, if id == 7 { "proibida" } else { "Ana" })).collect();
    let whole = batch(claimed(&store).await, events);
    let outcome = store.apply(LOG, &whole).await;
    let Err(ApplyError::Rejected(rejections)) = &outcome else { panic!("no rejection: {outcome:?}") };
    assert_eq!(rejections[0].reason, "a trigger refuses it (SQLSTATE LD001)");
    assert_eq!(rejected_offsets(outcome), [7]);
}

#[tokio::test]
async fn what_a_deferred_constraint_refuses_is_found_among_the_others() {
    let (database, store) = migrated().await;
    database
        .execute(
            "CREATE FUNCTION recusa() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'não'; END $$;
             CREATE CONSTRAINT TRIGGER recusa AFTER INSERT ON leads DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW WHEN (new.nome = 'proibida') EXECUTE FUNCTION recusa();
             ALTER TABLE leads ADD UNIQUE (nome) DEFERRABLE INITIALLY DEFERRED",
        )
        .await;
    let name = |id| match id {
        7 => "proibida".to_owned(),
        9 => "Ana 3".to_owned(),
        id => format!("Ana {id}"),
    };
    let claim = claimed(&store).await;
    let whole = batch(claim, (0..20).map(|id| lead(id, 0, &name(id))).collect());
    let outcome = store.apply(LOG, &whole).await;
    let Err(ApplyError::Rejected(rejections)) = &outcome else { panic!("no rejection: {outcome:?}") };
    assert!(rejections[0].reason.starts_with("a trigger refuses it"), "{rejections:?}");
    assert_eq!(rejected_offsets(outcome), [7, 9]);
    assert_eq!(database.one::<i64>("SELECT count(*) FROM leads").await, 0, "nothing is written before");

    let mut without = whole;
    without.events.retain(|event| ![7, 9].contains(&event.position.offset));
    assert_eq!(store.apply(LOG, &without).await.expect("applied").inserted, 18);
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
async fn an_event_that_somebody_else_inserts_at_the_same_time_is_there_once_and_counted_once() {
    let (database, store) = migrated().await;
    let events = vec![lead(1, 0, "Ana"), lead(2, 0, "Bia")];
    let whole = batch(claimed(&store).await, events.clone());
    let mut other = database.inserting(events[0].id).await;
    let applying = tokio::spawn({
        let store = store.clone();
        async move { store.apply(LOG, &whole).await }
    });
    database.waits_with("WITH inseridos%").await;
    other.execute("COMMIT").await.expect("committed");
    let applied = applying.await.expect("no panic").expect("applied");
    assert_eq!((applied.inserted, applied.duplicates, applied.entities), (1, 1, 2));
    assert_eq!(database.one::<i64>("SELECT count(*) FROM eventos_raw").await, 2);
    assert_eq!(database.one::<i64>("SELECT sum(total)::int8 FROM eventos_agregados").await, 1);
}

#[tokio::test]
async fn what_triggers_policies_and_types_make_of_an_event_is_what_is_counted() {
    let (database, store) = migrated().await;
    let whole = batch(claimed(&store).await, (1..=4).map(|i| lead(i, 0, "Ana")).collect());
    database
        .execute(
            "CREATE FUNCTION muda() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF NEW.entidade_id LIKE '%1' THEN RETURN NULL; END IF;
                 NEW.valor := NEW.valor + 1.5;
                 NEW.categoria := 'mudada';
                 RETURN NEW;
             END $$;
             CREATE TRIGGER muda BEFORE INSERT ON eventos_raw FOR EACH ROW EXECUTE FUNCTION muda();
             ALTER TABLE eventos_raw ALTER valor TYPE numeric;
             ALTER TABLE eventos_raw ALTER metadata TYPE text;
             ALTER TABLE eventos_raw ENABLE ROW LEVEL SECURITY;
             ALTER TABLE eventos_raw FORCE ROW LEVEL SECURITY;
             CREATE POLICY tudo ON eventos_raw USING (true) WITH CHECK (true)",
        )
        .await;
    let rejected = rejected_offsets(store.apply(LOG, &whole).await);
    assert_eq!(rejected, [0], "what is not there is not passed over");
    assert_eq!(store.apply(LOG, &without(&whole, &rejected)).await.expect("applied").inserted, 3);
    let counted = "SELECT concat_ws(' ', sum(total), sum(soma_valor), max(categoria)) FROM eventos_agregados";
    let there = "SELECT concat_ws(' ', count(*), sum(valor)::float8, max(categoria)) FROM eventos_raw";
    assert_eq!(database.one::<String>(counted).await, database.one::<String>(there).await);
    let texts = "SELECT count(*) FROM eventos_raw WHERE metadata LIKE '{%'";
    assert_eq!(database.one::<i64>(texts).await, 3, "the text is the metadata's");
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

#[tokio::test]
async fn connections_that_lead_to_a_server_that_only_reads_are_replaced_by_those_that_lead_to_another() {
    let (database, store) = migrated().await;
    let name = database.one::<String>("SELECT current_database()::text").await;
    let mut admin = connect(&service("DATABASE_ADMIN_URL")).await;
    for applies in [false, true] {
        let claim = claimed(&store).await;
        // Sessions that begin before the switch only read, as those with a primary that became a standby.
        let setting = "default_transaction_read_only";
        admin.execute(&*format!("ALTER DATABASE {name} SET {setting} = on")).await.expect("set");
        let after_failover = PgStore::connect(&database.settings(), Catalog::built_in()).expect("a store");
        let read = async || after_failover.health().await.expect("reading goes on");
        tokio::join!(read(), read(), read(), read());
        let open = after_failover.pool().expect("a pool").open;
        assert!(open > 1, "more than the one that is met: {open}");
        let write = async || {
            if applies {
                let events = batch(claim, vec![lead(1, 0, "Ana")]);
                match after_failover.apply(LOG, &events).await {
                    Ok(_) => Ok(()),
                    Err(ApplyError::Fault(fault)) => Err(fault),
                    Err(ApplyError::Rejected(rejected)) => panic!("{rejected:?}"),
                }
            } else {
                after_failover.claim(LOG, &[0]).await.map(drop)
            }
        };
        let refused = write().await.expect_err("it only reads");
        assert!(refused.message.contains("(SQLSTATE 25006)"), "{refused}");
        assert_eq!(refused.kind, FaultKind::Transient);

        admin.execute(&*format!("ALTER DATABASE {name} RESET {setting}")).await.expect("reset");
        write().await.expect("another connection is made");
        after_failover.close().await;
    }
    assert_eq!(database.one::<i64>("SELECT count(*) FROM leads").await, 1);
}

#[tokio::test]
async fn windows_are_locked_in_one_order_whatever_order_the_database_has() {
    let (database, store) = migrated().await;
    database
        .execute(
            "ALTER TABLE eventos_raw ALTER COLUMN evento TYPE text COLLATE \"und-x-icu\";
             CREATE TABLE ordem (n serial, evento text);
             CREATE FUNCTION anota() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO ordem (evento) VALUES (new.evento); RETURN new; END $$;
             CREATE TRIGGER anota BEFORE INSERT ON eventos_agregados FOR EACH ROW EXECUTE FUNCTION anota()",
        )
        .await;
    assert!(database.one::<bool>("SELECT 'a' < 'B' COLLATE \"und-x-icu\"").await, "an order of its own");
    apply(&store, ["b", "a", "B", "A"].map(|evento| manual(evento, json!({}))).into()).await;
    // As those are that a copy adds: by their bytes.
    let locked = database.one::<String>("SELECT string_agg(evento, ' ' ORDER BY n) FROM ordem").await;
    assert_eq!(locked, "A B a b");
}

#[tokio::test]
async fn a_lease_whose_session_ended_says_so_and_can_write_nothing() {
    let (database, store) = migrated().await;
    let (first, mut lease, _) = begun(&store, table("leads")).await;
    end_sessions(&database, "sluice sync leads").await;
    assert_eq!(state(&store, first).await, SyncState::Interrupted, "seen although nobody began another");

    let (second, _held, _) = begun(&store, table("leads")).await;
    let fault = lease.checkpoint(&SyncProgress::default(), &[]).await.expect_err("the lease is lost");
    assert_eq!(fault.kind, FaultKind::Transient);
    assert!(fault.message.contains("the lease is lost"), "{fault}");
    lease.finish(ended(SyncState::Succeeded)).await.expect_err("the lease is lost");
    assert_eq!(state(&store, first).await, SyncState::Interrupted);
    assert_eq!(state(&store, second).await, SyncState::Running);
}

#[tokio::test]
async fn an_erasure_locks_the_history_of_syncs_before_the_marks_as_a_checkpoint_does() {
    let (database, store) = migrated().await;
    let (leads, key) = (table("leads"), Uuid::from_u128(1).to_string());
    let mut asked = new_sync(leads);
    asked.request.conditions = vec![Condition::parse("email=zuleica").expect("a condition")];
    let Begun::Started { mut lease, .. } = store.begin_sync(asked).await.expect("begun") else {
        panic!("nothing else runs");
    };
    let mark = Appended { entity: key.clone(), event: Uuid::from_u128(7), versao: 1, removed: false };
    lease.checkpoint(&SyncProgress::default(), &[mark]).await.expect("kept");
    let mut checkpoint = database.connection().await;
    let row = sqlx::raw_sql("BEGIN; UPDATE sluice_syncs SET progress = progress");
    checkpoint.execute(row).await.expect("it has the sync's row");
    let erasing = tokio::spawn(async move { store.erase(leads, &[key], false).await });
    database.waits_with("UPDATE sluice_syncs SET request%").await;
    let marks = sqlx::raw_sql("SELECT FROM sluice_appended FOR UPDATE NOWAIT; COMMIT");
    checkpoint.execute(marks).await.expect("nobody has locked the marks");
    let erased = erasing.await.expect("no panic").expect("erased").expect("somebody");
    assert_eq!(erased.marks, 1);
}

#[tokio::test]
async fn a_reconciliation_that_names_keys_waits_for_an_erasure_longer_than_a_statement_may_take() {
    let (database, _) = migrated().await;
    let mut settings = database.settings();
    settings.timeout = Duration::from_secs(1);
    let store = PgStore::connect(&settings, Catalog::built_in()).expect("a store");
    let (sync, mut lease, _) = begun(&store, table("leads")).await;
    let difference = Difference {
        sink: "tantivy".to_owned(),
        key: Uuid::from_u128(1).to_string(),
        problem: DifferenceKind::Missing,
        mended: true,
    };
    let report = ReconcileReport { differences: vec![difference], ..ReconcileReport::default() };
    let progress = SyncProgress { reconcile: Some(report), ..SyncProgress::default() };
    let lock = "hashtextextended('sluice erasures ' || current_schema(), 0)";
    let mut erasure = database.connection().await;
    let locked = format!("SELECT pg_advisory_lock({lock})");
    erasure.execute(locked.as_str()).await.expect("nobody else is erased");
    let unlocked = async {
        // Nothing but time tells that it was not given up.
        tokio::time::sleep(settings.timeout * 3 / 2).await;
        erasure.close().await.expect("the lock is free");
    };
    let (kept, ()) = tokio::join!(lease.checkpoint(&progress, &[]), unlocked);
    kept.expect("kept");
    lease.finish(SyncEnd { progress, ..ended(SyncState::Succeeded) }).await.expect("ended");
    assert_eq!(state(&store, sync).await, SyncState::Succeeded);
}

#[tokio::test]
async fn statements_in_postgres_own_dialect_are_answered_as_they_were_written() {
    let (_database, store) = migrated().await;
    apply(&store, vec![lead(1, 0, "Ana"), lead(2, 1, "Bia"), session(3)]).await;
    let limits = QueryLimits { rows: 50, bytes: 50_000, timeout: Duration::from_secs(10), verbatim: false };
    for (sql, expected) in [
        (
            r"SELECT 'd''água', E'a\nb\'c', $$a'b$$, 'C:\x', ''",
            json!([["d'água", "a\nb'c", "a'b", r"C:\x", ""]]),
        ),
        ("WITH leads AS (SELECT * FROM public.leads) SELECT count(*) FROM leads", json!([[2]])),
        (
            "SELECT d::date FROM generate_series(timestamp '2026-01-30', timestamp '2026-01-31', interval '1 day') AS d",
            json!([["2026-01-30"], ["2026-01-31"]]),
        ),
        (
            "SELECT extract(hour FROM \"timestamp\" AT TIME ZONE 'America/Sao_Paulo')::int FROM eventos_raw WHERE evento = 'chat_session'",
            json!([[9]]),
        ),
        (
            "SELECT date_trunc('hour', updated_at), count(*)::text || '!' FROM leads GROUP BY 1",
            json!([["2026-05-01T12:00:00+00:00", "2!"]]),
        ),
        (
            "SELECT i, count(*) FILTER (WHERE l.nome ~* '^a') FROM leads l, unnest(l.interesse) AS i WHERE i NOT LIKE '%{%' GROUP BY i",
            json!([["apartamento", 1]]),
        ),
        (
            "WITH RECURSIVE d(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM d WHERE n < 4) SELECT count(*) FROM d",
            json!([[4]]),
        ),
        ("SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY valor) FROM eventos_raw", json!([[85]])),
        (
            "SELECT x.v FROM leads l CROSS JOIN LATERAL jsonb_each_text(l.metadata) AS x(k, v) WHERE x.k = 'corretor' LIMIT 1",
            json!([["Bia"]]),
        ),
        ("SELECT DISTINCT ON (origem) nome FROM leads ORDER BY origem, versao DESC", json!([["Bia"]])),
        (
            "SELECT array(SELECT nome FROM leads ORDER BY nome), metadata ? 'empresa', dados #>> '{localizacao,uf}' FROM eventos_raw WHERE entidade_id = '00000000-0000-0000-0000-000000000001'",
            json!([[["Ana", "Bia"], true, "SP"]]),
        ),
        (
            "SELECT 'NaN'::float8, 'infinity'::timestamptz, 12345678901234567890::numeric, NULL, interval '90 minutes'",
            json!([["NaN", "infinity", 12_345_678_901_234_567_890_u64, null, "01:30:00"]]),
        ),
    ] {
        let answer = store.query(sql, limits).await.unwrap_or_else(|fault| panic!("{sql}: {fault}"));
        assert_eq!(json!(answer.rows), expected, "{sql}");
    }
    let fault = store.query("SELECT nme FROM leads", limits).await.expect_err("no such column");
    assert!(fault.message.contains("leads.nome"), "the server's hint is passed on: {fault}");
    let fault =
        store.query("SELECT 1 / (valor - valor)::int FROM eventos_raw", limits).await.expect_err("no number");
    assert!(fault.message.contains("nullif"), "{fault}");
}
