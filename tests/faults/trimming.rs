//! Kills of a process that removes old events, after each of its two steps.

use chrono::{TimeDelta, Utc};
use serde_json::json;
use sluice::{
    domain::{Event, Json, SourceRow, micros},
    engine::event_record,
    log::Topic,
    parts::Parts,
};
use uuid::Uuid;

use crate::{
    bed::{Bed, change, dismiss, look, quietly, run_to_end, small_batches, truth},
    check::{Findings, Seen, Truth, judge},
    points::{Point, fell, point},
    suite::{Row, Run},
    support::{rows::lead, table},
};

pub static OF_TRIM: [Point; 2] = [point("trim.removed_from_index", 1), point("trim.trimmed", 1)];

/// Leads that have events of long ago.
const LEADS: u128 = 40;

pub async fn trim<B: Bed>(run: Run, point: &Point) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let mut bed: B = small_batches().await;
    bed.set("SLUICE_EVENTS_RETENTION_DAYS", "30");
    bed.source().upsert(table("leads"), (1..=LEADS).map(|n| lead(n, 0)).collect());
    for injection in 0..run.injections {
        append_old(&bed, injection).await;
        change(&bed, &mut dice, injection, 60);
        let helper = bed.helper();
        let mut troubles = bed.settle().await;
        dismiss(helper).await;
        let before = look(&bed).await.raw.len();
        let armed = point.armed(injection);
        let mut process = bed.command(&["trim"]);
        process.env("SLUICE_FAIL_POINT", &armed);
        fell(&mut quietly(process), &mut row, &armed).await;
        // Its right ends by itself a minute later.
        bed.execute("DELETE FROM sluice_leases").await;
        troubles.extend(run_to_end(bed.command(&["trim"]), "the trimming").await);
        // All that there is, once more: a store that was set back, and the index with it where the file says how far it is.
        bed.execute("UPDATE sluice_offsets SET next_offset = NULL").await;
        let helper = bed.helper();
        troubles.extend(bed.settle().await);
        dismiss(helper).await;
        let seen = look(&bed).await;
        if seen.raw.len() >= before {
            troubles.push(format!("{} events of {before} were left", seen.raw.len()));
        }
        let mut found = judged(&truth(bed.source()), seen);
        found.other.extend(troubles);
        row.injected(found);
    }
    bed.clean_up().await;
    row
}

/// Three versions of each lead that were read long ago.
async fn append_old<B: Bed>(bed: &B, round: u32) {
    let parts = Parts::open(&bed.settings()).expect("the parts open");
    parts.log.ensure_topics().await.expect("the topics are there");
    for days_ago in [100, 99, 98] {
        let version = |n: u128| {
            let mut row = lead(n, 0);
            row.insert("nome".to_owned(), json!(format!("Ana {n} há {days_ago} dias, vez {round}")));
            let row = SourceRow::read(table("leads"), Json::from(&row)).expect("a row");
            let read_at = Utc::now() - TimeDelta::days(days_ago);
            let (event, _): (Event, _) = row.event(read_at, micros(read_at));
            event_record(&event, Uuid::now_v7())
        };
        let records = (1..=LEADS).map(version).collect();
        parts.log.append(Topic::Events, records).await.expect("appended");
    }
}

/// Both sinks hold the same events, the rollup counts every one of the log once, and all else is as ever.
fn judged(truth: &Truth, mut seen: Seen) -> Findings {
    let mut found = Findings::default();
    if seen.raw != seen.indexed {
        let (raw, indexed) = (seen.raw.len(), seen.indexed.len());
        found.other.push(format!("{raw} events in the store, {indexed} in the index, and not the same"));
    }
    found.other.extend(seen.raw.keys().filter(|id| !seen.log.contains_key(*id)).cloned());
    found.other.extend(seen.raw.iter().filter(|(_, count)| **count > 1).map(|(id, _)| id.clone()));
    let counted: i64 = seen.rollup.values().map(|(total, _)| total).sum();
    if counted.unsigned_abs() != seen.log.len() as u64 {
        found.other.push(format!("the rollup counts {counted} of {} events", seen.log.len()));
    }
    seen.raw = seen.log.keys().map(|id| (id.clone(), 1)).collect();
    seen.indexed.clone_from(&seen.raw);
    seen.recount.clone_from(&seen.rollup);
    found.add(judge(truth, &seen));
    found
}
