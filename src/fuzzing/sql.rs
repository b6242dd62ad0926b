//! The check of a Postgres statement.

use std::{collections::BTreeSet, ops::ControlFlow};

use sqlparser::{
    ast::{ValueWithSpan, Visitor},
    dialect::PostgreSqlDialect,
    parser::Parser,
};

use crate::{
    domain::Catalog,
    sql_walk::walk,
    store::{Readable, postgres},
};

/// The schema that the readable tables are in.
pub const SCHEMA: &str = "public";

/// A statement that the SQL check let pass, and what it took it for.
pub struct PassedSql {
    /// Written anew.
    pub sql: String,
    /// Names behind a dot that the server is asked about.
    pub attributes: BTreeSet<String>,
    /// The texts in it, as the check reads them.
    pub texts: Vec<String>,
}

/// What the SQL check lets pass reads the same again, and passes again unchanged.
///
/// # Panics
/// When it does not.
pub fn sql_check(text: &str) {
    passed_sql(text, &Readable::of(Catalog::built_in()));
}

/// The same; with what passed, for a second opinion.
///
/// # Panics
/// When what passed does not pass again unchanged.
pub fn passed_sql(text: &str, readable: &Readable) -> Option<PassedSql> {
    let checked = postgres::checked(text, readable, SCHEMA).ok()?;
    match postgres::checked(&checked.sql, readable, SCHEMA) {
        Ok(again) => assert_eq!(again, checked, "written differently the second time; from {text:?}"),
        Err(problem) => panic!("{:?}, written from {text:?}, is refused: {problem}", checked.sql),
    }
    let mut texts = Texts::default();
    for statement in Parser::parse_sql(&PostgreSqlDialect {}, &checked.sql).unwrap_or_default() {
        let _ = walk(&statement, &mut texts);
    }
    Some(PassedSql { sql: checked.sql, attributes: checked.attributes, texts: texts.0 })
}

/// Whether questions may call a function.
pub fn is_allowed_function(name: &str) -> bool {
    postgres::is_allowed_function(name)
}

/// Whether questions may turn values into a type.
pub fn is_allowed_type(name: &str) -> bool {
    postgres::is_allowed_type(name)
}

#[derive(Default)]
struct Texts(Vec<String>);

impl Visitor for Texts {
    type Break = ();

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        self.0.extend(value.value.clone().into_string());
        ControlFlow::Continue(())
    }
}
