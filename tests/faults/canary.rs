//! Rows are taken away behind everybody's back, and the checker must see each of them: what looks sees nothing otherwise.

use sluice::index::IndexName;

use crate::{
    bed::{Bed, change, checked, dismiss, look, small_batches, truth},
    check::judge,
    suite::{Row, Run},
};

/// An event is gone, a lead is gone, another is older, a window counts one too many, and an index is empty.
const DAMAGE: &str = "
    DELETE FROM eventos_raw WHERE CAST(id AS text) = (SELECT min(CAST(id AS text)) FROM eventos_raw);
    DELETE FROM leads WHERE CAST(id AS text) = (SELECT min(CAST(id AS text)) FROM leads);
    UPDATE leads SET nome = 'velha' WHERE CAST(id AS text) = (SELECT max(CAST(id AS text)) FROM leads);
    UPDATE eventos_agregados SET total = total + 2 WHERE total = (SELECT max(total) FROM eventos_agregados)";

pub async fn damage<B: Bed>(run: Run) -> Row {
    let (mut row, mut dice) = (run.row(), run.dice());
    let bed: B = small_batches().await;
    change(&bed, &mut dice, 0, 40);
    let helper = bed.helper();
    row.injected(checked(&bed).await);
    dismiss(helper).await;
    bed.execute(DAMAGE).await;
    bed.delete_all(IndexName::Eventos).await;
    let truth = truth(bed.source());
    let found = judge(&truth, &look(&bed).await);
    // Two of the store's entities, one of its events, and at least as many documents as there are rows.
    if found.lost < truth.rows.len() as u64 + 3 || found.doubled == 0 {
        row.trouble(format!("the damage was not seen: {found:?}"));
    }
    bed.clean_up().await;
    row
}
