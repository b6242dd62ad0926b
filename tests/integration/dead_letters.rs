//! Dead letters that are listed, replayed and discarded.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sluice::{
    domain::TableName,
    engine::{Engine, LetterFilter, Outcome, Selection, SyncPhase},
    log::Position,
    store::Reconciliation,
};

use crate::support::table;
use crate::support::{
    Pipeline,
    client::Client,
    events::{manual, only_an_index_takes},
    eventually, finished,
    raw_kafka::produce_with_header,
    request,
    rows::{delete_topics_for_good, lead, leads, minutes_ago, object, produce},
    sync,
};

/// A rule of the operator's own that one lead breaks.
const RULE: &str = "ALTER TABLE leads ADD CONSTRAINT sem_sete CHECK (nome !~ ' 7$')";

fn ids(list: &Value) -> Vec<String> {
    let letters = list["letters"].as_array().expect("letters");
    letters.iter().map(|letter| letter["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_whose_cause_was_mended_is_replayed_and_a_repeated_replay_adds_nothing_twice() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(10));
    let engine = pipeline.engine().await;
    engine.prepare().await.expect("prepared");
    pipeline.execute(RULE).await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    assert_eq!(pipeline.number("SELECT count(*) FROM eventos_raw").await, 9);
    assert_eq!(engine.inspection.status().await.dead_letters, Some(1));

    // Not mended: it comes back as a new letter, and the old one is settled.
    let all = Selection::Open { sink: Some("postgres".to_owned()), from: None, limit: 10 };
    let early = engine.letters.replay(&all, "ana").await.expect("replayed");
    assert_eq!((early.settled.len(), early.left.len()), (1, 0), "{early:?}");
    eventually("the new letter is there", async || {
        engine.letters.page(&LetterFilter::default(), None, 10).await.expect("letters").letters.len() == 2
            && engine.letters.open_count().await.expect("a count") == 1
    })
    .await;

    pipeline.execute("ALTER TABLE leads DROP CONSTRAINT sem_sete").await;
    let page = engine.letters.page(&LetterFilter::default(), None, 10).await.expect("letters");
    assert_eq!(page.letters.len(), 2);
    assert_eq!(page.letters[0].header("replayed_from").as_deref(), Some(page.letters[1].id().as_str()));
    let outcome = engine.letters.replay(&all, "ana").await.expect("replayed");
    assert_eq!(outcome.settled, [page.letters[0].id()]);
    engine.drains.wait_for(&outcome.targets, std::time::Duration::from_mins(1)).await.expect("drained");
    pipeline.assert_events(10).await;

    // The process ended between appending and settling: the letter is open still.
    pipeline.execute("DELETE FROM sluice_resolved_letters").await;
    assert_eq!(engine.letters.open_count().await.expect("a count"), 2);
    let outcome = engine.letters.replay(&all, "ana").await.expect("replayed");
    assert_eq!(outcome.settled.len(), 2);
    let sinks = engine.drains.wait_for(&outcome.targets, std::time::Duration::from_mins(1)).await;
    assert!(sinks.expect("drained").iter().all(|sink| sink.queryable));
    pipeline.assert_events_in_full(10).await;
    assert_eq!(engine.inspection.status().await.dead_letters, Some(0));

    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_letters_whose_topic_is_deleted_are_told_until_their_table_is_reconciled() {
    let pipeline = Pipeline::new().await;
    let (mut keyless, mut too_large) = (lead(11, 2), lead(12, 2));
    keyless.insert("id".to_owned(), json!("A-17"));
    too_large.insert("nome".to_owned(), json!("x".repeat(9 << 20)));
    let mut rows = leads(10);
    rows.extend([keyless, too_large]);
    pipeline.source.set_rows(table("leads"), rows);
    let engine = pipeline.engine().await;
    engine.prepare().await.expect("prepared");
    pipeline.execute(RULE).await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    pipeline.execute("ALTER TABLE leads DROP CONSTRAINT sem_sete").await;
    assert_eq!(engine.letters.open_count().await.expect("a count"), 3);
    engine.shut_down().await;
    drop(engine);

    delete_topics_for_good(&[&format!("{}.dlq", pipeline.variables["KAFKA_TOPIC"])]).await;
    let engine = pipeline.engine().await;
    let lost = async || {
        let told = engine.doctor.examine().await;
        told.iter()
            .any(|one| one.check == "lost dead letters" && one.detail.starts_with("3 dead letters of leads"))
    };
    assert!(lost().await, "also before anybody makes the topic anew");
    engine.start_drains().await;
    eventually("the topic is made anew", async || engine.letters.open_count().await.is_ok()).await;
    let told = async |open| {
        let status = engine.inspection.status().await;
        assert_eq!(status.dead_letters, Some(open), "{status:?}");
        let found =
            status.problems.iter().map(ToString::to_string).find(|one| one.contains("dead letters of"));
        assert!(found.is_none() || !status.healthy, "{status:?}");
        let doctor = engine.doctor.examine().await;
        assert_eq!(
            doctor.iter().any(|one| one.check == "lost dead letters" && one.outcome == Outcome::Failed),
            found.is_some(),
            "{doctor:?}"
        );
        found
    };
    let problem = told(0).await.expect("a problem");
    assert!(problem.starts_with("3 dead letters of leads were open and are not in"), "{problem}");
    assert!(problem.contains("reconcile leads"), "{problem}");
    assert_eq!(pipeline.number("SELECT count(*) FROM leads").await, 9);

    let leads = TableName::from(table("leads"));
    // The rows that made no event are parked anew, once.
    for dead_letters in [2, 0] {
        let id = engine.syncs.reconcile(&leads, Reconciliation::default()).await.expect("a reconciliation");
        let status = finished(&engine, id).await;
        assert_eq!((status.state, status.dead_letters), (SyncPhase::Done, dead_letters), "{status:?}");
        assert_eq!(told(2).await, None);
    }
    pipeline.assert_events(10).await;
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_letter_is_parked_in_a_topic_that_was_made_anew_while_a_sync_read() {
    let pipeline = Pipeline::new().await;
    let mut keyless = lead(1, 2);
    keyless.insert("id".to_owned(), json!("A-17"));
    pipeline.source.set_rows(table("leads"), vec![keyless]);
    let engine = pipeline.engine().await;
    engine.prepare().await.expect("prepared");
    let (asked, mut is_asked) = tokio::sync::mpsc::unbounded_channel();
    let (answer, may_answer) = std::sync::mpsc::channel::<()>();
    let may_answer = Mutex::new(may_answer);
    pipeline.source.before_each_answer(move |_| {
        _ = asked.send(());
        // From when the sender is gone on, at once.
        _ = may_answer.lock().expect("a lock").recv();
    });
    let reading = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move { sync(&engine, request(table("leads"))).await }
    });
    is_asked.recv().await.expect("the source is asked");
    delete_topics_for_good(&[&format!("{}.dlq", pipeline.variables["KAFKA_TOPIC"])]).await;
    pipeline.engine().await.prepare().await.expect("made anew");
    drop(answer);
    let status = reading.await.expect("it ends");
    let error = status.error.as_deref().unwrap_or_default();
    assert!(error.contains("the dead letters' topic was deleted and made anew"), "{status:?}");
    assert_eq!(engine.letters.open_count().await.expect("a count"), 0, "it would be noted where it is not");

    assert_eq!(sync(&engine, request(table("leads"))).await.dead_letters, 1);
    engine.shut_down().await;
    pipeline.clean_up().await;
}

/// Ten leads; the store refused one version of a lead, which a later one followed.
async fn overtaken() -> (Pipeline, Arc<Engine>) {
    let pipeline = Pipeline::new().await;
    let mut rows = leads(10);
    pipeline.source.set_rows(table("leads"), rows.clone());
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    pipeline.execute("ALTER TABLE leads ADD CONSTRAINT sem_nome CHECK (nome <> 'proibida')").await;
    for (minutes, nome) in [(3, "proibida"), (1, "Bia")] {
        rows[4].insert("nome".to_owned(), json!(nome));
        rows[4].insert("updated_at".to_owned(), json!(minutes_ago(minutes)));
        pipeline.source.set_rows(table("leads"), rows.clone());
        sync(&engine, request(table("leads"))).await;
    }
    (pipeline, engine)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_a_later_one_overtook_is_replayed_by_its_letter_s_id() {
    let (pipeline, engine) = overtaken().await;
    assert_eq!(engine.letters.open_count().await.expect("a count"), 0, "the row came again");
    assert_eq!(pipeline.number("SELECT count(*) FROM eventos_raw").await, 11, "of twelve");
    let page = engine.letters.page(&LetterFilter::default(), None, 10).await.expect("letters");
    let [letter] = &page.letters[..] else { panic!("{page:?}") };

    pipeline.execute("ALTER TABLE leads DROP CONSTRAINT sem_nome").await;
    let at = Position { partition: letter.record.partition, offset: letter.record.offset };
    let outcome = engine.letters.replay(&Selection::These(vec![at]), "ana").await.expect("replayed");
    assert_eq!(outcome.settled, [letter.id()]);
    engine.drains.wait_for(&outcome.targets, std::time::Duration::from_mins(1)).await.expect("drained");
    assert_eq!(pipeline.number("SELECT count(*) FROM eventos_raw").await, 12);
    assert_eq!(
        pipeline.number("SELECT count(*) FROM leads WHERE nome = 'Bia'").await,
        1,
        "it stays the newest"
    );
    assert_eq!(pipeline.number("SELECT sum(total)::int8 FROM eventos_agregados").await, 12);
    let again = engine.letters.replay(&Selection::These(vec![at]), "ana").await.expect("answered");
    assert_eq!((again.settled.len(), again.left.len()), (0, 1), "it was replayed");

    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_letter_is_gone_comes_when_the_log_is_read_again_as_it_is_advised() {
    let (pipeline, engine) = overtaken().await;
    engine.shut_down().await;
    drop(engine);
    delete_topics_for_good(&[&format!("{}.dlq", pipeline.variables["KAFKA_TOPIC"])]).await;
    pipeline.execute("ALTER TABLE leads DROP CONSTRAINT sem_nome").await;
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    eventually("it is told", async || {
        let status = engine.inspection.status().await;
        let told = status.warnings.iter().map(ToString::to_string);
        told.into_iter().any(|told| {
            told.contains("has 1 events that postgres has not: 1 dead letters")
                && told.contains("nothing needs to be done")
                && told.contains("sluice_offsets")
        })
    })
    .await;
    engine.shut_down().await;
    drop(engine);

    pipeline.execute("DELETE FROM sluice_offsets").await;
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    eventually("it is there", async || pipeline.number("SELECT count(*) FROM eventos_raw").await == 12).await;
    pipeline.assert_events(12).await;
    assert_eq!(pipeline.number("SELECT count(*) FROM leads WHERE nome = 'Bia'").await, 1);
    engine.shut_down().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_lists_replays_and_discards_letters_through_the_tools() {
    let pipeline = Pipeline::new().await;
    let mut rows = leads(3);
    rows.push(object(json!({"nome": "sem id", "updated_at": minutes_ago(4)})));
    pipeline.source.set_rows(table("leads"), rows);
    let client = Client::of(&pipeline).await;
    client.answer("sync_leads_from_supabase", json!({"limit": 100})).await;
    produce(&pipeline.variables["KAFKA_TOPIC"], "estranho", only_an_index_takes().as_bytes()).await;
    produce(&pipeline.variables["KAFKA_TOPIC"], "estranho", b"{isto nao e json").await;
    eventually("every letter is parked", async || {
        client.answer("list_dead_letters", json!({})).await["open"] == 4
    })
    .await;

    // Newest first, page by page.
    let (mut listed, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let mut arguments = json!({"limit": 1, "detailed": true});
        if !cursor.is_null() {
            arguments["cursor"] = cursor;
        }
        let page = client.answer("list_dead_letters", arguments).await;
        listed.extend(page["letters"].as_array().expect("letters").iter().cloned());
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(listed.len(), 4, "{listed:?}");
    let offsets: Vec<i64> = listed
        .iter()
        .map(|letter| letter["id"].as_str().and_then(|id| id.split_once('-')?.1.parse().ok()).expect("an id"))
        .collect();
    assert_eq!(offsets, [3, 2, 1, 0]);
    let row = listed.iter().find(|letter| letter["table"] == "leads").expect("the row without an id");
    assert!(row["error"].as_str().is_some_and(|error| error.contains("leads.id")), "{row}");
    assert!(row["excerpt"].as_str().is_some_and(|excerpt| excerpt.contains("sem id")), "{row}");
    let brief = client.answer("list_dead_letters", json!({"sink": "postgres"})).await;
    assert_eq!(ids(&brief).len(), 2, "the poison and the foreign record: {brief}");
    assert!(brief["letters"][0].get("excerpt").is_none());

    // What still is bad says so and stays open.
    let row_id = row["id"].clone();
    let replayed = client.answer("replay_dead_letters", json!({"ids": [row_id, "0-99"]})).await;
    assert_eq!((&replayed["replayed"], &replayed["open"]), (&json!([]), &json!(4)), "{replayed}");
    let reasons: Vec<&str> = replayed["left"]
        .as_array()
        .expect("left")
        .iter()
        .filter_map(|left| left["reason"].as_str())
        .collect();
    assert!(reasons.iter().any(|reason| reason.contains("the row still is bad")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("no such letter")), "{reasons:?}");

    let refusal = client.refusal("discard_dead_letters", json!({"ids": [row_id]})).await;
    assert!(refusal.contains("confirm"), "{refusal}");
    let discarded = client.answer("discard_dead_letters", json!({"ids": [row_id], "confirm": true})).await;
    assert_eq!((&discarded["discarded"], &discarded["open"]), (&json!([row_id]), &json!(3)));
    let again = client.answer("discard_dead_letters", json!({"ids": [row_id], "confirm": true})).await;
    assert!(again["left"][0]["reason"].as_str().is_some_and(|reason| reason.contains("was discarded by")));
    let gone = client.answer("list_dead_letters", json!({"state": "discarded"})).await;
    assert_eq!(ids(&gone), [row_id.as_str().expect("an id")]);
    assert_eq!(client.answer("get_pipeline_status", json!({})).await["dead_letters"], 3);
    // Two of the three make no event, whichever are the newest: they are not in the way of the third.
    let replayed = client.answer("replay_dead_letters", json!({"all_matching": true, "limit": 1})).await;
    assert_eq!(replayed["replayed"].as_array().map(Vec::len), Some(1), "{replayed}");
    assert_eq!((&replayed["more"], replayed.get("next_cursor")), (&json!(false), None), "{replayed}");

    for (arguments, problem) in [
        (json!({"ids": ["x"]}), "ids: \"x\" is no letter's id"),
        (json!({}), "give either ids or all_matching"),
        (json!({"all_matching": true, "sink": "spark"}), "sink: \"spark\" is no sink"),
        (json!({"ids": []}), "ids: 0 is out of range; give 1 to 200"),
    ] {
        let refusal = client.refusal("replay_dead_letters", arguments).await;
        assert!(refusal.contains(problem), "{refusal}");
    }
    assert!(client.refusal("list_dead_letters", json!({"cursor": "?"})).await.contains("cursor:"));
    client.close().await;
    pipeline.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_headers_name_is_no_text_is_parked_with_its_bytes_and_its_neighbours_are_applied() {
    let pipeline = Pipeline::new().await;
    pipeline.source.set_rows(table("leads"), leads(3));
    let engine = pipeline.engine().await;
    engine.prepare().await.expect("prepared");
    let topic = &pipeline.variables["KAFKA_TOPIC"];
    let event = |number| manual(number, json!({})).event.encode();
    let unreadable = event(1);
    produce_with_header(topic, &unreadable, b"\xff\xfe", Some(b"v")).await;
    produce_with_header(topic, &event(2), b"origem", None).await;
    produce_with_header(topic, &event(3), b"origem", Some(b"\xff\0")).await;
    engine.start_drains().await;
    sync(&engine, request(table("leads"))).await;
    assert_eq!(pipeline.number("SELECT count(*) FROM eventos_raw").await, 5, "three leads and two events");
    eventually("both sinks parked it", async || engine.letters.open_count().await.expect("a count") == 2)
        .await;
    let page = engine.letters.page(&LetterFilter::default(), None, 10).await.expect("letters");
    for letter in &page.letters {
        assert_eq!(letter.record.value.as_ref(), Some(&unreadable), "its bytes");
        let reason = letter.header("error").expect("a reason");
        assert!(reason.contains("a name that is not UTF-8"), "{reason}");
    }
    let all = Selection::Open { sink: Some("postgres".to_owned()), from: None, limit: 10 };
    let outcome = engine.letters.replay(&all, "ana").await.expect("replayed");
    engine.drains.wait_for(&outcome.targets, std::time::Duration::from_mins(1)).await.expect("drained");
    assert_eq!(pipeline.number("SELECT count(*) FROM eventos_raw").await, 6);
    engine.shut_down().await;
    pipeline.clean_up().await;
}
