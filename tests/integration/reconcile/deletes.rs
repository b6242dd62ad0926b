//! What is removed, what is not, and what comes back.

use serde_json::{Value, json};
use sluice::{
    engine::SyncPhase,
    index::IndexName,
    sink::{Applied, SinkEvent},
    source::sample::{Failure, Fault},
    store::Reconciliation,
};
use uuid::Uuid;

use super::{found, is_proven, reconcile, reconcile_with, report, stored, with_leads};
use crate::support::{
    elasticsearch::Corner,
    events::{applied, item},
    indices::{Embedded as TantivyBench, IndexBench, entities, search},
    on_each_adapter,
    place::{Embedded, Place, Real, value},
    rows::{id, lead, leads},
    stores::{Embedded as SqliteBench, Postgres, StoreBench, apply, lead as stored_lead},
    sync, table,
};

mod whole {
    use super::*;

    on_each_adapter! {
        embedded: Embedded, real: Real;
        a_row_that_comes_back_comes_back_and_its_second_removal_is_another_event,
        a_large_part_of_a_table_is_removed_only_by_its_number,
        what_only_the_sinks_have_is_removed_at_once_or_not_at_all,
        a_source_that_shows_nothing_removes_nothing,
        a_page_cap_makes_no_row_gone,
        a_source_that_shows_fewer_rows_than_it_counts_is_read_again_and_then_an_error,
    }
}

mod stores {
    use super::*;

    on_each_adapter! {
        sqlite: SqliteBench, postgres: Postgres;
        an_older_version_delivered_again_does_not_bring_an_entity_back,
        a_removal_older_than_the_entity_removes_nothing,
    }
}

mod indices {
    use super::*;

    on_each_adapter! {
        tantivy: TantivyBench, elasticsearch: Corner;
        a_removed_document_is_in_no_answer_and_only_a_later_version_brings_it_back,
        a_rebuilt_index_has_no_removed_document,
    }
}

use stores_and_indices::*;
use whole_way::*;

mod whole_way {
    use super::*;

    pub(super) async fn a_row_that_comes_back_comes_back_and_its_second_removal_is_another_event<P: Place>() {
        let (place, engine) = with_leads::<P>(leads(20)).await;
        let all = place.source().rows(table("leads"));
        let without = || all.iter().filter(|row| row["id"] != json!(id(7))).cloned().collect();
        let removed = "SELECT count(*) FROM eventos_raw WHERE evento = 'lead_removido'";
        for round in 1..=2 {
            place.source().set_rows(table("leads"), without());
            let gone = reconcile(&engine).await;
            assert!(is_proven(&gone), "{gone:?}");
            assert_eq!((report(&gone).deleted, stored(&engine, removed).await), (1, round));
            assert_eq!(
                (stored(&engine, "SELECT count(*) FROM leads").await, found(&engine, "*").await),
                (19, 19)
            );

            // Exactly as it was: its content is known, and it is the newest all the same.
            place.source().set_rows(table("leads"), all.clone());
            let back = if round == 1 {
                reconcile(&engine).await
            } else {
                sync(&engine, crate::support::request(table("leads"))).await
            };
            assert_eq!((back.state, back.appended), (SyncPhase::Done, 1), "{back:?}");
            assert_eq!(
                (stored(&engine, "SELECT count(*) FROM leads").await, found(&engine, "*").await),
                (20, 20)
            );
        }
        assert_eq!(stored(&engine, "SELECT count(*) FROM eventos_raw").await, 22, "each event once");
        engine.shut_down().await;
        place.clean_up().await;
    }

    pub(super) async fn a_large_part_of_a_table_is_removed_only_by_its_number<P: Place>() {
        let (place, engine) = with_leads::<P>(leads(60)).await;
        place.source().set_rows(table("leads"), leads(30));
        for allow_deletes in [None, Some(29)] {
            let stopped =
                reconcile_with(&engine, Reconciliation { allow_deletes, ..Reconciliation::default() }).await;
            let error = stopped.error.clone().unwrap_or_default();
            assert_eq!(stopped.state, SyncPhase::Failed, "{stopped:?}");
            assert!(error.contains("30 of 60 rows") && error.contains("allow 30 deletions"), "{error}");
            assert_eq!((report(&stopped).gone, report(&stopped).deleted), (30, 0));
            assert!(report(&stopped).sinks.is_empty(), "nothing is said of sinks that were not compared");
            assert_eq!(
                (stored(&engine, "SELECT count(*) FROM leads").await, found(&engine, "*").await),
                (60, 60)
            );
        }
        let agreed =
            reconcile_with(&engine, Reconciliation { allow_deletes: Some(30), ..Reconciliation::default() })
                .await;
        assert!(is_proven(&agreed), "{agreed:?}");
        assert_eq!(report(&agreed).deleted, 30);
        assert_eq!(
            (stored(&engine, "SELECT count(*) FROM leads").await, found(&engine, "*").await),
            (30, 30)
        );
        engine.shut_down().await;
        place.clean_up().await;
    }

    pub(super) async fn what_only_the_sinks_have_is_removed_at_once_or_not_at_all<P: Place>() {
        let mut place = P::new().await;
        place.set("SLUICE_RECONCILE_DELETES", "110");
        place.source().set_rows(table("leads"), leads(250));
        let engine = place.engine().await;
        engine.start_drains().await;
        assert_eq!(sync(&engine, crate::support::request(table("leads"))).await.appended, 250);
        // As in a topic that was made anew: nothing is known of rows that went before it.
        place.execute(&format!("DELETE FROM sluice_appended WHERE entity > '{}'", id(130))).await;
        place.source().set_rows(table("leads"), leads(130));
        let counts =
            async || (stored(&engine, "SELECT count(*) FROM leads").await, found(&engine, "*").await);
        for _ in 0..2 {
            let stopped = reconcile(&engine).await;
            let error = stopped.error.clone().unwrap_or_default();
            assert_eq!(stopped.state, SyncPhase::Failed, "{stopped:?}");
            assert!(
                error.contains("120 of 250 rows of leads")
                    && error.contains("none was removed")
                    && error.contains("allow 120 deletions"),
                "{error}"
            );
            assert_eq!(
                (report(&stopped).gone, report(&stopped).deleted, counts().await),
                (120, 0, (250, 250))
            );
            assert!(report(&stopped).sinks.iter().all(|sink| !sink.proven && sink.different == 120));
            assert!(report(&stopped).differences.iter().all(|one| !one.mended));
        }
        // Some of them are found before the sinks are compared.
        place.source().set_rows(table("leads"), leads(125));
        let stopped = reconcile(&engine).await;
        let error = stopped.error.clone().unwrap_or_default();
        assert!(
            error.contains("125 of 250 rows of leads")
                && error.contains("5 were removed before the others were found")
                && error.contains("allow 120 deletions"),
            "{error}"
        );
        assert_eq!((report(&stopped).gone, report(&stopped).deleted, counts().await), (125, 5, (245, 245)));
        let agreed =
            reconcile_with(&engine, Reconciliation { allow_deletes: Some(120), ..Reconciliation::default() })
                .await;
        assert!(is_proven(&agreed), "{agreed:?}");
        assert_eq!((report(&agreed).deleted, counts().await), (120, (125, 125)));
        assert!(report(&agreed).differences.iter().all(|one| one.mended));
        engine.shut_down().await;
        place.clean_up().await;
    }

    pub(super) async fn a_source_that_shows_nothing_removes_nothing<P: Place>() {
        let (place, engine) = with_leads::<P>(leads(3)).await;
        place.source().set_rows(table("leads"), Vec::new());
        let stopped = reconcile(&engine).await;
        assert_eq!((stopped.state, report(&stopped).deleted), (SyncPhase::Failed, 0), "{stopped:?}");
        assert_eq!(stored(&engine, "SELECT count(*) FROM leads").await, 3);
        engine.shut_down().await;
        place.clean_up().await;
    }

    pub(super) async fn a_page_cap_makes_no_row_gone<P: Place>() {
        let (place, engine) = with_leads::<P>(leads(90)).await;
        // The server gives fewer rows than are asked for, of a table and of keys alike.
        place.source().set_max_rows(Some(2));
        let rows: Vec<_> = place.source().rows(table("leads"));
        place.source().set_rows(table("leads"), rows.into_iter().skip(5).collect());
        let status = reconcile(&engine).await;
        assert!(is_proven(&status), "{status:?}");
        assert_eq!((report(&status).deleted, report(&status).source_rows), (5, 85));
        assert_eq!(
            (stored(&engine, "SELECT count(*) FROM leads").await, found(&engine, "*").await),
            (85, 85)
        );
        engine.shut_down().await;
        place.clean_up().await;
    }

    pub(super) async fn a_source_that_shows_fewer_rows_than_it_counts_is_read_again_and_then_an_error<
        P: Place,
    >() {
        let (place, engine) = with_leads::<P>(leads(8)).await;
        // A proxy that answers a page with nothing, as if it were the last one.
        let nothing = || Fault::Refuse(Failure { status: 200, headers: Vec::new(), body: "[]".to_owned() });
        let well = || Fault::Delay(std::time::Duration::ZERO);
        place.source().script([well(), nothing()]);
        let once = reconcile(&engine).await;
        assert!(is_proven(&once), "{once:?}");
        assert_eq!((report(&once).deleted, once.appended), (0, 0));
        // The count, the rows that have a key, those that have none; and once more.
        place.source().script([well(), nothing(), well(), well(), nothing()]);
        let twice = reconcile(&engine).await;
        let error = twice.error.clone().unwrap_or_default();
        assert_eq!(twice.state, SyncPhase::Failed, "{twice:?}");
        assert!(error.contains("counts 8 rows and showed 0, twice"), "{error}");
        assert_eq!(stored(&engine, "SELECT count(*) FROM leads").await, 8);
        engine.shut_down().await;
        place.clean_up().await;
    }
}

mod stores_and_indices {
    use super::*;

    fn removal(key: Uuid, versao: i64) -> sluice::domain::Event {
        let id = sluice::domain::removal_id(table("leads"), &key.to_string(), versao - 1);
        sluice::domain::Event::removal(table("leads"), &key.to_string(), id, chrono::Utc::now(), versao)
    }

    fn at(mut event: sluice::domain::Event, versao: i64) -> sluice::domain::Event {
        event.entidade.versao = versao;
        event
    }

    pub(super) async fn an_older_version_delivered_again_does_not_bring_an_entity_back<B: StoreBench>() {
        let bench = B::new().await;
        let store = bench.open();
        let key = Uuid::from_u128(1);
        let count = "SELECT count(*) FROM leads";
        let (old, newer, newest) = (
            at(stored_lead(1, 0, "Ana"), 10),
            at(stored_lead(1, 1, "Ana Maria"), 20),
            at(stored_lead(1, 2, "Ana Paula"), 40),
        );
        apply(&*store, vec![old.clone(), newer.clone()]).await;
        assert_eq!(bench.number(count).await, 1);
        let gone = apply(&*store, vec![removal(key, 30)]).await;
        assert_eq!((gone.inserted, gone.entities, bench.number(count).await), (1, 1, 0));
        // As after a replay, and in one batch with its removal.
        let again = apply(&*store, vec![newer.clone(), old.clone()]).await;
        assert_eq!((again.duplicates, again.entities, again.stale), (2, 0, 1), "{again:?}");
        let again = apply(&*store, vec![removal(key, 30), newer]).await;
        assert_eq!((again.entities, again.stale, bench.number(count).await), (0, 1, 0), "{again:?}");
        // A lead of whom nothing was there before its removal came.
        apply(&*store, vec![removal(Uuid::from_u128(2), 30)]).await;
        apply(&*store, vec![at(stored_lead(2, 0, "Bia"), 10)]).await;
        assert_eq!(bench.number(count).await, 0);

        let back = apply(&*store, vec![newest]).await;
        assert_eq!((back.entities, bench.number(count).await), (1, 1));
        assert_eq!(bench.texts("SELECT nome FROM leads").await, ["Ana Paula"]);
        let of_the_lead = format!("SELECT count(*) FROM eventos_raw WHERE entidade_id = '{key}'");
        assert_eq!(bench.number(&of_the_lead).await, 4, "its history stays");
    }

    pub(super) async fn a_removal_older_than_the_entity_removes_nothing<B: StoreBench>() {
        let bench = B::new().await;
        let store = bench.open();
        apply(&*store, vec![at(stored_lead(1, 0, "Ana"), 50)]).await;
        let late = apply(&*store, vec![removal(Uuid::from_u128(1), 30)]).await;
        assert_eq!((late.entities, late.stale), (0, 1), "{late:?}");
        assert_eq!(bench.number("SELECT count(*) FROM leads").await, 1);
        assert_eq!(bench.number("SELECT count(*) FROM sluice_removed").await, 0);
    }

    fn lead_at(offset: i64, n: u128, versao: i64) -> SinkEvent {
        crate::support::events::lead(
            offset,
            Uuid::from_u128(n),
            versao,
            json!({"nome": "Ana", "status_lead": "novo"}),
        )
    }

    async fn shown(index: &dyn sluice::index::Index) -> (u64, u64, Vec<String>, u64) {
        index.make_visible().await.expect("visible");
        let all = search(index, entities("leads"), "*").await;
        let named = search(index, entities("leads"), "nome:ana").await;
        let versions = index.versions(table("leads"), None, 100).await.expect("versions").entities;
        let counts = index.counts().await.expect("counts");
        let counted = counts.iter().find(|(name, _)| name == "leads").map_or(0, |(_, count)| *count);
        (
            all.total,
            named.total,
            versions.into_iter().map(|(id, version)| format!("{id} {version}")).collect(),
            counted,
        )
    }

    pub(super) async fn a_removed_document_is_in_no_answer_and_only_a_later_version_brings_it_back<
        B: IndexBench,
    >() {
        let bench = B::new();
        let index = bench.prepared().await;
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        applied(&*index, vec![lead_at(1, 1, 10), lead_at(2, 2, 10)]).await;
        let outcome = applied(&*index, vec![item(3, removal(one, 30))]).await;
        assert_eq!(outcome, Applied { inserted: 1, entities: 1, ..Applied::default() });
        let only_two = (1, 1, vec![format!("{two} 10")], 1);
        assert_eq!(shown(&*index).await, only_two);
        let excluded = search(&*index, entities("leads"), "NOT nome:ana").await;
        assert_eq!((excluded.total, excluded.hits.len()), (0, 0), "its place is no document");

        let again = applied(&*index, vec![lead_at(4, 1, 20)]).await;
        assert_eq!((again.entities, again.stale), (0, 1), "{again:?}");
        assert_eq!(shown(&*index).await, only_two);
        drop(index);
        let index = bench.open();
        applied(&*index, vec![lead_at(5, 1, 40)]).await;
        assert_eq!(shown(&*index).await, (2, 2, vec![format!("{one} 40"), format!("{two} 10")], 2));
        let history = search(&*index, IndexName::Eventos, &format!("entidade.id:\"{one}\"")).await;
        assert_eq!(history.total, 4, "every event stays");
    }

    pub(super) async fn a_rebuilt_index_has_no_removed_document<B: IndexBench>() {
        let bench = B::new();
        let index = bench.prepared().await;
        let events = vec![lead_at(1, 1, 10), lead_at(2, 2, 10), item(3, removal(Uuid::from_u128(1), 30))];
        applied(&*index, events.clone()).await;
        let rebuild = index.begin_rebuild(entities("leads"), Uuid::nil()).await.expect("a rebuild");
        let building = index.rebuild_sink(&rebuild);
        building
            .apply(crate::support::events::LOG, &crate::support::events::batch(events))
            .await
            .expect("applied");
        index.serve_rebuilt(&rebuild).await.expect("served");
        index.end_rebuild(&rebuild).await.expect("ended");
        let (all, _, versions, counted) = shown(&*index).await;
        assert_eq!((all, versions.len(), counted), (1, 1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lead_whose_status_is_removido_is_not_taken_for_a_removal() {
    let mut named = lead(1, 5);
    named.insert("status_lead".to_owned(), json!("removido"));
    let (place, engine) = with_leads::<Embedded>(vec![named]).await;
    assert_eq!(value(&engine, "SELECT evento FROM eventos_raw").await, Value::from("lead_removido"));
    assert_eq!((stored(&engine, "SELECT count(*) FROM leads").await, found(&engine, "*").await), (1, 1));
    engine.shut_down().await;
    place.clean_up().await;
}
