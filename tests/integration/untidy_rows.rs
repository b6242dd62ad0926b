//! Ordinary, untidy data: clocks, types, sizes and schemas as clients and operators leave them. Each of these once
//! lost a row, held up a table, or said "done" of what was not.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::{
    engine::{EntityKey, LetterFilter, LetterState, SyncPhase},
    index::IndexName,
    store::SyncRequest,
};

use crate::support::{
    on_each_adapter,
    place::{Embedded, Place, Real, documents, rows, value},
    request,
    rows::{id, lead, leads, minutes_ago, object, session, spelled},
    sync, table,
};

on_each_adapter! {
    embedded: Embedded, real: Real;
    a_row_dated_ahead_holds_up_no_later_sync_and_is_named,
    two_contents_under_one_time_are_applied_in_both_sinks,
    a_row_that_comes_late_or_back_dated_is_read,
    a_row_of_a_megabyte_goes_the_whole_way_and_one_too_large_is_parked_alone,
    a_value_that_does_not_fit_its_column_is_null_there_and_named,
    a_nul_is_the_same_in_both_sinks,
    every_digit_of_a_number_arrives,
    digits_that_no_double_has_are_shown_and_a_valor_that_no_sum_holds_is_named,
    a_row_nested_deeper_than_postgres_takes_is_in_both_sinks,
    a_table_or_column_that_the_project_lacks_fails_nothing_else,
    a_column_that_goes_is_told_and_a_personal_one_that_may_have_another_name_is_not_read,
    the_same_bad_row_is_parked_once,
}

fn leads_index() -> IndexName {
    IndexName::Entities(table("leads"))
}

fn resumed(name: &str) -> SyncRequest {
    SyncRequest { resume: true, ..request(table(name)) }
}

async fn a_row_dated_ahead_holds_up_no_later_sync_and_is_named<P: Place>() {
    let place = P::new().await;
    let mut ahead = lead(7, 5);
    ahead.insert("updated_at".into(), json!("2099-01-01T00:00:00+00:00"));
    let mut a_little_ahead = lead(8, 5);
    a_little_ahead
        .insert("updated_at".into(), json!(spelled(chrono::Utc::now() + chrono::TimeDelta::hours(3))));
    let mut all = leads(3);
    all.extend([ahead, a_little_ahead]);
    place.source().set_rows(table("leads"), all);
    let engine = place.engine().await;
    engine.start_drains().await;
    let first = sync(&engine, resumed("leads")).await;
    assert_eq!((first.appended, first.ahead), (5, 2));

    place.source().upsert(table("leads"), vec![lead(9, 0)]);
    let second = sync(&engine, resumed("leads")).await;
    assert_eq!((second.state, second.appended, second.ahead), (SyncPhase::Done, 1, 2));
    assert_eq!(value(&engine, "SELECT count(*) FROM leads").await, json!(6));

    let findings = engine.doctor.examine().await;
    let named = findings.iter().find(|finding| finding.check.contains("dated ahead")).expect("a finding");
    assert!(named.detail.starts_with("2 rows") && named.next_step.is_some(), "{named:?}");
    engine.shut_down().await;
    place.clean_up().await;
}

async fn two_contents_under_one_time_are_applied_in_both_sinks<P: Place>() {
    let place = P::new().await;
    let first = lead(1, 5);
    let mut second = first.clone();
    second.insert("nome".into(), json!("Outro Nome"));
    place.source().set_rows(table("leads"), vec![first.clone()]);
    let engine = place.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;

    // One sink sleeps while the content changes and changes back and forth: they agree all the same.
    let sleeper = engine.drains.reports()[1].sink.clone();
    engine.drains.pause(&sleeper, "teste").await.expect("paused");
    for row in [&second, &first, &second] {
        place.source().upsert(table("leads"), vec![row.clone()]);
        let id = engine.syncs.start(request(table("leads"))).await.expect("a sync");
        crate::support::eventually("it is appended", async || {
            engine.syncs.status(id).await.expect("a status").state != SyncPhase::Running
        })
        .await;
    }
    engine.drains.resume(&sleeper).await.expect("resumed");
    let last = sync(&engine, request(table("leads"))).await;
    assert_eq!((last.appended, last.unchanged), (0, 1));
    crate::support::eventually("both sinks are through", async || {
        engine.drains.lag().await.expect("lag").iter().all(|sink| sink.total == 0)
    })
    .await;
    assert_eq!(value(&engine, "SELECT nome FROM leads").await, "Outro Nome");
    crate::support::eventually("the document is the last content", async || {
        documents(&engine, leads_index(), None).await[0]["nome"] == "Outro Nome"
    })
    .await;
    assert_eq!(value(&engine, "SELECT count(*) FROM eventos_raw").await, json!(2));
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_row_that_comes_late_or_back_dated_is_read<P: Place>() {
    let place = P::new().await;
    place.source().set_rows(table("leads"), leads(3));
    let engine = place.engine().await;
    engine.start_drains().await;
    assert_eq!(sync(&engine, resumed("leads")).await.appended, 3);

    // Committed after the time it bears: the overlap finds it.
    place.source().upsert(table("leads"), vec![lead(11, 3)]);
    assert_eq!(sync(&engine, resumed("leads")).await.appended, 1);
    // Further back than any overlap, but in the window that was asked for.
    place.source().upsert(table("leads"), vec![lead(12, 5 * 60)]);
    assert_eq!(sync(&engine, resumed("leads")).await.appended, 0);
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 1);
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_row_of_a_megabyte_goes_the_whole_way_and_one_too_large_is_parked_alone<P: Place>() {
    let place = P::new().await;
    let mut all = leads(2);
    for (n, bytes) in [(5, 500_000), (6, 1_100_000), (7, 9_000_000)] {
        let mut large = lead(n, 5);
        large.insert("observacoes".into(), json!("x".repeat(bytes)));
        all.push(large);
    }
    place.source().set_rows(table("leads"), all);
    let engine = place.engine().await;
    engine.start_drains().await;
    let first = sync(&engine, request(table("leads"))).await;
    assert_eq!((first.state, first.appended, first.dead_letters), (SyncPhase::Done, 4, 1));
    assert_eq!(
        engine.letters.open_count().await.expect("a count"),
        1,
        "its neighbours settle no letter of its own"
    );
    let again = sync(&engine, request(table("leads"))).await;
    assert_eq!((again.appended, again.dead_letters), (0, 0), "parked once");
    assert_eq!(value(&engine, "SELECT count(*) FROM leads").await, json!(4));
    assert_eq!(documents(&engine, leads_index(), None).await.len(), 4);

    let page = engine.letters.page(&LetterFilter::default(), None, 10).await.expect("letters");
    let [letter] = &page.letters[..] else { panic!("one letter: {page:?}") };
    assert_eq!(letter.header("entity"), Some(id(7)));
    assert!(
        letter.header("size").is_some_and(|size| size.parse::<usize>().is_ok_and(|size| size > 9_000_000))
    );
    assert!(letter.header("error").is_some_and(|error| error.contains("KAFKA_MAX_MESSAGE_BYTES")));
    assert!(letter.record.value.as_ref().is_some_and(|value| value.len() <= 1_024));

    // Shortened at the source, it is taken, and its letter is settled.
    place.source().upsert(table("leads"), vec![lead(7, 1)]);
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 1);
    assert_eq!(engine.letters.open_count().await.expect("a count"), 0);
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_value_that_does_not_fit_its_column_is_null_there_and_named<P: Place>() {
    let place = P::new().await;
    let mut fraction = lead(1, 5);
    fraction.insert("score_qualificacao".into(), json!(72.5));
    let mut word = lead(2, 5);
    word.insert("score_qualificacao".into(), json!("alto"));
    let mut nested = lead(3, 5);
    nested.insert("nome".into(), json!({"primeiro": "Ana"}));
    place.source().set_rows(table("leads"), vec![fraction, word, nested]);
    let mut half = session(1, 5, 3);
    half.insert("duration_seconds".into(), json!(12.75));
    place.source().set_rows(table("chat_sessions"), vec![half]);
    let engine = place.engine().await;
    engine.start_drains().await;
    let leads = sync(&engine, request(table("leads"))).await;
    assert_eq!((leads.state, leads.appended, leads.dead_letters), (SyncPhase::Done, 3, 0));
    let told: Vec<_> =
        leads.misfits.iter().map(|m| (m.column.as_str(), m.values, m.expected.as_str())).collect();
    assert_eq!(told, [("nome", 1, "texts"), ("score_qualificacao", 1, "numbers")]);
    let scores = rows(&engine, "SELECT score_qualificacao FROM leads ORDER BY id").await;
    assert_eq!(as_number(&scores[0][0]), Some(72.5));
    assert_eq!(scores[1][0], Value::Null);
    assert_eq!(documents(&engine, leads_index(), Some("score_qualificacao:72.5")).await.len(), 1);

    let sessions = sync(&engine, request(table("chat_sessions"))).await;
    assert_eq!((sessions.appended, sessions.dead_letters), (1, 0));
    let seconds = value(&engine, "SELECT duration_seconds FROM chat_sessions").await;
    assert_eq!(as_number(&seconds), Some(12.75));
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_nul_is_the_same_in_both_sinks<P: Place>() {
    let place = P::new().await;
    let mut row = lead(1, 5);
    row.insert("nome".into(), json!("nul\0x"));
    row.insert("interesse".into(), json!(["a\0"]));
    row.insert("localizacao".into(), json!({"uf": "S\0P"}));
    place.source().set_rows(table("leads"), vec![row]);
    let engine = place.engine().await;
    engine.start_drains().await;
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 1);
    assert_eq!(value(&engine, "SELECT nome FROM leads").await, json!("nul\u{fffd}x"));
    let document = documents(&engine, leads_index(), None).await.remove(0);
    assert_eq!(document["nome"], "nul\u{fffd}x");
    assert_eq!(document["interesse"], json!(["a\u{fffd}"]));
    assert_eq!(document["localizacao"], json!({"uf": "S\u{fffd}P"}));
    engine.shut_down().await;
    place.clean_up().await;
}

/// A `numeric` of Postgres comes as text, so that no digit is lost.
fn as_number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

async fn digits_that_no_double_has_are_shown_and_a_valor_that_no_sum_holds_is_named<P: Place>() {
    let place = P::new().await;
    let row = |n, score: &str, latitude: &str| {
        let (id, at) = (id(n), minutes_ago(5));
        format!(
            r#"{{"id":"{id}","updated_at":"{at}","score_qualificacao":{score},"localizacao":{{"lat":{latitude}}}}}"#
        )
    };
    let sent = [row(1, "12345678901234567890.10", "-23.55050000000000001"), row(2, "1.797e308", "0")];
    place.source().set_text_rows(table("leads"), &sent).expect("rows");
    let engine = place.engine().await;
    engine.start_drains().await;
    let synced = sync(&engine, request(table("leads"))).await;
    let named: Vec<_> = synced.misfits.iter().map(|one| (one.column.as_str(), one.values)).collect();
    assert_eq!(named, [("valor", 1)], "{synced:?}");
    let valor = format!("SELECT valor FROM eventos_raw WHERE entidade_id = '{}'", id(2));
    assert_eq!(value(&engine, &valor).await.as_f64(), Some(0.0));
    let shown = engine.questions.entity(table("leads"), &EntityKey::Key(id(1))).await.expect("an entity");
    assert_eq!(shown.entity.row["score_qualificacao"], "12345678901234567890.10");
    engine.shut_down().await;

    let statement = format!("SELECT localizacao FROM leads WHERE id = '{}'", id(1));
    let output = place.command(&["sql", &statement]).output().await.expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("-23.55050000000000001}"), "{text}");
    place.clean_up().await;
}

async fn every_digit_of_a_number_arrives<P: Place>() {
    let place = P::new().await;
    let doubles: Vec<f64> = (1..=200).map(|n| 1.0 / f64::from(n) + f64::from(n)).collect();
    let mut row = lead(1, 5);
    row.insert("medidas".into(), json!(doubles));
    place.source().set_rows(table("leads"), vec![row.clone()]);
    let engine = place.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    let stored = engine
        .questions
        .events(&sluice::store::EventFilter::default(), sluice::store::EventOrder::Newest, None, 10)
        .await
        .expect("events");
    let digits = serde_json::to_string(&doubles).expect("JSON");
    let dados = stored.events[0].dados.as_str().replace(' ', "");
    assert!(dados.contains(&digits), "{dados}");
    // A change in the last digit is a change.
    let last = f64::from_bits(doubles[7].to_bits() + 1);
    row["medidas"][7] = json!(last);
    place.source().upsert(table("leads"), vec![row]);
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 1);
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_row_nested_deeper_than_postgres_takes_is_in_both_sinks<P: Place>() {
    let place = P::new().await;
    let nested = |n: u128, depth: usize| {
        let mut row = lead(n, 5);
        row.insert("medidas".into(), json!("aqui"));
        let deep = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        Value::Object(row).to_string().replace("\"aqui\"", &deep)
    };
    let all = [nested(1, 20_000), nested(2, 300_000), nested(3, 2)];
    place.source().set_text_rows(table("leads"), &all).expect("rows");
    let engine = place.engine().await;
    engine.start_drains().await;
    let synced = sync(&engine, request(table("leads"))).await;
    assert_eq!((synced.state, synced.appended, synced.dead_letters), (SyncPhase::Done, 3, 0));
    assert_eq!(engine.letters.open_count().await.expect("a count"), 0);
    assert_eq!(value(&engine, "SELECT count(*) FROM leads").await, json!(3));
    assert_eq!(documents(&engine, leads_index(), None).await.len(), 3);
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_table_or_column_that_the_project_lacks_fails_nothing_else<P: Place>() {
    let place = P::new().await;
    place.source().set_rows(table("leads"), leads(4));
    place.source().drop_column(table("leads"), "status_lead");
    place.source().drop_table(table("chat_sessions"));
    let engine = place.engine().await;
    engine.start_drains().await;
    let synced = sync(&engine, request(table("leads"))).await;
    assert_eq!((synced.state, synced.appended), (SyncPhase::Done, 4));

    let (_, overview) = engine.project.overview().await.expect("an overview");
    let of = |name: &str| overview.iter().find(|one| one.table == name).expect("the table is told of");
    assert_eq!(of("leads").total, Some(4));
    let broken_down: Vec<&str> = of("leads").breakdowns.iter().map(|one| one.column.as_str()).collect();
    assert_eq!(broken_down, ["origem"]);
    assert_eq!(of("chat_sessions").total, None);
    assert!(of("chat_sessions").problem.is_some());
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_column_that_goes_is_told_and_a_personal_one_that_may_have_another_name_is_not_read<P: Place>() {
    let place = P::new().await;
    let leads_table = table("leads");
    place.source().set_rows(leads_table, leads(2));
    let engine = place.engine().await;
    engine.start_drains().await;
    let first = sync(&engine, request(leads_table)).await;
    assert_eq!((first.state, first.appended, first.lost_columns.len()), (SyncPhase::Done, 2, 0));

    place.source().drop_column(leads_table, "origem");
    let synced = sync(&engine, request(leads_table)).await;
    assert_eq!((synced.state, synced.appended), (SyncPhase::Done, 2), "they are other rows now");
    assert_eq!(synced.lost_columns, ["origem"]);
    let status = engine.inspection.status().await;
    let is_told =
        status.warnings.iter().any(|one| one.problem.contains("rows of leads have no origem any more"));
    assert!(is_told, "{:?}", status.warnings);
    let findings = engine.doctor.examine().await;
    let named = findings.iter().find(|finding| finding.detail.contains("no column origem any more"));
    assert!(named.and_then(|finding| finding.next_step.as_ref()).is_some(), "{findings:?}");

    place.source().drop_column(leads_table, "telefone");
    let mut renamed = lead(1, 0);
    renamed.remove("origem");
    renamed.insert("celular".into(), json!("falar com Ana"));
    place.source().upsert(leads_table, vec![renamed]);
    for _ in 0..2 {
        let refused = sync(&engine, request(leads_table)).await;
        assert_eq!((refused.state, refused.appended), (SyncPhase::Failed, 0));
        let error = refused.error.expect("it says why");
        assert!(error.contains("no telefone any more") && error.contains("have celular,"), "{error}");
    }
    engine.shut_down().await;
    place.clean_up().await;
}

async fn the_same_bad_row_is_parked_once<P: Place>() {
    let place = P::new().await;
    let bad = object(json!({"id": "1-x", "nome": "chave errada", "updated_at": minutes_ago(4)}));
    let mut all = leads(2);
    all.push(bad);
    place.source().set_rows(table("leads"), all);
    let engine = place.engine().await;
    engine.start_drains().await;
    let first = sync(&engine, request(table("leads"))).await;
    assert_eq!((first.appended, first.dead_letters), (2, 1));
    assert_eq!(engine.letters.open_count().await.expect("a count"), 1);
    let again = sync(&engine, request(table("leads"))).await;
    assert_eq!(
        (again.appended, again.unchanged, again.dead_letters),
        (0, 3, 0),
        "the same row is parked once"
    );
    let page = engine.letters.page(&LetterFilter::default(), None, 10).await.expect("letters");
    assert_eq!(page.letters[0].state(), LetterState::Open);
    assert!(engine.inspection.status().await.dead_letters == Some(1));
    tokio::time::timeout(Duration::from_secs(30), engine.shut_down()).await.expect("it ends");
    place.clean_up().await;
}
