//! What a question may make the server do in one step.
//!
//! A statement timeout, a cancellation and an asker who has gone are looked at between steps. Some functions go
//! through one text once for each character of another, and some operators through one list once for each element of
//! another, in a single step: the second must be one that is written in the statement or kept in a table. Texts
//! that are made longer and longer, and lists gathered by the dozen, would take the server's memory: both are bounded.
//! These are bounds for what people write, not a proof; [`super::super::session`] keeps the place of a question that the
//! server goes on with.

mod known;
mod made;
mod sizes;
#[cfg(test)]
mod tests;
mod written;

use std::{collections::HashMap, ops::ControlFlow};

use sqlparser::ast::{BinaryOperator, Expr, ObjectName, Query, TableFactor, Visit, Visitor};

use self::{
    known::{JOINING, Known, MAX_NEEDLE_BYTES},
    made::Made,
    written::{
        arguments, by_place, growth, growth_of_matches, has_width, is_like, is_written, joined, literal,
        times,
    },
};
use super::{folded, folded_names, refuse};
use crate::{sql_walk::walk, store::Readable};

type Flow = ControlFlow<String>;

const FINE: Flow = ControlFlow::Continue(());

/// How many times as long as what is stored all of a statement's calls together may make a text.
const MAX_GROWTH: f64 = 100.0;

/// The length that a text may be filled up to.
const MAX_FILLED: f64 = 1_000.0;

/// Calls that gather rows into one value.
const MAX_GATHERED: usize = 4;

/// Which arguments of a function must be short, because the first is gone through once for each of their characters,
/// or because they are put into it many times.
const NEEDLES: [(&str, &[usize]); 19] = [
    ("array_to_string", &[1, 2]),
    ("btrim", &[1]),
    ("concat_ws", &[0]),
    ("format", &[0]),
    ("lpad", &[1, 2]),
    ("ltrim", &[1]),
    ("position", &[0, 1]),
    ("regexp_match", &[1]),
    ("regexp_matches", &[1]),
    ("regexp_replace", &[1, 2]),
    ("repeat", &[1]),
    ("replace", &[1, 2]),
    ("rpad", &[1, 2]),
    ("rtrim", &[1]),
    ("split_part", &[1]),
    ("string_to_array", &[1]),
    ("string_to_table", &[1]),
    ("strpos", &[1]),
    ("translate", &[1, 2]),
];

/// Functions that gather rows into one value.
const GATHERING: [&str; 7] =
    ["array", "array_agg", "json_agg", "json_object_agg", "jsonb_agg", "jsonb_object_agg", "string_agg"];

/// Breaks with what would take the server too long in one step, or too much of its memory.
pub(super) fn bounded(statement: &impl Visit, readable: &Readable) -> Flow {
    sizes::bounded(statement, readable)?;
    let mut made = Made::default();
    let _ = walk(statement, &mut made);
    let known = Known::of(&made, readable);
    walk(statement, &mut Costs { known: &known, growth: 1.0, gathered: 0, is_repeated: false })
}

struct Costs<'a> {
    known: &'a Known<'a>,
    growth: f64,
    gathered: usize,
    /// Whether this is the look at a query that reads itself, which is not repeated for those inside of it.
    is_repeated: bool,
}

impl Costs<'_> {
    fn grow(&mut self, factor: f64) -> Flow {
        self.growth *= factor.max(1.0);
        if self.growth <= MAX_GROWTH {
            return FINE;
        }
        refuse(format!(
            "its calls would together make texts more than {MAX_GROWTH:.0} times as long; replace by shorter texts, or in fewer steps"
        ))
    }

    /// A call, in an expression or in FROM; the arguments by their places, or nothing where they are given otherwise.
    fn call(&mut self, name: &ObjectName, arguments: Option<Vec<&Expr>>) -> Flow {
        let name = folded_names(name).pop().unwrap_or_default();
        if GATHERING.contains(&name.as_str()) {
            self.gathered += 1;
            if self.gathered > MAX_GATHERED {
                return refuse(format!(
                    "it gathers rows into one value ({name}) more than {MAX_GATHERED} times; ask for some of them in another statement"
                ));
            }
        }
        let needles = NEEDLES.iter().find(|(function, _)| *function == name).map(|(_, needles)| *needles);
        let joining = JOINING.contains(&name.as_str());
        if needles.is_none() && !joining && name != "string_agg" {
            return FINE;
        }
        let Some(arguments) = arguments else {
            return refuse(format!(
                "{name} is called in a way that can't be checked; give its arguments by place"
            ));
        };
        let needle = |i: usize| arguments.get(i).copied();
        for needle in needles.unwrap_or_default().iter().filter_map(|i| needle(*i)) {
            self.needle(&name, needle)?;
        }
        match name.as_str() {
            "string_agg" => needle(1).map_or(FINE, |separator| self.needle(&name, separator)),
            "replace" => self.grow(growth(needle(1), needle(2))),
            "regexp_replace" => {
                let everywhere =
                    needle(3).is_some_and(|flags| literal(flags).is_none_or(|flags| flags.contains('g')));
                self.grow(growth_of_matches(needle(2), everywhere))
            }
            "repeat" => self.grow(times(needle(1))),
            "lpad" | "rpad" if times(needle(1)) > MAX_FILLED => {
                refuse(format!("{name} fills up to a written length, {MAX_FILLED:.0} at most"))
            }
            "format" => match needle(0).and_then(literal) {
                Some(pattern) if !has_width(pattern) =>
                {
                    #[expect(clippy::cast_precision_loss, reason = "a handful")]
                    self.grow(pattern.matches('$').count() as f64)
                }
                _ => refuse("format takes a written pattern of %s, %I and %L without widths"),
            },
            _ if joining => self.join(&arguments),
            _ => FINE,
        }
    }

    fn needle(&self, what: &str, needle: &Expr) -> Flow {
        if self.known.is_short(needle) {
            return FINE;
        }
        refuse(format!(
            "what {what} looks for or puts in must be a short text (up to {MAX_NEEDLE_BYTES} bytes) or a table's own column: PostgreSQL \
             can't stop it while it goes through a long one"
        ))
    }

    /// What is put behind itself.
    fn join(&mut self, parts: &[&Expr]) -> Flow {
        let mut times: HashMap<&Expr, u32> = HashMap::new();
        for part in parts.iter().filter(|part| literal(part).is_none()) {
            *times.entry(part).or_default() += 1;
        }
        self.grow(times.into_values().max().unwrap_or(1).into())
    }
}

impl Visitor for Costs<'_> {
    type Break = String;

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        if self.is_repeated {
            return FINE;
        }
        for cte in query.with.iter().filter(|with| with.recursive).flat_map(|with| &with.cte_tables) {
            let mut inside = Costs { known: self.known, growth: 1.0, gathered: 0, is_repeated: true };
            walk(&cte.query, &mut inside)?;
            if inside.growth > 1.0 || self.known.doubles(&cte.query, &folded(&cte.alias.name)) {
                return refuse(format!(
                    "the query {} of WITH RECURSIVE makes texts longer each time it is repeated; do that in the SELECT that reads it",
                    cte.alias.name
                ));
            }
        }
        FINE
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        match factor {
            TableFactor::Table { name, args: Some(given), .. } => self.call(name, by_place(&given.args)),
            TableFactor::Function { name, args, .. } => self.call(name, by_place(args)),
            _ => FINE,
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        match expr {
            Expr::Function(call) => self.call(&call.name, arguments(call)),
            Expr::Position { expr: needle, .. } => self.needle("position", needle),
            Expr::Trim { trim_what: Some(characters), .. } => self.needle("trim", characters),
            Expr::Like { pattern, .. } | Expr::ILike { pattern, .. } => self.needle("LIKE", pattern),
            Expr::BinaryOp { op, right: pattern, .. }
            | Expr::AnyOp { compare_op: op, right: pattern, .. }
            | Expr::AllOp { compare_op: op, right: pattern, .. }
                if is_like(op) =>
            {
                self.needle("LIKE", pattern)
            }
            Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => {
                let mut parts = Vec::new();
                joined(left, &mut parts);
                joined(right, &mut parts);
                self.join(&parts)
            }
            Expr::BinaryOp { left, op, right } => {
                let each_with_each = match op {
                    BinaryOperator::PGOverlap
                    | BinaryOperator::AtArrow
                    | BinaryOperator::ArrowAt
                    | BinaryOperator::QuestionAnd
                    | BinaryOperator::QuestionPipe => true,
                    BinaryOperator::Minus => self.known.is_made_list(right),
                    _ => false,
                };
                let fine = !each_with_each
                    || is_written(left)
                    || is_written(right)
                    || self.known.is_short(left) && self.known.is_short(right);
                if fine {
                    return FINE;
                }
                refuse(format!(
                    "one side of {op} must be written in the statement, or both be a table's own columns: PostgreSQL can't stop it while it \
                     compares long lists; use EXISTS with unnest(…), or a join"
                ))
            }
            _ => FINE,
        }
    }
}
