//! The columns of a query as far as its statement tells.

use super::Source;

/// What a column is called.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Name {
    Known(String),
    /// That of another column, which it is.
    Same(String),
    /// The server makes it one, such as one of these. Whether one that spells the column out would tell what is in it:
    /// in a set it spells the first query's.
    Implied {
        names: Vec<String>,
        is_whole: bool,
    },
    /// Known by its place alone.
    Unknown,
}

impl Name {
    pub(super) fn known(&self) -> Option<&str> {
        match self {
            Self::Known(name) | Self::Same(name) => Some(name),
            Self::Implied { .. } | Self::Unknown => None,
        }
    }
}

/// The columns of a query as far as the statement tells: those before the first `*` and those behind the last one.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Shape {
    head: Vec<(Source, Name)>,
    /// Between two stars: known by their names.
    middle: Vec<(Source, Name)>,
    tail: Vec<(Source, Name)>,
    /// What the columns between them may carry beside what their names say; `None` where there are none.
    star: Option<Source>,
    /// The table of which the query is all columns and nothing else.
    table: Option<String>,
}

impl Shape {
    pub(super) fn exactly(columns: Vec<(Source, Name)>) -> Self {
        Self { head: columns, middle: Vec::new(), tail: Vec::new(), star: None, table: None }
    }

    pub(super) fn unknown() -> Self {
        Self { star: Some(Source::Keys), ..Self::exactly(Vec::new()) }
    }

    /// All columns of a table, and nothing else.
    pub(super) fn of_table(name: String) -> Self {
        Self { star: Some(Source::Plain), table: Some(name), ..Self::exactly(Vec::new()) }
    }

    pub(super) fn push(&mut self, source: Source, name: Name) {
        if self.star.is_some() { &mut self.tail } else { &mut self.head }.push((source, name));
    }

    /// Columns that are known by their names, and may carry `source` beside what those say.
    pub(super) fn star(&mut self, source: Source) {
        self.middle.append(&mut self.tail);
        self.star = self.star.max(Some(source));
    }

    /// What a column of an answer of so many may carry: anything, where the statement tells of another number.
    pub(super) fn at(&self, at: usize, columns: usize) -> Source {
        let told = self.head.len() + self.tail.len();
        if columns < told || self.star.is_none() && columns > told {
            return Source::Keys;
        }
        let from_end = (at + self.tail.len()).checked_sub(columns);
        match (self.head.get(at), from_end.and_then(|at| self.tail.get(at)), self.star) {
            (Some((source, _)), ..) | (None, Some((source, _)), _) => *source,
            (None, None, star) => star.unwrap_or(Source::Plain),
        }
    }

    /// Whether a `*` stands for the column of an answer of so many.
    pub(super) fn is_star(&self, at: usize, columns: usize) -> bool {
        self.star.is_some() && at >= self.head.len() && at + self.tail.len() < columns
    }

    /// The columns behind the first so many, but for those that a `*` stands for.
    pub(super) fn behind(&self, first: usize) -> impl Iterator<Item = &(Source, Name)> {
        self.head.iter().skip(first).chain(&self.middle).chain(&self.tail)
    }

    /// What the column at a place is called, if that is known.
    pub(super) fn name_at(&self, at: usize) -> Option<&str> {
        self.head.get(at).and_then(|(_, name)| name.known())
    }

    /// All columns are known by their places.
    pub(super) fn is_exact(&self) -> bool {
        self.star.is_none()
    }

    /// The same columns, the first of them by these names.
    pub(super) fn renamed_to(mut self, names: impl Iterator<Item = String>) -> Self {
        for (column, name) in self.head.iter_mut().zip(names) {
            column.1 = Name::Known(name);
        }
        self
    }

    /// This query or another; `None` where their columns have different names.
    pub(super) fn either(mut self, other: Self) -> Option<Self> {
        if !self.is_exact() || !other.is_exact() || self.head.len() != other.head.len() {
            return None;
        }
        for ((source, name), (theirs, other)) in self.head.iter_mut().zip(other.head) {
            *source = (*source).max(theirs);
            match (name, other) {
                (
                    Name::Implied { names, is_whole },
                    Name::Implied { names: others, is_whole: is_whole_there },
                ) if *names == others => *is_whole &= is_whole_there,
                (name, other) if *name == other => {}
                _ => return None,
            }
        }
        Some(self)
    }

    /// What a column carries that gets another name. Of those that a `*` stands for its own name would have told.
    pub(super) fn renamed(&self, at: usize) -> Source {
        match (self.head.get(at), self.star) {
            (Some((source, _)), _) => *source,
            (None, Some(_)) => Source::Keys,
            (None, None) => Source::Plain,
        }
    }

    /// Columns that are known neither by their places nor by their names may carry something.
    pub(super) fn is_lost(&self) -> bool {
        self.star > Some(Source::Plain)
    }

    pub(super) fn worst(&self) -> Source {
        let columns = self.columns();
        // A `*` in one value's place is one column, whose name is gone.
        columns.chain(self.star.map(|star| star.max(Source::Values))).max().unwrap_or(Source::Plain)
    }

    pub(super) fn named(self) -> impl Iterator<Item = (Source, Name)> {
        self.head.into_iter().chain(self.middle).chain(self.tail)
    }

    fn columns(&self) -> impl Iterator<Item = Source> {
        self.head.iter().chain(&self.middle).chain(&self.tail).map(|(source, _)| *source)
    }

    /// Rows of this query or of another; the names are this one's.
    pub(super) fn or(mut self, other: Self) -> Self {
        if self.star.is_none() && other.star.is_none() {
            for (mine, theirs) in self.head.iter_mut().zip(other.head) {
                join(mine, theirs.0);
            }
            return self;
        }
        // All of a table beside all of the same table: the columns meet that have the same names.
        if self.table.is_some() && self.table == other.table {
            return self;
        }
        // Which columns of the two meet is not known where one has a `*`, and the other's names are gone.
        let star = other.star.map(|_| Source::Keys);
        let worst = other.columns().chain(star).max().unwrap_or(Source::Plain);
        self.table = None;
        for mine in self.head.iter_mut().chain(&mut self.middle).chain(&mut self.tail) {
            join(mine, worst);
        }
        self.star = self.star.map(|star| star.max(worst));
        self
    }
}

fn join((source, name): &mut (Source, Name), other: Source) {
    if let Name::Implied { is_whole, .. } = name {
        *is_whole &= other <= *source;
    }
    *source = (*source).max(other);
}
