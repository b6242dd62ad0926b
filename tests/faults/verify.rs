//! Shows that the checker finds what it must: run before any fault, since a suite that sees nothing passes.

use std::collections::BTreeMap;

use crate::check::{Entity, Findings, Key, Seen, Truth, Window, judge};

/// What is done to a pipeline in which all is well, and how much is then lost, doubled and otherwise different.
type Case = (&'static str, fn(&mut Seen), (u64, u64, usize));

const CASES: [Case; 15] = [
    ("a row is not in the store", |seen| drop(seen.store.remove(&key(1))), (1, 0, 0)),
    ("a row is not in the index", |seen| drop(seen.index.remove(&key(2))), (1, 0, 0)),
    ("a row is older", |seen| "old".clone_into(&mut held(&mut seen.store).mark), (1, 0, 0)),
    ("a row is of another version", |seen| held(&mut seen.index).versao = 6, (0, 0, 1)),
    ("a document stands twice", |seen| double(&mut seen.index), (0, 1, 0)),
    ("a row is too many", |seen| drop(seen.store.insert(key(9), vec![row()])), (0, 0, 1)),
    ("an event is missing", |seen| *seen = Seen { raw: events(&["e2"]), ..whole() }, (1, 0, 0)),
    (
        "an event stands twice",
        |seen| *seen = Seen { indexed: events(&["e1", "e1", "e2"]), ..whole() },
        (0, 1, 0),
    ),
    ("an event of nowhere", |seen| *seen = Seen { raw: events(&["e1", "e2", "e9"]), ..whole() }, (0, 0, 1)),
    (
        "an event twice in the topic",
        |seen| drop(seen.log.insert("e1".to_owned(), (2, "1".to_owned()))),
        (0, 0, 1),
    ),
    ("the rollup counts too much", |seen| rolled(seen, (3, 3.0)), (0, 1, 0)),
    ("the rollup counts too little", |seen| rolled(seen, (0, 0.0)), (2, 0, 0)),
    ("the rollup adds up wrongly", |seen| rolled(seen, (2, 4.0)), (0, 0, 1)),
    ("the poison has no letter", |seen| seen.letters.clear(), (1, 0, 0)),
    (
        "something is not applied",
        |seen| *seen = Seen { lag: [("the store", 1)].into(), ..whole() },
        (0, 0, 1),
    ),
];

fn key(n: u32) -> Key {
    ("leads", n.to_string())
}

fn row() -> Entity {
    Entity { versao: 7, mark: "a".to_owned() }
}

fn events(ids: &[&str]) -> BTreeMap<String, u64> {
    let mut events = BTreeMap::new();
    for id in ids {
        *events.entry((*id).to_owned()).or_default() += 1;
    }
    events
}

fn held(place: &mut BTreeMap<Key, Vec<Entity>>) -> &mut Entity {
    &mut place.get_mut(&key(1)).expect("it is there")[0]
}

fn double(place: &mut BTreeMap<Key, Vec<Entity>>) {
    place.get_mut(&key(1)).expect("it is there").push(row());
}

fn window() -> Window {
    (0, "vendas".to_owned(), "lead".to_owned())
}

fn rolled(seen: &mut Seen, to: (i64, f64)) {
    seen.rollup.insert(window(), to);
}

/// Two rows, everywhere, once, and a letter of a third.
fn whole() -> Seen {
    let rows: BTreeMap<Key, Vec<Entity>> = [1, 2].map(|n| (key(n), vec![row()])).into();
    Seen {
        store: rows.clone(),
        index: rows,
        appended: [1, 2].map(|n| (key(n), 7)).into(),
        raw: events(&["e1", "e2"]),
        indexed: events(&["e1", "e2"]),
        log: [1, 2].map(|n| (format!("e{n}"), (1, n.to_string()))).into(),
        rollup: [(window(), (2, 3.0))].into(),
        recount: [(window(), (2, 3.0))].into(),
        letters: [("l1".to_owned(), "postgres x".to_owned())].into(),
        open: Vec::new(),
        lag: [("the store", 0)].into(),
    }
}

/// Holds the checker to its cases.
pub fn checker() {
    let truth = Truth {
        rows: [1, 2].map(|n| (key(n), "a".to_owned())).into(),
        letters: [("postgres x".to_owned(), 1)].into(),
        ..Truth::default()
    };
    assert_eq!(judge(&truth, &whole()), Findings::default());
    for (name, change, expected) in CASES {
        let mut seen = whole();
        change(&mut seen);
        let found = judge(&truth, &seen);
        assert_eq!((found.lost, found.doubled, found.other.len()), expected, "{name}");
    }
}
