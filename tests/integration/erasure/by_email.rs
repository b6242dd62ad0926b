//! One address names everybody who has it, wherever they are, however many they are and however it is written.

use sluice::source::sample::SampleColumn;

use super::*;
use crate::support::folder::TestFolder;

on_each_adapter! {
    embedded: Embedded, real: Real;
    an_address_names_all_who_have_it_in_the_index_and_at_the_source_however_it_is_written,
    an_address_is_looked_for_in_every_column_of_lookup_and_only_who_was_told_is_erased,
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

const CLIENTES: &str = "
    name = 'clientes'
    about = 'customers'
    entity = 'cliente'
    key = { column = 'id', type = 'bigint' }
    event = { categoria = 'cadastro', evento = 'cliente' }
    columns = [
        { name = 'e_mail', from = 'E-mail', type = 'text', masked = true, lookup = true },
        { name = 'dono', type = 'text', masked = true, lookup = true, search = 'keyword' },
    ]
";

async fn an_address_is_looked_for_in_every_column_of_lookup_and_only_who_was_told_is_erased<P: Place>() {
    let mut place = P::new().await;
    let tables = TestFolder::new();
    std::fs::write(tables.path().join("clientes.toml"), CLIENTES).expect("written");
    place.set("SLUICE_TABLES_DIR", &tables.path().display().to_string());
    let columns = ["E-mail", "dono"].map(|name| SampleColumn::new(name, "text"));
    let columns = std::iter::once(SampleColumn::key("id", "bigint")).chain(columns).collect();
    let rows = [
        json!({"id": 1, "E-mail": SHARED.to_uppercase()}),
        json!({"id": 2, "E-mail": "outra@apagar.example", "dono": format!(" {}", SHARED.to_uppercase())}),
        json!({"id": 3, "E-mail": "outra@apagar.example"}),
    ];
    let text = rows.iter().map(ToString::to_string).collect::<Vec<_>>();
    place.source().create_table("public", "clientes", columns, &text).expect("rows");
    let engine = place.engine().await;
    engine.start_drains().await;
    let clientes = engine.catalog.get("clientes").expect("clientes");
    assert_eq!(sync(&engine, request(clientes)).await.appended, 3);
    let by_address = ErasureRequest { table: clientes, ..by_email(SHARED) };
    let preview = engine.erasures.preview(&by_address, "a test").await.expect("somebody");
    let told = preview.to_string();
    assert!(told.starts_with("removes 2 of clientes (keys \"1\", \"2\") from the store"), "{told}");

    let row = |row: &Value| row.as_object().cloned().expect("an object");
    let later = json!({"id": 4, "dono": SHARED});
    place.source().set_rows(clientes, vec![row(&rows[2]), row(&later)]);
    let refusal =
        engine.erasures.erase_previewed(&by_address, "a test", preview, true).await.expect_err("others");
    assert!(refusal.to_string().contains("nothing was erased: call again"), "{refusal}");
    assert_eq!(value(&engine, "SELECT count(*) FROM clientes").await, json!(3));
    engine.shut_down().await;
    drop(engine);
    // The index alone knows the first two.
    place.execute("DELETE FROM clientes").await;
    place.execute("DELETE FROM eventos_raw").await;
    let engine = place.engine().await;
    let clientes = engine.catalog.get("clientes").expect("clientes");
    let by_address = ErasureRequest { table: clientes, ..by_email(SHARED) };
    let preview = engine.erasures.preview(&by_address, "a test").await.expect("somebody");
    let report = engine.erasures.erase_previewed(&by_address, "a test", preview, true).await.expect("erased");
    assert!(report.complete && report.keys == ["1", "2", "4"], "{report:?}");
    assert_eq!(documents(&engine, IndexName::Entities(clientes), None).await.len(), 1);
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
