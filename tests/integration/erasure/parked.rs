//! Dead letters alone may tell of somebody: they count as a place like any other.

use super::*;

on_each_adapter! {
    embedded: Embedded, real: Real;
    whom_dead_letters_alone_know_is_erased_by_address_with_what_refers_to_them_and_what_is_parked_meanwhile,
}

/// A row that no record can hold, so that nothing but a letter tells of it.
fn too_large(mut row: JsonObject, column: &str) -> JsonObject {
    row.insert(column.to_owned(), json!("x".repeat(9 << 20)));
    row
}

async fn whom_dead_letters_alone_know_is_erased_by_address_with_what_refers_to_them_and_what_is_parked_meanwhile<
    P: Place,
>() {
    let place = P::new().await;
    let mut hers = session(800, 5, 9);
    hers.insert("lead_id".to_owned(), json!(id(700)));
    place.source().set_rows(table("leads"), leads(3));
    place.source().upsert(table("leads"), vec![too_large(zuleica(), "utm_source")]);
    place.source().upsert(table("chat_sessions"), vec![too_large(hers, "user_agent")]);
    let engine = place.engine().await;
    engine.start_drains().await;
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 3);
    assert_eq!(sync(&engine, request(table("chat_sessions"))).await.appended, 0);
    assert_eq!(engine.letters.open_count().await.expect("a count"), 2);

    let address = by_email(&EMAIL.to_uppercase());
    let alone = ErasureRequest { related: false, ..address.clone() };
    let told = engine.erasures.preview(&alone, "a test").await.expect("somebody").to_string();
    assert!(told.contains("; 1 entities of other tables that refer to them stay"), "{told}");
    let preview = engine.erasures.preview(&address, "a test").await.expect("somebody");
    let told = preview.to_string();
    let whom =
        format!("1 of leads (key \"{}\") and 1 of chat_sessions that refer to them and 2 dead", id(700));
    assert!(told.contains(&whom), "{told}");

    // Somebody is asked, and meanwhile her row is parked once more.
    let mut changed = zuleica();
    changed.insert("telefone".to_owned(), json!("+55 61 97777-6666"));
    place.source().upsert(table("leads"), vec![too_large(changed, "utm_source")]);
    sync(&engine, request(table("leads"))).await;
    assert_eq!(engine.letters.open_count().await.expect("a count"), 3);
    delete_at_source(&place);
    let report = engine.erasures.erase_previewed(&address, "a test", preview, false).await.expect("erased");
    assert!(report.complete, "{report:?}");
    assert_eq!((report.keys.as_slice(), report.related), ([id(700)].as_slice(), 1), "{report:?}");
    let letters = report.removed.iter().find(|one| one.place == "dead letters").expect("told");
    assert_eq!((letters.count, engine.letters.open_count().await.expect("a count")), (3, 0), "{report:?}");
    assert_nothing_of_her(&place, &engine).await;

    // Kafka's letters tell of her for as long as the topic keeps them.
    match engine.erasures.preview(&address, "a test").await {
        Ok(preview) => {
            let told = preview.to_string();
            assert!(told.contains("; 2 of these had been erased before"), "{told}");
        }
        Err(error) => assert!(matches!(error, EngineError::UnknownEntity { .. }), "{error}"),
    }
    let report = erased(&engine, &ErasureRequest { related: false, ..by_key() }).await;
    assert!(!report.remains.iter().any(|one| one.what.contains("refer to what was erased")), "{report:?}");
    engine.shut_down().await;
    place.clean_up().await;
}
