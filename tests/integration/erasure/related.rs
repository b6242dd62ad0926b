//! What refers to the erased goes with them, however it leads to them, and where that can't be told nothing goes.

use sluice::source::sample::SampleColumn;

use super::*;
use crate::support::folder::TestFolder;

on_each_adapter! {
    embedded: Embedded, real: Real;
    what_refers_to_the_erased_by_any_column_or_through_others_goes_and_only_where_it_is_defined,
}

const MESSAGES: &str = "
    name = 'mensagens'
    about = 'messages of chat sessions'
    entity = 'mensagem'
    key = { column = 'id', type = 'bigint' }
    event = { categoria = 'engajamento', evento = 'mensagem' }
    columns = [
        { name = 'sessao', type = 'text', refers_to = 'chat_sessions' },
        { name = 'de', type = 'text', refers_to = 'leads' },
        { name = 'para', type = 'text', refers_to = 'leads' },
    ]
";

async fn what_refers_to_the_erased_by_any_column_or_through_others_goes_and_only_where_it_is_defined<
    P: Place,
>() {
    let mut place = P::new().await;
    let tables = TestFolder::new();
    let definition = tables.path().join("mensagens.toml");
    std::fs::write(&definition, MESSAGES).expect("written");
    place.set("SLUICE_TABLES_DIR", &tables.path().display().to_string());
    let columns = ["sessao", "de", "para"].map(|name| SampleColumn::new(name, "text"));
    let columns = std::iter::once(SampleColumn::key("id", "bigint")).chain(columns).collect();
    let messages = [
        json!({"id": 1, "sessao": id(800)}),
        json!({"id": 2, "de": id(1), "para": id(700)}),
        json!({"id": 3, "sessao": id(1), "de": id(2)}),
    ];
    let messages = messages.map(|message| message.to_string());
    place.source().create_table("public", "mensagens", columns, &messages).expect("rows");
    let (place, engine) = with_zuleica_in(place).await;
    let of_messages = engine.catalog.get("mensagens").expect("mensagens");
    assert_eq!(sync(&engine, request(of_messages)).await.appended, 3);
    let shown = engine.questions.entity(table("leads"), &EntityKey::Key(id(1))).await.expect("a lead");
    let related: Vec<(&str, usize)> =
        shown.related.iter().map(|one| (one.table.name(), one.entities.len())).collect();
    assert_eq!(related, [("chat_sessions", 1), ("mensagens", 1)], "each table once");
    engine.shut_down().await;
    drop(engine);

    std::fs::remove_file(&definition).expect("removed");
    let engine = place.engine().await;
    let refused =
        engine.erasures.erase(&by_key(), "a test").await.expect_err("who else is unknown").to_string();
    for part in ["not defined here, which may: mensagem", "nothing was erased", "SLUICE_TABLES_DIR"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert_eq!(value(&engine, "SELECT count(*) FROM leads").await, json!(11));
    engine.shut_down().await;
    drop(engine);

    std::fs::write(&definition, MESSAGES).expect("written");
    let engine = place.engine().await;
    let report = erased(&engine, &by_key()).await;
    assert_eq!(report.related, 3, "her session, the message in it, and the one to her: {report:?}");
    assert_nothing_of_her(&place, &engine).await;
    assert_eq!(value(&engine, "SELECT count(*) FROM mensagens").await, json!(1));
    let of_messages = engine.catalog.get("mensagens").expect("mensagens");
    assert_eq!(documents(&engine, IndexName::Entities(of_messages), None).await.len(), 1);
    engine.shut_down().await;
    place.clean_up().await;
}
