//! The source answers slowly, wrongly or not at all, and changes while it is read.

use std::time::Duration;

use serde_json::json;
use sluice::source::sample::{Failure, Fault};

use crate::{
    bed::{Bed, applied, change, checked, comes, dismiss, look, quietly, run_to_end, small_batches, truth},
    check::judge,
    dice::Dice,
    suite::{Row, Run},
    support::{
        place::Place as _,
        place::Real,
        rows::{lead, minutes_ago},
        table,
    },
};

const CHANGED: u32 = 60;

fn refusal(status: u16, body: &str) -> Fault {
    let json = ("content-type".to_owned(), "application/json".to_owned());
    Fault::Refuse(Failure { status, headers: vec![json], body: body.to_owned() })
}

fn too_many() -> Fault {
    let Fault::Refuse(failure) = refusal(429, r#"{"message": "rate limited"}"#) else { unreachable!() };
    Fault::Refuse(failure.with_header("retry-after", "1"))
}

/// One of the ways in which a source fails for a moment.
fn passing(dice: &mut Dice) -> Fault {
    match dice.below(7) {
        0 => too_many(),
        1 => refusal(500, ""),
        2 => {
            refusal(503, r#"{"code": "PGRST002", "message": "schema cache", "details": null, "hint": null}"#)
        }
        3 => Fault::Hang,
        4 => Fault::CutOff,
        5 => Fault::WebPage,
        _ => Fault::Delay(dice.moment(500)),
    }
}

/// Each of the first answers of a sync fails in some way; whatever the sync says to that, another one brings the rest.
async fn answering(run: Run, faults: impl Fn(&mut Dice) -> Vec<Fault>) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let mut bed: Real = small_batches().await;
    bed.set("SUPABASE_TIMEOUT_SECONDS", "2");
    let helper = bed.helper();
    for round in 0..run.injections {
        change(&bed, &mut dice, round, CHANGED);
        bed.source().script(faults(&mut dice));
        // Until one is done: what is scripted must be over before rows are counted.
        let mut trouble = None;
        comes(Duration::from_mins(2), async || {
            trouble = run_to_end(bed.command(&["sync", "leads"]), "the sync").await;
            trouble.is_none()
        })
        .await;
        row.found.other.extend(trouble);
        row.injected(checked(&bed).await);
    }
    dismiss(helper).await;
    bed.clean_up().await;
    row
}

pub async fn passing_faults(run: Run) -> Row {
    answering(run, |dice| (0..6).map(|_| passing(dice)).collect()).await
}

/// The key is taken away amid a sync, and given back.
pub async fn key_revoked(run: Run) -> Row {
    answering(run, |dice| {
        let good = Fault::Delay(Duration::ZERO);
        let mut faults = vec![good; usize::try_from(dice.below(6)).expect("few")];
        faults.extend(vec![refusal(401, r#"{"message": "Invalid API key"}"#); 2]);
        faults
    })
    .await
}

/// The project changes how many rows it shows at a time, from page to page.
pub async fn changing_caps(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: Real = small_batches().await;
    let helper = bed.helper();
    for round in 0..run.injections {
        change(&bed, &mut dice, round, CHANGED);
        let mut sync = quietly(bed.command(&["sync", "leads"]));
        while sync.try_wait().expect("a status").is_none() {
            bed.source().set_max_rows(Some(usize::try_from(dice.below(30) + 1).expect("few")));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        row.injected(checked(&bed).await);
    }
    dismiss(helper).await;
    bed.clean_up().await;
    row
}

/// Rows are committed minutes after the time they bear: a sync that reads on from where the last one stopped has them.
pub async fn late_commits(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: Real = small_batches().await;
    let helper = bed.helper();
    change(&bed, &mut dice, 0, CHANGED);
    row.found.add(checked(&bed).await);
    for round in 0..run.injections {
        let late = (0..20).map(|n| {
            let mut row = lead(u128::from(n + 1_000 * (round + 1)), 0);
            let minutes = i64::try_from(dice.below(9)).expect("few");
            row.insert("nome".to_owned(), json!(format!("Ana {n} na rodada {round}")));
            row.insert("updated_at".to_owned(), json!(minutes_ago(minutes)));
            row
        });
        bed.source().upsert(table("leads"), late.collect());
        row.found.other.extend(run_to_end(bed.command(&["sync", "leads", "--resume"]), "the sync").await);
        row.found.other.extend(applied(&bed).await);
        row.injected(judge(&truth(bed.source()), &look(&bed).await));
    }
    dismiss(helper).await;
    bed.clean_up().await;
    row
}

/// Rows are deleted while a sync and then a reconciliation read the table.
pub async fn deletes_between_pages(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: Real = small_batches().await;
    let helper = bed.helper();
    for round in 0..run.injections {
        change(&bed, &mut dice, round, CHANGED * 2);
        for arguments in [&["sync", "leads"][..], &["reconcile", "leads", "--allow-deletes", "1000"]] {
            bed.source().script(vec![Fault::Delay(Duration::from_millis(60)); 8]);
            let mut process = quietly(bed.command(arguments));
            while process.try_wait().expect("a status").is_none() {
                let mut rows = bed.source().rows(table("leads"));
                if rows.len() > 30 && dice.below(10) == 0 {
                    rows.swap_remove(usize::try_from(dice.below(rows.len() as u64)).expect("few"));
                    bed.source().set_rows(table("leads"), rows);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let last = bed.command(&["reconcile", "leads", "--allow-deletes", "1000"]);
        row.found.other.extend(run_to_end(last, "the last reconciliation").await);
        row.injected(checked(&bed).await);
    }
    dismiss(helper).await;
    bed.clean_up().await;
    row
}
