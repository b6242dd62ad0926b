//! Which differences a dead letter explains: pure.

use crate::{
    log::Extent,
    store::{ParkedLetter, Settled},
};

/// Whether an entity may differ in a sink because of this letter.
///
/// One that was replayed, discarded, or that the log does not hold any more, explains nothing: the entity is appended
/// again, and parked again if the sink still can't take it. But of a row that never became an event there is nothing to
/// append, so its letter explains it also when it was discarded.
pub(super) fn explains(letter: &ParkedLetter, sink: &str, letters: &[Extent]) -> bool {
    let Some(refusing) = &letter.sink else { return letter.settled != Some(Settled::Replayed) };
    let at = letter.at;
    let is_there = letters
        .iter()
        .any(|extent| extent.partition == at.partition && (extent.low..extent.high).contains(&at.offset));
    refusing == sink && letter.settled.is_none() && is_there
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::log::Position;

    #[test]
    fn an_open_letter_explains_its_own_sink_and_one_of_a_row_explains_both() {
        let extents = [Extent { partition: 0, low: 5, high: 9 }];
        let letter = |sink: Option<&str>, offset, settled| ParkedLetter {
            entity: "1".to_owned(),
            letter: Uuid::nil(),
            sink: sink.map(str::to_owned),
            at: Position { partition: 0, offset },
            settled,
        };
        let postgres =
            |offset, settled| explains(&letter(Some("postgres"), offset, settled), "postgres", &extents);
        assert!(
            postgres(5, None) && !explains(&letter(Some("postgres"), 5, None), "elasticsearch", &extents)
        );
        assert!(!postgres(4, None), "retention took it");
        for settled in [Settled::Replayed, Settled::Discarded, Settled::Mended] {
            assert!(!postgres(5, Some(settled)), "{settled:?}");
        }
        let row = |settled| explains(&letter(None, 4, settled), "postgres", &extents);
        assert!(row(None) && row(Some(Settled::Discarded)) && !row(Some(Settled::Replayed)));
    }
}
