//! Panics, as lines of the log.
//!
//! Guarantee: what Rust would write of a panic itself, waiting for whoever reads stderr, is a line like every other; and of its
//! message only what stands in the code is told, since the rest may quote anybody's values.

use std::{
    any::Any,
    cell::Cell,
    panic::{self, AssertUnwindSafe, Location},
    sync::Arc,
};

use tracing::Level;

use super::{hub::Hub, line::Entry};

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
    /// Where the last expected panic was.
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

/// Has every panic told from now on. Past `tracing`, which may be what panicked, and silent on some threads.
pub(super) fn hear(hub: Arc<Hub>) {
    panic::set_hook(Box::new(move |panic| {
        if EXPECTED.get() {
            PLACE.set(panic.location().map(ToString::to_string));
        } else {
            hub.hear(entry(panic.payload(), panic.location()), None);
        }
    }));
}

/// What comes of work that panics where others return an error; nothing where it does, and nothing is told.
pub(crate) fn expecting_panics<T>(work: impl FnOnce() -> T) -> Option<T> {
    EXPECTED.set(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    EXPECTED.set(false);
    outcome.ok()
}

/// Where it was that the last such work panicked on this thread.
pub(super) fn expected_at() -> Option<String> {
    PLACE.take()
}

fn entry(payload: &dyn Any, place: Option<&Location<'_>>) -> Entry {
    let mut entry = Entry::own(Level::ERROR, "something panicked; report this");
    if let Some(place) = place {
        entry = entry.with("file", place.to_string());
    }
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        entry = entry.with("problem", *text);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_line_with_its_place_without_values_unless_it_is_expected() {
        let told = super::super::kept_of(|lines| {
            let before = panic::take_hook();
            hear(lines.0);
            let value = "ana@exemplo.com.br";
            let literal = panic::catch_unwind(|| panic!("no such thing"));
            let quoting = panic::catch_unwind(|| panic!("no {value}"));
            let expected = expecting_panics(|| panic!("as others return an error"));
            panic::set_hook(before);
            assert!(literal.is_err() && quoting.is_err() && expected.is_none_or(|()| false));
            assert!(expected_at().is_some_and(|place| place.contains("panics.rs:")));
        });
        let own: Vec<_> = told.lines().filter(|line| line.contains("panics.rs:")).collect();
        assert_eq!(own.len(), 2, "{told}");
        assert!(own[0].contains(r#""problem":"no such thing""#) && own[0].contains(r#""log.level":"error""#));
        assert!(!told.contains("ana@") && !told.contains("as others"), "{told}");
        assert_eq!(expecting_panics(|| 1), Some(1));
    }
}
