//! Runs faults, several at once, and shows one table of what came of them.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{check::Findings, dice::Dice};

/// What a fault is run with.
#[derive(Debug, Clone)]
pub struct Run {
    name: String,
    pub injections: u32,
    seed: u64,
}

impl Run {
    pub fn dice(&self) -> Dice {
        Dice::new(self.seed)
    }

    pub fn row(&self) -> Row {
        Row::new(&self.name)
    }
}

/// What came of a fault.
#[derive(Debug, Default)]
pub struct Row {
    name: String,
    pub injections: u32,
    pub found: Findings,
}

impl Row {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// One more injection, and what was found after it.
    pub fn injected(&mut self, found: Findings) {
        self.injections += 1;
        if self.injections.is_multiple_of(10) {
            println!("  {} injections of {}", self.injections, self.name);
        }
        if !found.are_none() {
            println!("  after injection {} of {}: {found:?}", self.injections, self.name);
        }
        self.found.add(found);
    }

    /// Something that should not have been.
    pub fn trouble(&mut self, what: impl Into<String>) {
        self.found.other.push(what.into());
    }
}

/// A fault that can be injected.
pub struct Fault {
    pub name: String,
    /// How often in the bounded share; 0 for not at all.
    pub share: u32,
    /// How often in the whole suite.
    pub whole: u32,
    run: Box<dyn Fn(Run) -> Row + Send + Sync>,
}

impl Fault {
    /// A fault whose injections run in a runtime of their own.
    pub fn new<F: Future<Output = Row>>(
        name: impl Into<String>,
        (share, whole): (u32, u32),
        run: impl Fn(Run) -> F + Send + Sync + 'static,
    ) -> Self {
        let run = move |given| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.expect("a runtime").block_on(run(given))
        };
        Self { name: name.into(), share, whole, run: Box::new(run) }
    }
}

/// What the command line asks for.
pub struct Asked {
    /// Only faults whose names hold one of these; all if none.
    pub names: Vec<String>,
    pub seed: u64,
    pub is_share: bool,
    /// No fault is begun later than this.
    pub budget: Option<Duration>,
    /// In place of how often each says by itself.
    pub injections: Option<u32>,
    /// How many faults run at once.
    pub lanes: usize,
}

impl Asked {
    fn injections_of(&self, fault: &Fault) -> u32 {
        let own = if self.is_share { fault.share } else { fault.whole };
        if own == 0 { 0 } else { self.injections.unwrap_or(own) }
    }

    fn wants(&self, fault: &Fault) -> bool {
        let is_named =
            self.names.is_empty() || self.names.iter().any(|name| fault.name.contains(name.as_str()));
        is_named && self.injections_of(fault) > 0
    }
}

/// Runs what is asked for. Whether nothing differed.
pub fn run(faults: &[Fault], asked: &Asked) -> bool {
    let began = Instant::now();
    let mut wanted: VecDeque<(usize, &Fault)> =
        faults.iter().filter(|fault| asked.wants(fault)).enumerate().collect();
    if wanted.is_empty() {
        eprintln!("no fault has such a name; --list lists them");
        return false;
    }
    println!("seed {}: --seed {0} repeats it", asked.seed);
    if asked.budget.is_some() {
        // Otherwise the same ones were left out each time.
        let first = Dice::new(asked.seed).below(wanted.len() as u64);
        wanted.rotate_left(usize::try_from(first).unwrap_or_default());
    }
    let (waiting, rows) = (Mutex::new(wanted), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..asked.lanes {
            scope.spawn(|| {
                while asked.budget.is_none_or(|budget| began.elapsed() < budget) {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((place, fault)) = next else { return };
                    let row = inject(fault, asked);
                    rows.lock().unwrap_or_else(PoisonError::into_inner).push((place, fault, row));
                }
            });
        }
    });
    let left_out = waiting.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by_key(|(place, ..)| *place);
    println!("\n| fault | injections | lost | doubled | otherwise different |\n|---|--:|--:|--:|--:|");
    for (_, fault, row) in &rows {
        let Findings { lost, doubled, other, .. } = &row.found;
        println!("| {} | {} | {lost} | {doubled} | {} |", fault.name, row.injections, other.len());
    }
    let mut is_well = true;
    for (_, fault, row) in rows.iter().filter(|(.., row)| !row.found.are_none()) {
        is_well = false;
        println!("\n{}:", fault.name);
        for line in row.found.examples.iter().chain(row.found.other.iter().take(10)) {
            println!("  {line}");
        }
    }
    if !left_out.is_empty() {
        let names: Vec<&str> = left_out.iter().map(|(_, fault)| fault.name.as_str()).collect();
        println!("\nleft out, since the time was up: {}", names.join("; "));
    }
    let injections: u32 = rows.iter().map(|(.., row)| row.injections).sum();
    let outcome = if is_well { "nothing lost, nothing doubled" } else { "FAILED" };
    println!(
        "\n{} faults, {injections} injections in {} s: {outcome}",
        rows.len(),
        began.elapsed().as_secs()
    );
    is_well
}

fn inject(fault: &Fault, asked: &Asked) -> Row {
    let began = Instant::now();
    // Of the name as well, so that a fault throws the same whatever runs beside it.
    let of_name = fault.name.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let name = fault.name.clone();
    let run = Run { name, injections: asked.injections_of(fault), seed: asked.seed ^ of_name };
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| (fault.run)(run)));
    let row = outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let mut row = Row::new(&fault.name);
        row.trouble(format!("it could not be run to its end: {}", text.unwrap_or_default()));
        row
    });
    let state = if row.found.are_none() { "ok" } else { "DIFFERS" };
    println!("{state}: {}, {} injections, {} s", fault.name, row.injections, began.elapsed().as_secs());
    row
}
