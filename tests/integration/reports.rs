//! Reports of arrivals that have more values than anybody reads, values of lists, and values that are masked.

use chrono::{Duration, Utc};
use serde_json::{Value, json};
use sluice::{
    domain::{JsonObject, Period},
    engine::{Engine, Report, ReportRequest, SyncPhase},
};

use crate::{
    mcp::{answer, connect_to},
    support::{
        on_each_adapter,
        place::{Embedded, Place, Real},
        request,
        rows::{lead, spelled},
        sync, table,
    },
};

on_each_adapter! {
    embedded: Embedded, real: Real;
    of_however_many_values_the_period_before_is_told_and_how_many_are_left_out,
    a_missing_value_of_a_masked_column_does_not_look_like_a_value,
    days_of_a_longer_month_before_are_told_among_the_others,
}

/// A lead that arrived so many days ago, and looked at that time.
fn arrived(n: u128, days_ago: i64, members: Value) -> JsonObject {
    let mut row = lead(n, 60);
    let at = spelled(Utc::now() - Duration::days(days_ago));
    row.insert("created_at".to_owned(), json!(at));
    row.extend(members.as_object().expect("an object").clone());
    row
}

async fn report(engine: &Engine, by: &str) -> Report {
    let today = Utc::now().date_naive();
    let request = ReportRequest {
        table: table("leads"),
        period: Period::named("last_7_days", today).expect("a period"),
        by: vec![by.to_owned()],
        compare: true,
        zone: chrono_tz::Tz::UTC,
    };
    engine.questions.report(&request).await.expect("a report")
}

async fn of_however_many_values_the_period_before_is_told_and_how_many_are_left_out<P: Place>() {
    let place = P::new().await;
    // More counts than an answer has, each of two spans.
    let rare = (0..5_100_u128).flat_map(|n| {
        let campaign = json!({"utm_campaign": format!("c{n:05}"), "interesse": [], "score_qualificacao": 1});
        [arrived(10_000 + n, 1, campaign.clone()), arrived(20_000 + n, 8, campaign)]
    });
    let interests = |n: u128| {
        let score = if n.is_multiple_of(2) { json!(777) } else { json!(777.0) };
        json!({"utm_campaign": "top", "interesse": [format!("i{n}"), format!("j{n}")], "score_qualificacao": score})
    };
    let top = (0..30_u128).map(|n| arrived(30_000 + n, 2, interests(n)));
    let before = [arrived(40_000, 9, json!({"utm_campaign": "top", "interesse": []}))];
    place.source().set_rows(table("leads"), rare.chain(top).chain(before).collect());
    let engine = place.engine().await;
    engine.start_drains().await;
    let synced = sync(&engine, sluice::store::SyncRequest { limit: 20_000, ..request(table("leads")) }).await;
    assert_eq!((synced.state, synced.appended), (SyncPhase::Done, 10_231), "{synced:?}");

    let campaigns = report(&engine, "campaign").await;
    let told = |group: &sluice::engine::ReportGroup| (group.count.rows, group.count.before);
    assert_eq!(campaigns.groups[0].values, [Some("top".to_owned())]);
    assert_eq!(told(&campaigns.groups[0]), (30, Some(1)));
    assert!(campaigns.groups[1..].iter().all(|group| told(group) == (1, Some(1))), "{:?}", campaigns.groups);
    let others = campaigns.others.expect("the others");
    assert_eq!((others.rows, others.before), (5_100 - 49, Some(5_100 - 49)));
    assert!(campaigns.left_out > 4_900, "{}", campaigns.left_out);

    let interests = report(&engine, "interesse").await;
    assert_eq!((interests.groups.len(), interests.left_out, interests.others), (50, 61 - 50, None));

    let scores = report(&engine, "score_qualificacao").await.groups;
    let of_top =
        scores.iter().filter(|group| group.values[0].as_ref().is_some_and(|one| one.starts_with("777")));
    let of_top: Vec<_> = of_top.map(|group| (group.values[0].as_deref(), group.count.rows)).collect();
    assert_eq!(of_top, [(Some("777"), 30)], "however the number is written");
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_missing_value_of_a_masked_column_does_not_look_like_a_value<P: Place>() {
    let place = P::new().await;
    let telefones = [Value::Null, Value::Null, json!("+5511999990001"), json!("")];
    let rows = (1..).zip(telefones).map(|(n, telefone)| arrived(n, 0, json!({"telefone": telefone})));
    place.source().set_rows(table("leads"), rows.collect());
    let (client, _) = connect_to(place.command(&[])).await;
    answer(&client, "sync_leads_from_supabase", json!({"hours_ago": 48})).await;
    let told = answer(&client, "lead_report", json!({"group_by": ["telefone"]})).await;
    let groups = told["groups"].as_array().expect("groups");
    let missing: Vec<&Value> = groups.iter().filter(|group| group["telefone"].is_null()).collect();
    assert_eq!(missing.len(), 1, "{told}");
    assert_eq!(missing[0]["leads"], 2, "{told}");
    assert!(told["hint"].as_str().is_some_and(|hint| hint.contains("masked")), "{told}");
    assert!(!told.to_string().contains("99999"), "{told}");
    client.cancel().await.expect("ended");
    place.clean_up().await;
}

async fn days_of_a_longer_month_before_are_told_among_the_others<P: Place>() {
    let place = P::new().await;
    let mut row = lead(1, 60);
    row.insert("created_at".to_owned(), json!("2026-01-31T12:00:00Z"));
    place.source().set_rows(table("leads"), vec![row]);
    let engine = place.engine().await;
    engine.start_drains().await;
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 1);
    let march = "2026-03-15".parse().expect("a day");
    let request = ReportRequest {
        table: table("leads"),
        period: Period::named("last_month", march).expect("a period"),
        by: vec!["day".to_owned()],
        compare: true,
        zone: chrono_tz::Tz::UTC,
    };
    let february = engine.questions.report(&request).await.expect("a report");
    assert_eq!((february.total.before, february.left_out), (Some(1), 0));
    assert_eq!(february.others.map(|others| others.before), Some(Some(1)), "February has no 31st");
    engine.shut_down().await;
    place.clean_up().await;
}
