//! A question in tantivy's terms.

use std::{fmt::Write as _, ops::Bound};

use tantivy::{
    Term,
    query::{
        AllQuery, BooleanQuery, BoostQuery, DisjunctionMaxQuery, EmptyQuery, FuzzyTermQuery, Occur,
        PhraseQuery, Query as Tantivy, RangeQuery, RegexQuery, TermQuery,
    },
    schema::IndexRecordOption,
};

use super::schema::Layout;
use crate::index::{
    Field,
    query::{Part, Query, Test},
};

/// # Errors
/// When a pattern is beyond what an automaton may hold.
pub(super) fn translate(layout: &Layout, query: &Query) -> tantivy::Result<Box<dyn Tantivy>> {
    Ok(match query {
        Query::All => Box::new(AllQuery),
        Query::Field(field, test) => tested(layout, field, test)?,
        Query::Any(choices) => {
            let choices = choices.iter().map(|choice| translate(layout, choice)).collect::<Result<_, _>>()?;
            Box::new(DisjunctionMaxQuery::new(choices))
        }
        Query::Bool(clauses) => {
            let groups = [
                (Occur::Must, &clauses.must),
                (Occur::Should, &clauses.should),
                (Occur::MustNot, &clauses.must_not),
            ];
            let mut translated = Vec::new();
            for (occur, group) in groups {
                for clause in group {
                    let clause = translate(layout, clause)?;
                    translated.push((occur, if occur == Occur::MustNot { excluded(clause) } else { clause }));
                }
            }
            Box::new(BooleanQuery::new(translated))
        }
        Query::Boosted(query, boost) => Box::new(BoostQuery::new(translate(layout, query)?, *boost)),
    })
}

/// What is excluded is looked up behind where it already stands, which phrases do not take (debug assertions of
/// tantivy 0.27 say so). Unions do: one of the clause with itself is the clause.
fn excluded(clause: Box<dyn Tantivy>) -> Box<dyn Tantivy> {
    let mut has_phrase = false;
    clause.query_terms(&mut |_, needs_positions| has_phrase |= needs_positions);
    if !has_phrase {
        return clause;
    }
    Box::new(DisjunctionMaxQuery::new(vec![clause.box_clone(), clause]))
}

fn tested(layout: &Layout, field: &Field, test: &Test) -> tantivy::Result<Box<dyn Tantivy>> {
    // A field that can't be searched was refused when the query was read.
    let Some(column) = layout.column(field) else { return Ok(Box::new(EmptyQuery)) };
    let of_text = |text: &str| Term::from_field_text(column, text);
    Ok(match test {
        Test::Exists => term(Term::from_field_text(layout.present, &field.path), IndexRecordOption::Basic),
        Test::Is(value) => term(of_text(value), IndexRecordOption::Basic),
        Test::Phrase(words, slop) => match &words.words[..] {
            [word] => term(of_text(word), IndexRecordOption::WithFreqs),
            words => {
                let mut phrase = PhraseQuery::new(words.iter().map(|word| of_text(word)).collect());
                phrase.set_slop(*slop);
                Box::new(phrase)
            }
        },
        Test::Shape(parts) => Box::new(RegexQuery::from_pattern(&pattern(parts), column)?),
        Test::Like(word, edits) => Box::new(FuzzyTermQuery::new(of_text(word), *edits, true)),
        Test::Texts(low, high) => between(low, high, |value| of_text(value)),
        Test::Longs(low, high) | Test::Dates(low, high) => {
            between(low, high, |value| Term::from_field_i64(column, *value))
        }
        Test::Doubles(low, high) => between(low, high, |value| Term::from_field_f64(column, *value)),
        Test::Addresses(low, high) => between(low, high, |value| Term::from_field_ip_addr(column, *value)),
        Test::Boolean(value) => term(Term::from_field_bool(column, *value), IndexRecordOption::Basic),
    })
}

fn term(term: Term, option: IndexRecordOption) -> Box<dyn Tantivy> {
    Box::new(TermQuery::new(term, option))
}

fn between<T>(low: &Bound<T>, high: &Bound<T>, term: impl Fn(&T) -> Term) -> Box<dyn Tantivy> {
    Box::new(RangeQuery::new(low.as_ref().map(&term), high.as_ref().map(&term)))
}

/// Every character that is not a letter or a digit is spelled by its code: none has a meaning then.
fn pattern(parts: &[Part]) -> String {
    let mut pattern = String::from("(?s:");
    for part in parts {
        match part {
            Part::One => pattern.push('.'),
            Part::Many => pattern.push_str(".*"),
            Part::Text(text) => {
                for c in text.chars() {
                    if c.is_alphanumeric() {
                        pattern.push(c);
                    } else {
                        let _ = write!(pattern, "\\x{{{:x}}}", u32::from(c));
                    }
                }
            }
        }
    }
    pattern.push(')');
    pattern
}
