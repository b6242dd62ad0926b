//! The search server fails, is full, and loses what it had.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    bed::{Bed as _, change, checked, checked_in_time, dismiss, quietly, small_batches},
    proxy::{Mood, Proxy},
    suite::{Row, Run},
    support::{
        place::{Place as _, Real},
        service,
    },
};

const CHANGED: u32 = 60;

/// The proxy is in some mood for a while, amid a sync.
async fn moody(run: Run, mood: Mood) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let proxy = Proxy::to(&service("ELASTICSEARCH_URL")).await;
    let mut bed: Real = small_batches().await;
    bed.set("ELASTICSEARCH_URL", &proxy.url);
    let helper = bed.helper();
    for round in 0..run.injections {
        change(&bed, &mut dice, round, CHANGED);
        let mut sync = quietly(bed.command(&["sync", "leads"]));
        tokio::time::sleep(dice.moment(1_500)).await;
        proxy.set(mood);
        sync.wait().await.expect("the sync ends");
        tokio::time::sleep(dice.moment(3_000)).await;
        proxy.set(Mood::Through);
        row.injected(checked(&bed).await);
    }
    dismiss(helper).await;
    bed.clean_up().await;
    row
}

pub async fn down(run: Run) -> Row {
    moody(run, Mood::Down).await
}

pub async fn storm(run: Run) -> Row {
    moody(run, Mood::Storm).await
}

pub async fn partial(run: Run) -> Row {
    moody(run, Mood::Partial).await
}

pub async fn lost_answers(run: Run) -> Row {
    moody(run, Mood::Lost).await
}

/// Asks the server itself about an index of the bed's.
async fn ask(bed: &Real, method: &str, path: &str, body: Option<Value>) -> Value {
    let prefix = &bed.0.variables["ELASTICSEARCH_INDEX_PREFIX"];
    let url = format!("{}/{prefix}{path}", service("ELASTICSEARCH_URL"));
    let method = method.parse().expect("a method");
    let mut asked = reqwest::Client::new().request(method, url);
    if let Some(body) = body {
        asked = asked.json(&body);
    }
    let asked = asked.send().await.expect("an answer");
    let status = asked.status();
    let answer: Value = asked.json().await.expect("JSON");
    assert!(status.is_success(), "{path}: {answer}");
    answer
}

/// As when the disk runs full: nothing but deletions are taken, until somebody makes room.
pub async fn flood_stage(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: Real = small_batches().await;
    bed.engine().await.prepare().await.expect("the indices are made");
    let helper = bed.helper();
    for round in 0..run.injections {
        change(&bed, &mut dice, round, CHANGED);
        let mut sync = quietly(bed.command(&["sync", "leads"]));
        tokio::time::sleep(dice.moment(1_500)).await;
        let block = |on: Value| json!({"index.blocks.read_only_allow_delete": on});
        ask(&bed, "PUT", "*/_settings", block(json!(true)).into()).await;
        sync.wait().await.expect("the sync ends");
        tokio::time::sleep(dice.moment(3_000)).await;
        ask(&bed, "PUT", "*/_settings", block(Value::Null).into()).await;
        row.injected(checked(&bed).await);
    }
    dismiss(helper).await;
    bed.clean_up().await;
    row
}

/// Deletes an index amid a sync. It is made anew and filled by itself.
pub async fn deleted(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: Real = small_batches().await;
    let helper = bed.helper();
    change(&bed, &mut dice, 0, CHANGED);
    row.found.add(checked(&bed).await);
    for round in 0..run.injections {
        change(&bed, &mut dice, round + 1, CHANGED);
        let mut sync = quietly(bed.command(&["sync", "leads"]));
        tokio::time::sleep(dice.moment(1_500)).await;
        let index = ["leads-000001", "eventos-000001"][round as usize % 2];
        ask(&bed, "DELETE", index, None).await;
        sync.wait().await.expect("the sync ends");
        row.injected(checked_in_time(&bed, |_| {}).await);
    }
    dismiss(helper).await;
    bed.clean_up().await;
    row
}

/// Puts an older copy of an index in its place, as a snapshot that is restored would.
pub async fn restored(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: Real = small_batches().await;
    let helper = bed.helper();
    change(&bed, &mut dice, 0, CHANGED);
    row.found.add(checked(&bed).await);
    let prefix = bed.0.variables["ELASTICSEARCH_INDEX_PREFIX"].clone();
    for round in 0..run.injections {
        let index = ["leads", "eventos"][round as usize % 2];
        let (name, copy) = (format!("{index}-000001"), format!("{index}-copia"));
        let open = json!({"settings": {"index.blocks.write": null}});
        clone(&bed, &prefix, &name, &copy, open.clone()).await;
        ask(&bed, "PUT", &format!("{name}/_settings"), json!({"index.blocks.write": null}).into()).await;
        change(&bed, &mut dice, round + 1, CHANGED);
        row.found.add(checked(&bed).await);
        change(&bed, &mut dice, round + 1, CHANGED);
        let mut sync = quietly(bed.command(&["sync", "leads"]));
        tokio::time::sleep(dice.moment(1_500)).await;
        ask(&bed, "DELETE", &name, None).await;
        let mut restored = open;
        restored["aliases"] = json!({format!("{prefix}{index}"): {"is_write_index": true}});
        clone(&bed, &prefix, &copy, &name, restored).await;
        ask(&bed, "DELETE", &copy, None).await;
        sync.wait().await.expect("the sync ends");
        row.injected(checked_in_time(&bed, |_| {}).await);
    }
    dismiss(helper).await;
    bed.clean_up().await;
    row
}

async fn clone(bed: &Real, prefix: &str, from: &str, to: &str, body: Value) {
    ask(bed, "PUT", &format!("{from}/_settings"), json!({"index.blocks.write": true}).into()).await;
    ask(bed, "POST", &format!("{from}/_clone/{prefix}{to}?wait_for_active_shards=1"), body.into()).await;
}

/// Somebody makes an index with other types: nothing fits, nothing is given up, and a rebuild mends it.
pub async fn mapping_conflict(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: Real = small_batches().await;
    let helper = bed.helper();
    change(&bed, &mut dice, 0, CHANGED);
    row.found.add(checked(&bed).await);
    let prefix = bed.0.variables["ELASTICSEARCH_INDEX_PREFIX"].clone();
    for round in 0..run.injections {
        ask(&bed, "DELETE", "leads-000001", None).await;
        let made = json!({
            "mappings": {"properties": {"nome": {"type": "long"}}},
            "aliases": {format!("{prefix}leads"): {"is_write_index": true}},
        });
        let url = format!("{}/{prefix}leads-000001", service("ELASTICSEARCH_URL"));
        // Whoever comes first makes it.
        let answer = reqwest::Client::new().put(url).json(&made).send().await.expect("an answer");
        let is_ours = answer.status().is_success();
        change(&bed, &mut dice, round + 1, CHANGED);
        let mut sync = quietly(bed.command(&["sync", "leads"]));
        sync.wait().await.expect("the sync ends");
        tokio::time::sleep(Duration::from_secs(3)).await;
        if is_ours {
            ask(&bed, "DELETE", "leads-000001", None).await;
        }
        row.injected(checked_in_time(&bed, |_| {}).await);
    }
    dismiss(helper).await;
    bed.clean_up().await;
    row
}
