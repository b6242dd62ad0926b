//! One address names everybody who has it, wherever they are, however many they are and however it is written.

use super::*;

on_each_adapter! {
    embedded: Embedded, real: Real;
    an_address_names_all_who_have_it_in_the_index_and_at_the_source_however_it_is_written,
    an_empty_address_names_nobody,
    an_address_of_more_than_can_be_erased_at_once_erases_nobody,
}

const SHARED: &str = "ana_luz@apagar.example";

/// The address as people and forms write it.
fn written(n: u128) -> String {
    match n % 4 {
        0 => SHARED.to_uppercase(),
        1 => format!("  {SHARED}\t"),
        2 => SHARED.replace("ana", "Ana"),
        _ => SHARED.to_owned(),
    }
}

fn with_address(n: u128, address: String) -> JsonObject {
    let mut row = lead(n, 2);
    row.insert("email".to_owned(), json!(address));
    row
}

async fn an_address_names_all_who_have_it_in_the_index_and_at_the_source_however_it_is_written<P: Place>() {
    let place = P::new().await;
    let others = ["anaXluz@apagar.example", "diana_luz@apagar.example", "ana_luz@apagar.example.br"];
    let others = (900..).zip(others).map(|(n, other)| with_address(n, other.to_owned()));
    let others: Vec<JsonObject> = others.collect();
    let indexed = (1..=130).map(|n| with_address(n, written(n)));
    place.source().set_rows(table("leads"), indexed.chain(others.clone()).collect());
    let engine = place.engine().await;
    engine.start_drains().await;
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 133);
    engine.shut_down().await;
    drop(engine);
    // The index alone knows the first, the source alone the others.
    place.execute("DELETE FROM leads").await;
    place.execute("DELETE FROM eventos_raw").await;
    let unread = (201..=330).map(|n| with_address(n, written(n)));
    place.source().set_rows(table("leads"), unread.chain(others).collect());

    let engine = place.engine().await;
    let report = erased(&engine, &by_email(&format!("{}\n", SHARED.to_uppercase()))).await;
    assert_eq!(report.keys.len(), 260, "{report:?}");
    assert!(
        report.remains.iter().any(|one| one.what.starts_with("130 of these rows still stand")),
        "{report:?}"
    );
    let left = documents(&engine, IndexName::Entities(table("leads")), None).await;
    assert_eq!(left.len(), 3, "those who have another address");
    engine.shut_down().await;
    place.clean_up().await;
}

async fn an_empty_address_names_nobody<P: Place>() {
    let place = P::new().await;
    place.source().set_rows(table("leads"), vec![with_address(1, " ".to_owned())]);
    let engine = place.engine().await;
    let refusal = engine.erasures.erase(&by_email(" "), "a test").await.expect_err("nobody is meant");
    assert!(refusal.to_string().contains("email: is empty"), "{refusal}");
    engine.shut_down().await;
    place.clean_up().await;
}

async fn an_address_of_more_than_can_be_erased_at_once_erases_nobody<P: Place>() {
    let place = P::new().await;
    let rows = (1..=10_001).map(|n| with_address(n, written(n)));
    place.source().set_rows(table("leads"), rows.collect());
    let engine = place.engine().await;
    engine.start_drains().await;
    let some = sync(&engine, sluice::store::SyncRequest { limit: 50, ..request(table("leads")) }).await;
    assert_eq!(some.appended, 50);
    let refusal = engine.erasures.erase(&by_email(SHARED), "a test").await.expect_err("too many");
    let told = refusal.to_string();
    assert!(told.contains("at least 10001 entities") && told.contains("nothing was erased"), "{told}");
    assert_eq!(documents(&engine, IndexName::Entities(table("leads")), None).await.len(), 50);
    let again = sync(&engine, sluice::store::SyncRequest { limit: 50, ..request(table("leads")) }).await;
    assert_eq!((again.appended, again.erased), (50, 0), "nobody is in the ledger");
    engine.shut_down().await;
    place.clean_up().await;
}
