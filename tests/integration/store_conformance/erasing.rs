//! Erasing entities, and what becomes of their events afterwards.

use std::time::Duration;

use serde_json::json;
use sluice::{
    domain::Catalog,
    sink::Applied,
    source::Condition,
    store::{
        Begun, Difference, DifferenceKind, ErasedRows, ReconcileReport, SyncEnd, SyncProgress, SyncState,
    },
};
use uuid::Uuid;

use crate::support::{
    on_each_adapter,
    stores::{
        Embedded, Postgres, StoreBench, apply, apply_of, catalog, ended, from_row, lead, lead_with, new_sync,
        session, verbatim,
    },
    table,
};

on_each_adapter! {
    embedded: Embedded, postgres: Postgres;
    what_is_about_an_erased_entity_is_removed_and_left_out_by_whoever_applies_it,
    a_key_that_nothing_is_known_of_is_not_erased_unless_it_is_known_elsewhere,
    keys_are_found_by_any_version_s_value_in_any_case,
    keys_are_found_by_a_value_of_a_version_that_has_the_column_under_a_former_name,
    a_key_of_an_earlier_type_is_erased_with_its_events_and_no_row_of_another,
    an_erasure_amid_many_batches_leaves_nothing,
    an_erasure_that_a_trigger_undoes_is_told_and_none_of_it_is_done,
    the_history_of_syncs_names_nobody_who_was_erased_while_a_reconciliation_had_their_key,
}

fn key(n: u128) -> Vec<String> {
    vec![Uuid::from_u128(n).to_string()]
}

async fn an_erasure_that_a_trigger_undoes_is_told_and_none_of_it_is_done<B: StoreBench>() {
    for (when, place, condition) in [
        ("DELETE", "eventos_raw", "old.versao > 0"),
        ("DELETE", "leads", "old.nome = 'Zuleica'"),
        ("INSERT", "sluice_erased", "new.table_name = 'leads'"),
    ] {
        let bench = B::new().await;
        let store = bench.open();
        apply(&*store, vec![lead(1, 0, "Zuleica"), lead(2, 0, "Beto")]).await;
        bench.execute(&B::silent_trigger(when, place, condition)).await;
        let before = bench.contents().await;
        let fault = store.erase(table("leads"), &key(1), false).await.expect_err(place);
        assert!(fault.message.contains(&format!("erase: {place} is not as it was left")), "{fault}");
        assert_eq!(bench.contents().await, before, "{place}");
        let ledger = store.erasures(None).await.expect("a ledger").expect("the first");
        assert!(ledger.is_empty(), "{place}");

        bench.execute(&B::drop_trigger(place)).await;
        let erased = store.erase(table("leads"), &key(1), false).await.expect("erased");
        assert_eq!(erased, Some(ErasedRows { entities: 1, events: 1, marks: 0, new: 1 }), "{place}");
        assert!(!bench.contents().await.concat().contains("Zuleica"));
    }
}

/// Each window of the rollup beside a recount of it.
async fn assert_rollup_equals_a_recount<B: StoreBench>(bench: &B) {
    let rolled_up = "SELECT categoria || ' ' || evento || ' ' || CAST(sum(total) AS integer) || ' ' || CAST(sum(soma_valor) AS integer)
                     FROM eventos_agregados GROUP BY categoria, evento ORDER BY categoria, evento";
    let counted = "SELECT categoria || ' ' || evento || ' ' || count(*) || ' ' || CAST(sum(valor) AS integer)
                   FROM eventos_raw GROUP BY categoria, evento ORDER BY categoria, evento";
    assert_eq!(bench.texts(rolled_up).await, bench.texts(counted).await);
}

async fn what_is_about_an_erased_entity_is_removed_and_left_out_by_whoever_applies_it<B: StoreBench>() {
    let bench = B::new().await;
    let (one, other) = (bench.open(), bench.open());
    let events = vec![lead(1, 0, "Zuleica"), lead(1, 10, "Zuleica"), lead(2, 0, "Beto"), session(1)];
    assert_eq!(apply(&*other, events).await, Applied { inserted: 4, entities: 3, ..Applied::default() });
    let before = other.erasures(None).await.expect("a ledger").expect("the first");
    assert!(before.is_empty());

    let erased = one.erase(table("leads"), &key(1), false).await.expect("erased");
    assert_eq!(erased, Some(ErasedRows { entities: 1, events: 2, marks: 0, new: 1 }));
    assert!(!bench.contents().await.concat().contains("Zuleica"));
    assert_eq!(bench.texts("SELECT nome FROM leads").await, ["Beto"]);
    assert_eq!(
        bench.texts("SELECT CAST(count(*) AS text) FROM chat_sessions").await,
        ["1"],
        "of the same key"
    );
    assert_rollup_equals_a_recount(&bench).await;
    let ledger = other.erasures(Some(before.version())).await.expect("a ledger").expect("it changed");
    assert!(ledger.holds(table("leads"), &key(1)[0]) && !ledger.holds(table("leads"), &key(2)[0]));
    assert_eq!(other.erasures(Some(ledger.version())).await.expect("a ledger"), None, "unchanged");

    // The other process knew the ledger as it was before.
    let later = vec![lead(1, 20, "Zuleica"), lead(3, 0, "Caio"), lead(1, 0, "Zuleica")];
    let applied = apply(&*other, later).await;
    assert_eq!(applied, Applied { inserted: 1, entities: 1, erased: 2, ..Applied::default() });
    assert_eq!(bench.texts("SELECT nome FROM leads ORDER BY nome").await, ["Beto", "Caio"]);
    assert_rollup_equals_a_recount(&bench).await;
    let again = one.erase(table("leads"), &key(1), false).await.expect("erased");
    assert_eq!(again, Some(ErasedRows::default()), "known, and nothing left");
}

async fn a_key_that_nothing_is_known_of_is_not_erased_unless_it_is_known_elsewhere<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    apply(&*store, vec![lead(2, 0, "Beto")]).await;
    assert_eq!(store.erase(table("leads"), &key(1), false).await.expect("an answer"), None);
    assert!(store.erasures(None).await.expect("a ledger").expect("the first").is_empty());
    assert_eq!(apply(&*store, vec![lead(1, 0, "Ana")]).await.inserted, 1);
    let elsewhere = store.erase(table("leads"), &key(7), true).await.expect("erased");
    assert_eq!(elsewhere, Some(ErasedRows { new: 1, ..ErasedRows::default() }));
    assert_eq!(apply(&*store, vec![lead(7, 0, "Ana")]).await.erased, 1);
}

async fn the_history_of_syncs_names_nobody_who_was_erased_while_a_reconciliation_had_their_key<
    B: StoreBench,
>() {
    let bench = B::new().await;
    let (store, other) = (bench.open(), bench.open());
    apply(&*store, vec![lead(1, 0, "Zuleica"), lead(2, 0, "Beto")]).await;
    let (leads, mut asked) = (table("leads"), new_sync(table("leads")));
    let by = ["email=zuleica", "status_lead=novo"].map(|text| Condition::parse(text).expect("a condition"));
    asked.request.conditions = by.to_vec();
    let id = asked.id;
    let Begun::Started { mut lease, .. } = store.begin_sync(asked).await.expect("begun") else {
        panic!("nothing else runs");
    };
    let different = |n| Difference {
        sink: "tantivy".to_owned(),
        key: key(n).remove(0),
        problem: DifferenceKind::Missing,
        mended: true,
    };
    let report =
        ReconcileReport { differences: vec![different(1), different(2)], ..ReconcileReport::default() };
    let progress = SyncProgress { reconcile: Some(report), ..SyncProgress::default() };
    let named = async || {
        let record = other.sync(id).await.expect("an answer").expect("it is known");
        let values = record.request.conditions.into_iter().map(|one| one.value).collect::<Vec<_>>();
        (record.progress.reconcile.expect("a report").differences.len(), values.join(" "))
    };
    lease.checkpoint(&progress, &[]).await.expect("kept");
    assert_eq!(named().await, (2, "zuleica novo".to_owned()));
    other.erase(leads, &key(1), false).await.expect("erased");
    assert_eq!(named().await, (1, "*** novo".to_owned()));
    // It had the key in hand.
    lease.checkpoint(&progress, &[]).await.expect("kept");
    assert_eq!(named().await, (1, "*** novo".to_owned()));
    lease.finish(SyncEnd { progress, ..ended(SyncState::Succeeded) }).await.expect("ended");
    assert_eq!(named().await, (1, "*** novo".to_owned()));
}

async fn keys_are_found_by_any_version_s_value_in_any_case<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let with = |id, minutes, email: &str| lead_with(id, minutes, json!({ "email": email }));
    apply(
        &*store,
        vec![with(1, 0, "antiga@x.example"), with(1, 10, "nova@x.example"), with(2, 0, " Nova@X.example ")],
    )
    .await;
    let found = async |emails: &[&str]| {
        let emails: Vec<String> = emails.iter().map(|&email| email.to_owned()).collect();
        let mut keys = store.keys_with(table("leads"), "email", &emails, None).await.expect("keys");
        keys.sort();
        keys
    };
    assert_eq!(found(&["ANTIGA@x.example"]).await, key(1));
    assert_eq!(found(&["nova@x.example"]).await, [key(1), key(2)].concat());
    assert_eq!(found(&["nova@x.exampl", "antiga@x.example"]).await, key(1));
    assert_eq!(found(&["nova@x.exampl"]).await, Vec::<String>::new());
    let listed = json!({ "email": ["outra@x.example", " Lista@X.example"] });
    apply(&*store, vec![lead_with(3, 0, listed)]).await;
    assert_eq!(found(&["lista@x.example"]).await, key(3), "a list where a text was");
    let many: Vec<String> = (0..100_000).map(|n| format!("{n}@x.example")).collect();
    let late = store.keys_with(table("leads"), "email", &many, Some(Duration::ZERO)).await;
    late.expect_err("that takes longer");
    assert_eq!(found(&["lista@x.example"]).await, key(3), "whoever has the time is told after that");
}

async fn keys_are_found_by_a_value_of_a_version_that_has_the_column_under_a_former_name<B: StoreBench>() {
    let bench = B::empty().await;
    let catalog = catalog(&[r#"
        name = "pess"
        about = "people"
        entity = "pess"
        key = { column = "id", type = "bigint" }
        event = { categoria = "c", evento = "e" }
        columns = [
            { name = "email", from = "correio", formerly = ["mail", "email"], type = "text", lookup = true },
        ]
    "#]);
    let store = &*bench.open_with(catalog);
    store.prepare().await.expect("the table is made");
    let people = catalog.get("pess").expect("the table");
    let row = |text: &str, versao| from_row(people, &verbatim(text), versao);
    let rows = vec![
        row(r#"{"id": 1, "mail": "Antiga@x.example"}"#, 1),
        row(r#"{"id": 1, "email": " velha@x.example"}"#, 2),
        row(r#"{"id": 1, "correio": "nova@x.example"}"#, 3),
        // The project has another column of that name by now.
        row(r#"{"id": 2, "correio": "outra@x.example", "email": "velha@x.example"}"#, 1),
    ];
    apply_of(catalog, store, rows).await;
    for email in ["antiga@x.example", "VELHA@x.example", "nova@x.example"] {
        let found = store.keys_with(people, "email", &[email.to_owned()], None).await.expect("keys");
        assert_eq!(found, ["1"], "{email}");
    }
}

async fn a_key_of_an_earlier_type_is_erased_with_its_events_and_no_row_of_another<B: StoreBench>() {
    let bench = B::empty().await;
    let of = |column: &str, kind: &str| {
        catalog(&[&format!(
            "name = \"pess\"\nabout = \"people\"\nentity = \"pess\"\n\
             key = {{ column = \"{column}\", type = \"{kind}\" }}\nevent = {{ categoria = \"c\", evento = \"e\" }}\n"
        )])
    };
    let apply_row = async |catalog: Catalog, row: &str| {
        let store = bench.open_with(catalog);
        store.prepare().await.expect("the table is made");
        let people = catalog.get("pess").expect("the table");
        apply_of(catalog, &*store, vec![from_row(people, &verbatim(row), 1)]).await
    };
    apply_row(of("codigo", "text"), r#"{"codigo": "007"}"#).await;
    for (column, kind, row, earlier) in [
        ("id", "bigint", r#"{"id": 7}"#, "007"),
        ("pid", "uuid", r#"{"pid": "00000000-0000-0000-0000-000000000007"}"#, "7"),
    ] {
        bench.execute("DROP TABLE pess").await;
        let catalog = of(column, kind);
        apply_row(catalog, row).await;
        let people = catalog.get("pess").expect("the table");
        let store = bench.open_with(catalog);
        let erased = store.erase(people, &[earlier.to_owned()], false).await.expect(kind);
        assert_eq!(erased, Some(ErasedRows { entities: 0, events: 1, marks: 0, new: 1 }), "{kind}");
        assert_eq!(bench.number("SELECT count(*) FROM pess").await, 1, "{kind}: the row of another key");
    }
}

async fn an_erasure_amid_many_batches_leaves_nothing<B: StoreBench>() {
    let bench = B::new().await;
    let (one, other) = (bench.open(), bench.open());
    apply(&*other, vec![lead(1, 0, "Zuleica")]).await;
    let applying = async {
        let mut left_out = 0;
        for minutes in 1..=60 {
            let number = u128::try_from(minutes).expect("a small number");
            let batch = vec![lead(1, minutes, "Zuleica"), lead(100 + number, minutes, "Beto")];
            left_out += apply(&*other, batch).await.erased;
        }
        left_out
    };
    let erasing = async {
        // Not before some were applied.
        while bench.texts("SELECT CAST(count(*) AS text) FROM eventos_raw").await[0].len() < 2 {
            tokio::task::yield_now().await;
        }
        one.erase(table("leads"), &key(1), false).await.expect("erased").expect("known")
    };
    let (left_out, erased) = tokio::join!(applying, erasing);
    assert_eq!(erased.events + left_out, 61, "each was removed or left out");
    assert!(!bench.contents().await.concat().contains("Zuleica"));
    assert_eq!(bench.texts("SELECT CAST(count(*) AS text) FROM leads").await, ["60"]);
    assert_rollup_equals_a_recount(&bench).await;
}
