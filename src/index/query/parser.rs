//! Reads a query by descent. The joining of clauses is Lucene's: `AND` makes both neighbours required, `OR` changes
//! nothing, and where no clause is required one of the others must match.

use chrono::DateTime;
use chrono_tz::Tz;

use super::{
    Clauses, Part, Query, QueryError, Test,
    lexer::{At, Lexer, Word, error, shown},
    names,
    values::{self, Edge},
};
use crate::index::{Field, FieldKind, Fields};

/// Longest query, in characters.
const MAX_LENGTH: usize = 10_000;
/// Deepest nesting: the search servers stop at 20, with what stands around and inside the innermost group.
const MAX_DEPTH: usize = 15;
/// Most tests of single fields a query comes to; the search servers stop at 1024.
const MAX_TESTS: usize = 1000;

pub(super) struct Parser<'a> {
    text: &'a str,
    lexer: Lexer,
    fields: &'static Fields,
    now: DateTime<Tz>,
    depth: usize,
    tests: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Occur {
    Must,
    Should,
    MustNot,
}

/// Heaviest weight, groups' and their terms' multiplied: the servers' scores are small floats, and end in infinity.
const MAX_BOOST: f32 = 1_000_000.0;

/// What a term is asked of: one field, or every text.
type Scope = Option<&'static Field>;

/// What people write for an operator, and the operator.
const MEANT: [(&str, &str); 11] = [
    ("and", "AND"),
    ("or", "OR"),
    ("not", "NOT"),
    ("E", "AND"),
    ("OU", "OR"),
    ("NÃO", "NOT"),
    ("NAO", "NOT"),
    ("e", "AND"),
    ("ou", "OR"),
    ("não", "NOT"),
    ("nao", "NOT"),
];
/// These stand within what people look for; only before a field they are surely meant as operators.
const SMALL_PORTUGUESE: [&str; 4] = ["e", "ou", "não", "nao"];

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str, fields: &'static Fields, now: DateTime<Tz>) -> Self {
        Self { text, lexer: Lexer::new(text), fields, now, depth: 0, tests: 0 }
    }

    pub(super) fn read(mut self) -> Result<Query, QueryError> {
        if self.text.chars().count() > MAX_LENGTH {
            return Err(error(
                MAX_LENGTH,
                format!("it is longer than {MAX_LENGTH} characters"),
                "ask in several queries",
            ));
        }
        let query = self.clauses(None)?;
        match self.lexer.peek() {
            None => Ok(query),
            Some(sign) => Err(error(
                self.lexer.at(),
                format!("`{sign}` closes nothing"),
                format!("remove it, or write \\{sign} for the sign itself"),
            )),
        }
    }

    /// Clauses up to the end or a closing bracket.
    fn clauses(&mut self, scope: Scope) -> Result<Query, QueryError> {
        let mut clauses: Vec<(Occur, Query)> = Vec::new();
        loop {
            self.lexer.skip_space();
            let at = self.lexer.at();
            let joined = self.joint();
            if let Some(operator) = joined {
                if clauses.is_empty() {
                    return Err(error(
                        at,
                        format!("nothing stands before {operator}"),
                        format!("write a {operator} b"),
                    ));
                }
                self.lexer.skip_space();
            }
            let modifier_at = self.lexer.at();
            let modifier = self.modifier();
            self.lexer.skip_space();
            if matches!(self.lexer.peek(), None | Some(')')) {
                return match (joined, modifier) {
                    (Some(operator), _) => {
                        Err(error(at, format!("nothing follows {operator}"), format!("write a {operator} b")))
                    }
                    (None, Some(_)) => Err(error(
                        modifier_at,
                        "nothing follows this sign",
                        "write the term right after it, or \\ before it for the sign itself",
                    )),
                    (None, None) => self.group(clauses),
                };
            }
            if self.operator(modifier.is_some()) {
                return Err(error(at, "two operators follow each other", "leave one of them"));
            }
            let clause = self.clause(scope)?;
            if joined == Some("AND")
                && let Some((occur, _)) = clauses.last_mut()
                && *occur == Occur::Should
            {
                *occur = Occur::Must;
            }
            let occur = match modifier {
                Some(occur) => occur,
                None if joined == Some("AND") => Occur::Must,
                None => Occur::Should,
            };
            clauses.push((occur, clause));
        }
    }

    fn joint(&mut self) -> Option<&'static str> {
        if self.lexer.take_operator("AND") || self.lexer.take("&&") {
            return Some("AND");
        }
        (self.lexer.take_operator("OR") || self.lexer.take("||")).then_some("OR")
    }

    /// Takes an operator where none may stand: another one was before it.
    fn operator(&mut self, after_modifier: bool) -> bool {
        ["AND", "OR"].into_iter().any(|operator| self.lexer.take_operator(operator))
            || ["&&", "||"].into_iter().any(|operator| self.lexer.take(operator))
            || (after_modifier && self.modifier().is_some())
    }

    fn modifier(&mut self) -> Option<Occur> {
        if self.lexer.take("+") {
            return Some(Occur::Must);
        }
        (self.lexer.take("-") || self.lexer.take("!") || self.lexer.take_operator("NOT"))
            .then_some(Occur::MustNot)
    }

    fn group(&self, mut clauses: Vec<(Occur, Query)>) -> Result<Query, QueryError> {
        if let [(Occur::Must | Occur::Should, _)] = clauses[..] {
            return Ok(clauses.swap_remove(0).1);
        }
        let mut group = Clauses::default();
        for (occur, clause) in clauses {
            match occur {
                Occur::Must => group.must.push(clause),
                Occur::Should => group.should.push(clause),
                Occur::MustNot => group.must_not.push(clause),
            }
        }
        if group.must.is_empty() && group.should.is_empty() {
            if group.must_not.is_empty() {
                return Err(error(self.lexer.at(), "there is nothing to look for", "write * for everything"));
            }
            group.must.push(Query::All);
        }
        Ok(Query::Bool(group))
    }

    fn clause(&mut self, scope: Scope) -> Result<Query, QueryError> {
        let at = self.lexer.at();
        let query = match self.lexer.peek() {
            Some('(') => self.nested(scope)?,
            Some('"') => self.phrase(scope)?,
            Some('[' | '{') => self.range(scope)?,
            Some('>' | '<') => self.comparison(scope)?,
            Some('/') => return Err(no_regex(at)),
            _ => {
                let word = self.term(at)?;
                if self.lexer.take_colon() {
                    return self.field_clause(&word, at);
                }
                self.word(scope, word, at)?
            }
        };
        self.boosted(query)
    }

    /// What follows a field's name.
    fn field_clause(&mut self, name: &Word, at: At) -> Result<Query, QueryError> {
        if name.is("*") {
            let value_at = self.lexer.at();
            if self.term(value_at)?.is("*") {
                return self.boosted(Query::All);
            }
            return Err(error(at, "`*` is no field", "leave the field away to search every text"));
        }
        if name.is("_exists_") {
            let value_at = self.lexer.at();
            let field = if self.lexer.peek() == Some('"') {
                self.lexer.quoted()?
            } else {
                self.term(value_at)?.text()
            };
            let query = self.exists(&field, value_at)?;
            return self.boosted(query);
        }
        let field = names::field(self.fields, &name.text(), at)?;
        if matches!(self.lexer.peek(), None | Some(')')) {
            return Err(error(
                at,
                format!("nothing follows `{}:`", field.path),
                format!("write {}:value", field.path),
            ));
        }
        let value_at = self.lexer.at();
        if self.lexer.peek() == Some('-')
            && matches!(field.kind, FieldKind::Long | FieldKind::Double | FieldKind::Date)
        {
            // A negative number: Lucene wants it escaped, and there is nothing else it could mean.
            let word = self.lexer.bound()?;
            let query = self.word(Some(field), word, value_at)?;
            return self.boosted(query);
        }
        let query = match self.lexer.peek() {
            Some('(') => self.nested(Some(field))?,
            Some('"') => self.phrase(Some(field))?,
            Some('[' | '{') => self.range(Some(field))?,
            Some('>' | '<') => self.comparison(Some(field))?,
            Some('/') => return Err(no_regex(value_at)),
            _ => {
                let word = self.term(value_at)?;
                if self.lexer.peek() == Some(':') {
                    return Err(error(
                        self.lexer.at(),
                        "a colon stands within a value",
                        format!("put the value into quotes: {}:\"…\"", field.path),
                    ));
                }
                self.word(Some(field), word, value_at)?
            }
        };
        self.boosted(query)
    }

    fn term(&mut self, at: At) -> Result<Word, QueryError> {
        let word = self.lexer.term()?;
        if word == Word::default() {
            let sign = self.lexer.peek().map_or_else(|| "the end".to_owned(), |sign| format!("`{sign}`"));
            return Err(error(
                at,
                format!("{sign} stands where a term is expected"),
                "write a term there, or \\ before a sign that is meant as such",
            ));
        }
        if let Some(operator) =
            ["AND", "OR", "NOT", "&&", "||"].into_iter().find(|operator| word.is(operator))
        {
            return Err(error(
                at,
                format!("{operator} is an operator, and stands where a term is expected"),
                format!("write \"{operator}\" for the word"),
            ));
        }
        if self.lexer.peek() == Some('/') {
            return Err(error(
                self.lexer.at(),
                "a slash begins a regular expression",
                "put the value into quotes, or write \\/ for the sign itself",
            ));
        }
        Ok(word)
    }

    fn nested(&mut self, scope: Scope) -> Result<Query, QueryError> {
        let at = self.lexer.at();
        self.lexer.take("(");
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(error(
                at,
                format!("more than {MAX_DEPTH} brackets are open"),
                "ask in several queries",
            ));
        }
        let query = self.clauses(scope)?;
        self.depth -= 1;
        if !self.lexer.take(")") {
            return Err(error(at, "the bracket is never closed", "put a ) at the end of the group"));
        }
        Ok(query)
    }

    fn word(&mut self, scope: Scope, word: Word, at: At) -> Result<Query, QueryError> {
        if self.lexer.take("~") {
            let edits = self.edits(at)?;
            if word.is_pattern() {
                return Err(error(at, "a pattern can't be fuzzy too", "leave out the ~ or the * and ?"));
            }
            return self.every(scope, at, |field, at, _| values::like(field, &word.text(), edits, at));
        }
        if word.is_pattern() {
            if scope.is_none() && word.parts() == [Part::Many] {
                return Ok(Query::All);
            }
            return self.every(scope, at, |field, at, _| values::shape(field, &word, at));
        }
        let meant = MEANT.iter().find(|(written, _)| word.is(written));
        if let Some((written, operator)) = meant.filter(|(written, _)| {
            scope.is_none() && (!SMALL_PORTUGUESE.contains(written) || self.lexer.is_before_field())
        }) {
            return Err(error(
                at,
                format!("`{written}` is a word to look for, not an operator"),
                format!("write {operator}, or \"{written}\" for the word"),
            ));
        }
        self.every(scope, at, |field, at, now| values::is(field, &word.text(), at, now))
    }

    fn edits(&mut self, at: At) -> Result<Option<u8>, QueryError> {
        match self.lexer.number().as_str() {
            "" => Ok(None),
            "0" => Ok(Some(0)),
            "1" => Ok(Some(1)),
            "2" => Ok(Some(2)),
            other => Err(error(at, format!("~{} is no number of edits", shown(other)), "write ~, ~1 or ~2")),
        }
    }

    fn phrase(&mut self, scope: Scope) -> Result<Query, QueryError> {
        let at = self.lexer.at();
        let text = self.lexer.quoted()?;
        let mut slop = 0;
        if self.lexer.take("~") {
            let number = self.lexer.number();
            slop = number.parse().ok().filter(|slop| *slop <= 100).ok_or_else(|| {
                error(
                    at,
                    format!("~{} is no distance between words", shown(&number)),
                    "write ~1 to ~100 after a phrase",
                )
            })?;
        }
        self.every(scope, at, |field, at, now| values::phrase(field, &text, slop, at, now))
    }

    fn range(&mut self, scope: Scope) -> Result<Query, QueryError> {
        let at = self.lexer.at();
        let field = Self::the_field(scope, at)?;
        let from_inclusive = self.lexer.take("[");
        if !from_inclusive {
            self.lexer.take("{");
        }
        let low = self.range_bound(from_inclusive)?;
        self.lexer.skip_space();
        if !self.lexer.take_operator("TO") {
            return Err(error(
                self.lexer.at(),
                "TO is missing in the range",
                "write [a TO b], with * for no bound",
            ));
        }
        let mut high = self.range_bound(true)?;
        self.lexer.skip_space();
        let to_inclusive = self.lexer.take("]");
        if !to_inclusive && !self.lexer.take("}") {
            return Err(error(at, "the range is never closed", "put a ] or } at its end"));
        }
        if let Some(edge) = &mut high {
            edge.inclusive = to_inclusive;
        }
        self.one(field, at, |at, now| {
            if low.is_none() && high.is_none() {
                return Ok(Test::Exists);
            }
            values::between(field, low, high, at, now)
        })
    }

    fn range_bound(&mut self, inclusive: bool) -> Result<Option<Edge>, QueryError> {
        self.lexer.skip_space();
        let at = self.lexer.at();
        if self.lexer.peek() == Some('"') {
            return Ok(Some(Edge { value: self.lexer.quoted()?, inclusive }));
        }
        let word = self.lexer.bound()?;
        if word.is("*") {
            return Ok(None);
        }
        if word == Word::default() || word.is("TO") {
            return Err(error(at, "a bound of the range is missing", "write [a TO b], with * for no bound"));
        }
        Ok(Some(Edge { value: word.text(), inclusive }))
    }

    fn comparison(&mut self, scope: Scope) -> Result<Query, QueryError> {
        let at = self.lexer.at();
        let field = Self::the_field(scope, at)?;
        let lower = self.lexer.take(">");
        if !lower {
            self.lexer.take("<");
        }
        let inclusive = self.lexer.take("=");
        self.lexer.skip_space();
        let quoted = self.lexer.peek() == Some('"');
        let value = if quoted { self.lexer.quoted()? } else { self.lexer.bound()?.text() };
        if value.is_empty() && !quoted {
            return Err(error(at, "nothing follows the comparison", format!("write {}:>50", field.path)));
        }
        let edge = Some(Edge { value, inclusive });
        self.one(field, at, |at, now| {
            if lower {
                values::between(field, edge, None, at, now)
            } else {
                values::between(field, None, edge, at, now)
            }
        })
    }

    fn the_field(scope: Scope, at: At) -> Result<&'static Field, QueryError> {
        scope.ok_or_else(|| error(at, "a range needs a field", "write field:[a TO b] or field:>a"))
    }

    fn boosted(&mut self, query: Query) -> Result<Query, QueryError> {
        let at = self.lexer.at();
        if !self.lexer.take("^") {
            return Ok(query);
        }
        let number = self.lexer.number();
        let boost = number.parse::<f32>().ok().filter(|boost| boost.is_finite() && *boost >= 0.0);
        let boost = boost.ok_or_else(|| {
            error(at, format!("^{} is no weight", shown(&number)), "write a number after it: term^2")
        })?;
        if boost * heaviest(&query) > MAX_BOOST {
            let problem = format!("weights come to more than {MAX_BOOST} here");
            return Err(error(at, problem, "write smaller ones: only how they compare matters"));
        }
        Ok(match query {
            Query::Boosted(query, inner) => Query::Boosted(query, inner * boost),
            query => Query::Boosted(Box::new(query), boost),
        })
    }

    /// One field's test, counted.
    fn one(
        &mut self,
        field: &'static Field,
        at: At,
        test: impl FnOnce(At, DateTime<Tz>) -> Result<Test, QueryError>,
    ) -> Result<Query, QueryError> {
        let test = test(at, self.now)?;
        self.count(values::cost(&test), at)?;
        Ok(Query::Field(field, test))
    }

    /// The test of the scope's field, or of every field that holds text.
    fn every(
        &mut self,
        scope: Scope,
        at: At,
        test: impl Fn(&'static Field, At, DateTime<Tz>) -> Result<Test, QueryError>,
    ) -> Result<Query, QueryError> {
        if let Some(field) = scope {
            return self.one(field, at, |at, now| test(field, at, now));
        }
        let tests: Vec<_> = self
            .fields
            .searched_by_default()
            .map(|field| Ok((field, test(field, at, self.now)?)))
            .collect::<Result<_, QueryError>>()?;
        self.count(tests.iter().map(|(_, test)| values::cost(test)).sum(), at)?;
        Ok(values::any(tests))
    }

    fn count(&mut self, tests: usize, at: At) -> Result<(), QueryError> {
        self.tests += tests;
        if self.tests <= MAX_TESTS {
            return Ok(());
        }
        let instead =
            "name the fields, put several values into one group of a field, or ask in several queries";
        Err(error(at, format!("it comes to more than {MAX_TESTS} comparisons with fields"), instead))
    }

    fn exists(&mut self, name: &str, at: At) -> Result<Query, QueryError> {
        let inside = format!("{name}.");
        let members = self.fields.iter().filter(|field| {
            self.fields.get(name).is_none()
                && field.path.starts_with(&inside)
                && field.path == field.source
                && field.kind != FieldKind::Stored
        });
        let members: Vec<_> = members.map(|field| (field, Test::Exists)).collect();
        if members.is_empty() {
            let field = names::field(self.fields, name, at)?;
            return self.one(field, at, |_, _| Ok(Test::Exists));
        }
        self.count(members.len(), at)?;
        Ok(values::any(members))
    }
}

/// The heaviest weight in a query, those of groups multiplied with those in them.
fn heaviest(query: &Query) -> f32 {
    match query {
        Query::All | Query::Field(..) => 1.0,
        Query::Boosted(query, boost) => boost * heaviest(query),
        Query::Any(choices) => choices.iter().map(heaviest).fold(1.0, f32::max),
        Query::Bool(Clauses { must, should, must_not }) => {
            must.iter().chain(should).chain(must_not).map(heaviest).fold(1.0, f32::max)
        }
    }
}

fn no_regex(at: At) -> QueryError {
    error(
        at,
        "regular expressions are not answered",
        "write a pattern with * and ?, or put a value with slashes into quotes",
    )
}
