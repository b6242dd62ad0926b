//! The columns of a query as far as its statement tells.

use super::Source;

/// The columns of a query as far as the statement tells: those before the first `*` and those behind the last one.
pub(super) struct Shape {
    head: Vec<(Source, Option<String>)>,
    /// Between two stars: known by their names.
    middle: Vec<(Source, Option<String>)>,
    tail: Vec<(Source, Option<String>)>,
    /// What the columns between them may carry beside what their names say; `None` where there are none.
    star: Option<Source>,
}

impl Shape {
    pub(super) fn exactly(columns: Vec<(Source, Option<String>)>) -> Self {
        Self { head: columns, middle: Vec::new(), tail: Vec::new(), star: None }
    }

    /// Any number of columns that carry this.
    pub(super) fn all(source: Source) -> Self {
        Self { star: Some(source), ..Self::exactly(Vec::new()) }
    }

    pub(super) fn unknown() -> Self {
        Self::all(Source::Field)
    }

    pub(super) fn push(&mut self, source: Source, name: Option<String>) {
        if self.star.is_some() { &mut self.tail } else { &mut self.head }.push((source, name));
    }

    pub(super) fn star(&mut self) {
        self.middle.append(&mut self.tail);
        self.star = self.star.max(Some(Source::Plain));
    }

    pub(super) fn at(&self, at: usize, columns: usize) -> Source {
        let from_end = (at + self.tail.len()).checked_sub(columns);
        match (self.head.get(at), from_end.and_then(|at| self.tail.get(at)), self.star) {
            (Some((source, _)), ..) | (None, Some((source, _)), _) => *source,
            (None, None, star) => star.unwrap_or(Source::Plain),
        }
    }

    pub(super) fn worst(&self) -> Source {
        let columns = self.columns();
        // A `*` in one value's place is a row.
        columns.chain(self.star.map(|star| star.max(Source::Row))).max().unwrap_or(Source::Plain)
    }

    pub(super) fn named(self) -> impl Iterator<Item = (Source, Option<String>)> {
        self.head.into_iter().chain(self.middle).chain(self.tail).chain(self.star.map(|star| (star, None)))
    }

    fn columns(&self) -> impl Iterator<Item = Source> {
        self.head.iter().chain(&self.middle).chain(&self.tail).map(|(source, _)| *source)
    }

    /// Rows of this query or of another; the names are this one's.
    pub(super) fn or(mut self, other: Self) -> Self {
        if self.star.is_none() && other.star.is_none() {
            for (mine, theirs) in self.head.iter_mut().zip(other.head) {
                mine.0 = mine.0.max(theirs.0);
            }
            return self;
        }
        // Which columns of the two meet is not known where one has a `*`.
        let worst = other.columns().chain(other.star).max().unwrap_or(Source::Plain);
        for (source, _) in self.head.iter_mut().chain(&mut self.middle).chain(&mut self.tail) {
            *source = (*source).max(worst);
        }
        self.star = self.star.map(|star| star.max(worst));
        self
    }
}
