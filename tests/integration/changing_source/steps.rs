//! What may happen, in any order.

use proptest::{collection::vec, option, prelude::*};
use sluice::source::sample::{Failure, Fault};

use super::model::{Change, Key, Time};

/// A pipeline, and all that happens to it.
#[derive(Debug, Clone)]
pub struct Case {
    pub overlap_minutes: u8,
    pub page_size: u8,
    pub cap: u8,
    /// How far the source's clock is ahead of this machine's, in seconds.
    pub ahead: i32,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone)]
pub enum Step {
    Source(Change),
    Sync { hours: u8, resume: bool, limit: Option<u8>, run: Run },
    Reconcile(Run),
    Restart,
    Pause(Paused),
    Resume,
}

#[derive(Debug, Clone, Copy)]
pub enum Paused {
    Store,
    Index,
}

/// What happens while a sync or a reconciliation runs.
#[derive(Debug, Clone)]
pub struct Run {
    /// Before so many requests were answered.
    pub during: Vec<(u8, Change)>,
    pub end: End,
}

#[derive(Debug, Clone)]
pub enum End {
    Whole,
    /// A request fails.
    Fault {
        at: u8,
        kind: FaultKind,
    },
    Cancel {
        at: u8,
    },
    /// The process ends so long after a request.
    Kill {
        at: u8,
        micros: u16,
    },
}

#[derive(Debug, Clone, Copy)]
pub enum FaultKind {
    /// Not to be repeated.
    Refused,
    Unavailable,
    CutOff,
    WebPage,
}

impl FaultKind {
    pub fn fault(self) -> Fault {
        match self {
            Self::Refused => Fault::Refuse(Failure::new(401, "PGRST301", "JWT expired", None)),
            Self::Unavailable => {
                Fault::Refuse(Failure::new(503, "PGRST002", "retrying the connection", None))
            }
            Self::CutOff => Fault::CutOff,
            Self::WebPage => Fault::WebPage,
        }
    }
}

/// Few enough that rows meet.
const KEYS: Key = 24;

pub fn case() -> impl Strategy<Value = Case> {
    let ahead = prop_oneof![3 => Just(0), 2 => -25..25_i32, 2 => -20_000..20_000_i32];
    let steps = (vec(source().prop_map(Step::Source), 0..12), vec(step(), 3..16));
    (prop_oneof![Just(0), Just(1), Just(10)], 1..9_u8, 1..9_u8, ahead, steps).prop_map(
        |(overlap_minutes, page_size, cap, ahead, (mut steps, more))| {
            steps.extend(more);
            Case { overlap_minutes, page_size, cap, ahead, steps }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let limit = prop_oneof![3 => Just(None), 1 => option::of(1..8_u8)];
    let sync = (prop_oneof![Just(1), Just(3), Just(24)], prop::bool::weighted(0.75), limit, run());
    prop_oneof![
        12 => source().prop_map(Step::Source),
        8 => sync.prop_map(|(hours, resume, limit, run)| Step::Sync { hours, resume, limit, run }),
        2 => run().prop_map(Step::Reconcile),
        1 => Just(Step::Restart),
        1 => prop_oneof![Just(Paused::Store), Just(Paused::Index)].prop_map(Step::Pause),
        1 => Just(Step::Resume),
    ]
}

fn run() -> impl Strategy<Value = Run> {
    let at = || 0..12_u8;
    let fault = prop_oneof![
        2 => Just(FaultKind::Refused),
        1 => Just(FaultKind::Unavailable),
        1 => Just(FaultKind::CutOff),
        1 => Just(FaultKind::WebPage),
    ];
    let end = prop_oneof![
        10 => Just(End::Whole),
        2 => (at(), fault).prop_map(|(at, kind)| End::Fault { at, kind }),
        1 => at().prop_map(|at| End::Cancel { at }),
        1 => (at(), 0..20_000_u16).prop_map(|(at, micros)| End::Kill { at, micros }),
    ];
    let during = prop_oneof![2 => Just(Vec::new()), 1 => vec((at(), source()), 1..5)];
    (during, end).prop_map(|(during, end)| Run { during, end })
}

fn source() -> impl Strategy<Value = Change> {
    let write = || (0..KEYS, 0..4_u8);
    let seconds = prop_oneof![3 => 1..900_i32, 2 => 900..12_000_i32, 1 => -12_000..-1_i32, 1 => -25..-1_i32];
    prop_oneof![
        12 => (write(), time()).prop_map(|((key, content), time)| Change::Write { key, content, time }),
        2 => write().prop_map(|(key, content)| Change::Begin { key, content }),
        2 => Just(Change::Commit),
        3 => (0..KEYS).prop_map(|key| Change::Delete { key }),
        1 => (0..=KEYS).prop_map(|below| Change::DeleteMany { below }),
        1 => time().prop_map(|time| Change::Keyless { time }),
        1 => (1..9_u8).prop_map(|rows| Change::Cap { rows }),
        4 => seconds.prop_map(|seconds| Change::Clock { seconds }),
    ]
}

fn time() -> impl Strategy<Value = Time> {
    let back = prop_oneof![1..9_u16, 11..90_u16, 90..2_000_u16];
    prop_oneof![
        6 => Just(Time::Now),
        2 => Just(Time::Kept),
        1 => Just(Time::Null),
        3 => back.prop_map(|minutes| Time::Back { minutes }),
        1 => (1..600_u16).prop_map(|minutes| Time::Ahead { minutes }),
        1 => (0..KEYS).prop_map(Time::Of),
    ]
}
