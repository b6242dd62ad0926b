//! What the names in a question stand for.
//!
//! A table's name becomes its schema and name, quoted, where no query of `WITH` of that name is in scope: nobody
//! reaches another table by naming a query after it. Every column is quoted, so that none is read as a keyword such
//! as `current_user`.
//!
//! Postgres reads `x.f` and `(x).f` as the function `f(x)` where `x` has no column `f`. Such a name may be anything that is
//! allowed as a function or a type, or a column that every source called `x` has for certain. Any other is told
//! to the caller, who asks the server whether it could be called at all.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::ControlFlow,
};

use sqlparser::ast::{
    AccessExpr, DollarQuotedString, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    ObjectName, ObjectNamePart, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
    TableAlias, TableFactor, TableFunctionArgs, Value, ValueWithSpan, Visit, Visitor, VisitorMut, With,
};

use super::{
    folded, folded_names,
    functions::{is_allowed_function, is_allowed_type},
    refuse,
};
use crate::{
    sql_walk::{walk, walk_mut},
    store::Readable,
};

type Flow = ControlFlow<String>;

const FINE: Flow = ControlFlow::Continue(());

/// The schema people write by habit, whatever it is called here.
const HABITUAL_SCHEMA: &str = "public";

/// Resolves the names of one statement and writes them anew.
pub(super) struct Names<'a> {
    readable: &'a Readable,
    schema: &'a str,
    sources: Sources,
    /// One for each query around the place that is looked at.
    scopes: Vec<Scope>,
    /// Names behind a dot that must be no function and no type.
    attributes: BTreeSet<String>,
}

/// A query's `WITH`: taken out of it while the rest is looked at, and which of its names are known there.
struct Scope {
    with: Option<With>,
    known: Vec<String>,
    /// Those further down, which are other tables as yet.
    later: VecDeque<String>,
}

impl<'a> Names<'a> {
    pub(super) fn new(readable: &'a Readable, schema: &'a str, sources: Sources) -> Self {
        Self { readable, schema, sources, scopes: Vec::new(), attributes: BTreeSet::new() }
    }

    pub(super) fn into_attributes(self) -> BTreeSet<String> {
        self.attributes
    }

    fn relation(&self, name: &mut ObjectName) -> Flow {
        match folded_names(name).as_slice() {
            [table] if self.scopes.iter().any(|scope| scope.known.contains(table)) => return FINE,
            [table] if self.readable.has(table) => {
                *name = self.qualified(table);
                return FINE;
            }
            [schema, table] if self.is_own(schema, table) => {
                *name = self.qualified(table);
                return FINE;
            }
            [table] if self.scopes.iter().any(|scope| scope.later.contains(table)) => {
                return refuse(format!(
                    "{table} is read inside of WITH before it is known; write WITH RECURSIVE"
                ));
            }
            _ => {}
        }
        refuse(format!("{name} is not a table that can be read"))
    }

    fn is_own(&self, schema: &str, table: &str) -> bool {
        (schema == HABITUAL_SCHEMA || schema == self.schema) && self.readable.has(table)
    }

    fn qualified(&self, table: &str) -> ObjectName {
        ObjectName([self.schema, table].map(|part| ObjectNamePart::Identifier(quoted(part))).into())
    }

    /// `source.name`, or `(anything).name`.
    fn attribute(&mut self, source: Option<&Ident>, name: &Ident) {
        let folded = folded(name);
        let allowed = is_allowed_function(&folded) || is_allowed_type(&folded);
        if !allowed && !source.is_some_and(|source| self.sources.surely_have(source, name)) {
            self.attributes.insert(folded);
        }
    }

    fn column(&mut self, parts: &mut [Ident]) -> Flow {
        match parts {
            [source, name] => self.attribute(Some(source), name),
            // Found only where the table itself, without an alias, is a source.
            [schema, table, name] if self.is_own(&folded(schema), &folded(table)) => {
                if !self.readable.has_column(&folded(table), &folded(name)) {
                    self.attribute(None, name);
                }
                *schema = quoted(self.schema);
            }
            _ => return refuse(format!("{} names something outside of the tables", dotted(parts))),
        }
        parts.iter_mut().for_each(quote);
        FINE
    }

    /// `x.f[1].g`, `(x).f`: names with dots up to the first bracket are a column, what comes behind is taken of its value.
    fn chain(&mut self, root: &mut Expr, chain: &mut [AccessExpr]) -> Flow {
        let mut names: Vec<&mut Ident> = Vec::new();
        let mut rest = chain.iter_mut();
        if let Expr::Identifier(first) = root {
            names.push(first);
            for access in rest.by_ref() {
                let AccessExpr::Dot(Expr::Identifier(name)) = access else { break };
                names.push(name);
            }
        }
        if names.len() > 1 {
            let mut parts: Vec<Ident> = names.iter().map(|name| (**name).clone()).collect();
            self.column(&mut parts)?;
            for (name, part) in names.into_iter().zip(parts) {
                *name = part;
            }
        }
        for access in rest {
            if let AccessExpr::Dot(Expr::Identifier(name)) = access {
                self.attribute(None, name);
            }
        }
        FINE
    }

    fn argument(&self, argument: &mut FunctionArg) -> Flow {
        match argument {
            FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(name))
            | FunctionArg::Named { arg: FunctionArgExpr::QualifiedWildcard(name), .. }
            | FunctionArg::ExprNamed { arg: FunctionArgExpr::QualifiedWildcard(name), .. } => {
                self.wildcard(name)
            }
            _ => FINE,
        }
    }

    fn wildcard(&self, name: &mut ObjectName) -> Flow {
        match folded_names(name).as_slice() {
            [_] => FINE,
            [schema, table] if self.is_own(schema, table) => {
                *name = self.qualified(table);
                FINE
            }
            _ => refuse(format!("{name}.* names something outside of the tables")),
        }
    }
}

impl VisitorMut for Names<'_> {
    type Break = String;

    fn pre_visit_query(&mut self, query: &mut Query) -> Flow {
        let mut with = query.with.take();
        let named: VecDeque<String> =
            with.iter().flat_map(|with| &with.cte_tables).map(|cte| folded(&cte.alias.name)).collect();
        let recursive = with.as_ref().is_some_and(|with| with.recursive);
        let (known, later) = if recursive { (named.into(), VecDeque::new()) } else { (Vec::new(), named) };
        self.scopes.push(Scope { with: None, known, later });
        for cte in with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            walk_mut(&mut cte.query, self)?;
            if let Some(scope) = self.scopes.last_mut() {
                scope.known.extend(scope.later.pop_front());
            }
        }
        if let Some(scope) = self.scopes.last_mut() {
            scope.with = with;
        }
        FINE
    }

    fn post_visit_query(&mut self, query: &mut Query) -> Flow {
        query.with = self.scopes.pop().and_then(|scope| scope.with);
        FINE
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> Flow {
        for item in &mut select.projection {
            if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) = item
            {
                self.wildcard(name)?;
            }
        }
        FINE
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> Flow {
        match factor {
            TableFactor::Table { name, args: None, .. } => self.relation(name),
            TableFactor::Table { args: Some(TableFunctionArgs { args, .. }), .. }
            | TableFactor::Function { args, .. } => {
                args.iter_mut().try_for_each(|argument| self.argument(argument))
            }
            _ => FINE,
        }
    }

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> Flow {
        if let Value::SingleQuotedString(text)
        | Value::EscapedStringLiteral(text)
        | Value::UnicodeStringLiteral(text) = &value.value
            && text.contains(['\'', '\\'])
        {
            value.value = Value::DollarQuotedString(dollar_quoted(text));
        }
        FINE
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        match expr {
            Expr::Identifier(name) => quote(name),
            Expr::CompoundIdentifier(parts) => return self.column(parts),
            Expr::CompoundFieldAccess { root, access_chain } => return self.chain(root, access_chain),
            Expr::QualifiedWildcard(name, _) => return self.wildcard(name),
            Expr::Function(Function { args: FunctionArguments::List(list), .. }) => {
                return list.args.iter_mut().try_for_each(|argument| self.argument(argument));
            }
            _ => {}
        }
        FINE
    }
}

/// A text between marks that it does not hold: in it no character means anything but itself. The library would write
/// some quotes so that the text ends earlier.
fn dollar_quoted(text: &str) -> DollarQuotedString {
    let mut tag = String::new();
    while text.contains(&format!("${tag}$")) || text.ends_with(&format!("${tag}")) {
        tag.push('t');
    }
    let tag = Some(tag).filter(|tag| !tag.is_empty());
    DollarQuotedString { value: text.to_owned(), tag }
}

fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

/// Writes a name as Postgres folds it, so that it stays the same and is nothing but a name.
fn quote(name: &mut Ident) {
    *name = quoted(&folded(name));
}

fn dotted(parts: &[Ident]) -> String {
    parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
}

/// The columns that are certain of everything that `FROM` calls by a name, anywhere in a statement: whichever of them a
/// reference means, it has these.
#[derive(Default)]
pub(super) struct Sources(HashMap<String, BTreeSet<String>>);

impl Sources {
    pub(super) fn of(statement: &impl Visit, readable: &Readable) -> Self {
        // First the names alone, of which nothing is certain; then what each query names, or takes over of what is certain
        // by then, so that nothing is taken for certain that is not.
        let mut named = NamedQueries::default();
        for first in [true, false, false, false] {
            let mut again = Naming { readable, known: named, found: NamedQueries::default() };
            let _ = walk(statement, &mut again);
            named = again.found;
            if first {
                named.0.values_mut().for_each(BTreeSet::clear);
            }
        }
        let mut collect = Collect { readable, named, sources: Self::default() };
        let _ = walk(statement, &mut collect);
        collect.sources
    }

    /// Whether every source of that name has the column. Case counts as Postgres folds it, which beyond ASCII
    /// depends on the database: there nothing is certain.
    fn surely_have(&self, source: &Ident, column: &Ident) -> bool {
        column.value.is_ascii()
            && self
                .0
                .get(&source.value.to_lowercase())
                .is_some_and(|columns| columns.contains(&folded(column)))
    }

    fn add(&mut self, name: &Ident, columns: BTreeSet<String>) {
        // By the loosest reading of case: one more source can only make less certain.
        let name = name.value.to_lowercase();
        match self.0.get_mut(&name) {
            Some(certain) => certain.retain(|column| columns.contains(column)),
            None => {
                self.0.insert(name, columns);
            }
        }
    }
}

/// The columns that are certain of the queries that any `WITH` names.
#[derive(Default)]
struct NamedQueries(BTreeMap<String, BTreeSet<String>>);

impl NamedQueries {
    /// The columns that are certain of a table or query of that name.
    fn columns_of_table(&self, readable: &Readable, name: &ObjectName) -> BTreeSet<String> {
        let Some(table) = last(name) else { return BTreeSet::new() };
        let columns = readable.columns(&folded(&table)).map(|columns| columns.iter().cloned().collect());
        match (columns, self.0.get(&table.value.to_lowercase())) {
            (Some(columns), None) => columns,
            (None, Some(named)) => named.clone(),
            // Which of both it is need not be known.
            (Some(columns), Some(named)) => columns.intersection(named).cloned().collect(),
            (None, None) => BTreeSet::new(),
        }
    }

    /// The columns a query surely has: those it names, and those that it takes over.
    fn columns_of(&self, readable: &Readable, body: &SetExpr) -> BTreeSet<String> {
        match body {
            SetExpr::Select(select) => {
                let mut columns = certain(select.projection.iter().filter_map(|item| match item {
                    SelectItem::ExprWithAlias { alias, .. } => Some(alias),
                    SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name),
                    SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last(),
                    _ => None,
                }));
                // Of everything, or of one source.
                let taken: BTreeSet<Option<String>> = select
                    .projection
                    .iter()
                    .filter_map(|item| match item {
                        SelectItem::Wildcard(_) => Some(None),
                        SelectItem::QualifiedWildcard(
                            SelectItemQualifiedWildcardKind::ObjectName(name),
                            _,
                        ) => Some(last(name).as_ref().map(folded)),
                        _ => None,
                    })
                    .collect();
                let tables = select.from.iter().flat_map(|table| {
                    std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation))
                });
                for table in tables {
                    if let TableFactor::Table { name, alias, args: None, .. } = table
                        && let called = alias.as_ref().map(|alias| alias.name.clone()).or_else(|| last(name))
                        && (taken.contains(&None)
                            || called.is_some_and(|called| taken.contains(&Some(folded(&called)))))
                    {
                        columns.extend(renamed(alias.as_ref(), || self.columns_of_table(readable, name)));
                    }
                }
                columns
            }
            SetExpr::SetOperation { left, .. } => self.columns_of(readable, left),
            SetExpr::Query(query) => self.columns_of(readable, &query.body),
            _ => BTreeSet::new(),
        }
    }
}

/// One look at all queries of `WITH`, knowing what was certain before.
struct Naming<'a> {
    readable: &'a Readable,
    known: NamedQueries,
    found: NamedQueries,
}

impl Visitor for Naming<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let columns = renamed(Some(&cte.alias), || self.known.columns_of(self.readable, &cte.query.body));
            let name = cte.alias.name.value.to_lowercase();
            match self.found.0.get_mut(&name) {
                Some(certain) => certain.retain(|column| columns.contains(column)),
                None => {
                    self.found.0.insert(name, columns);
                }
            }
        }
        ControlFlow::Continue(())
    }
}

struct Collect<'a> {
    readable: &'a Readable,
    named: NamedQueries,
    sources: Sources,
}

impl Visitor for Collect<'_> {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        let (name, alias, columns) = match factor {
            TableFactor::Table { name, alias, args: None, .. } => (
                last(name),
                alias,
                renamed(alias.as_ref(), || self.named.columns_of_table(self.readable, name)),
            ),
            TableFactor::Table { name, alias, .. } | TableFactor::Function { name, alias, .. } => {
                (last(name), alias, renamed(alias.as_ref(), BTreeSet::new))
            }
            TableFactor::Derived { subquery, alias, .. } => {
                let unnamed = Some(Ident::new("unnamed_subquery"));
                (
                    unnamed,
                    alias,
                    renamed(alias.as_ref(), || self.named.columns_of(self.readable, &subquery.body)),
                )
            }
            TableFactor::UNNEST { alias, .. } => {
                (Some(Ident::new("unnest")), alias, renamed(alias.as_ref(), BTreeSet::new))
            }
            TableFactor::NestedJoin { alias, .. } => {
                (Some(Ident::new("unnamed_join")), alias, renamed(alias.as_ref(), BTreeSet::new))
            }
            _ => return ControlFlow::Continue(()),
        };
        if let Some(name) = alias.as_ref().map(|alias| alias.name.clone()).or(name) {
            self.sources.add(&name, columns);
        }
        ControlFlow::Continue(())
    }
}

/// The names given behind an alias; without such, the source's own.
fn renamed(alias: Option<&TableAlias>, own: impl FnOnce() -> BTreeSet<String>) -> BTreeSet<String> {
    match alias {
        Some(alias) if !alias.columns.is_empty() => certain(alias.columns.iter().map(|column| &column.name)),
        _ => own(),
    }
}

fn certain<'a>(names: impl Iterator<Item = &'a Ident>) -> BTreeSet<String> {
    names.filter(|name| name.value.is_ascii()).map(folded).collect()
}

fn last(name: &ObjectName) -> Option<Ident> {
    name.0.last().and_then(ObjectNamePart::as_ident).cloned()
}
