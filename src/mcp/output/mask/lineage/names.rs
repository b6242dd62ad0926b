//! The names in a statement, and what each may carry.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::ControlFlow,
};

use sqlparser::{
    ast::{
        Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement, TableAlias,
        TableFactor, TableWithJoins, Visitor,
    },
    dialect::PostgreSqlDialect,
    parser::Parser,
};

use super::{
    Dialect, Masking, Rule, Source,
    expressions::{implied_name, last_name, unchanged},
    functions,
    shape::{Name, Shape},
};
use crate::{
    sql_walk::walk,
    store::{sqlite, tables::Column},
};

/// Longer statements are not followed; what they answer is masked as a whole.
pub(super) const MAX_LENGTH: usize = 20_000;

/// A name is learned from the names before it; more rounds than this no statement needs that somebody wrote.
const MAX_ROUNDS: usize = 20;

/// The names in a statement, and what each may carry.
pub(super) struct Names<'a> {
    masking: &'a Masking,
    /// Names of fields that are no single words: `data de nascimento`.
    phrases: Vec<(&'a str, Rule)>,
    /// What columns carry.
    known: HashMap<String, Source>,
    /// What columns are called in the statement and in the store.
    called: HashSet<String>,
    /// The columns of the store.
    stored: HashSet<&'static str>,
    /// What columns of derived tables and CTEs carry whose names are the server's to make: so does what is called by a
    /// name that nothing here has.
    nameless: Source,
    /// The same, as far as it was found in this round: before the first has ended not all names are known.
    nameless_found: Source,
    /// What JSON's members are called in, where it is taken apart.
    keys: HashSet<String>,
    /// What takes JSON apart, by the names of its rows.
    taken_apart: HashSet<String>,
    /// Names that the statement gives, each with the column that it gives it to as it is, if it does.
    aliases: HashSet<(String, Option<String>)>,
    /// Tables and what stands for them: named as a value, each is a whole row.
    relations: HashSet<String>,
    /// What `WITH` names: it may stand for something else elsewhere.
    ctes: HashSet<String>,
    /// Something was there that is not followed.
    lost: bool,
    /// Columns without a name of their own may carry anything.
    is_anything: bool,
}

impl<'a> Names<'a> {
    pub(super) fn new(masking: &'a Masking, stored: impl Iterator<Item = Column>) -> Self {
        let stored: Vec<Column> = stored.collect();
        let json = stored.iter().filter(|column| column.kind == "jsonb");
        let known = json.map(|column| (column.name.to_owned(), Source::Row)).collect();
        let phrases = masking.fields.iter().filter(|(name, _)| name.contains(is_between_words));
        Self {
            masking,
            phrases: phrases.map(|(name, rule)| (name.as_str(), *rule)).collect(),
            known,
            called: stored.iter().map(|column| column.name.to_lowercase()).collect(),
            stored: stored.iter().map(|column| column.name).collect(),
            nameless: Source::Plain,
            nameless_found: Source::Plain,
            keys: HashSet::new(),
            taken_apart: HashSet::new(),
            aliases: HashSet::new(),
            relations: HashSet::new(),
            ctes: HashSet::new(),
            lost: false,
            is_anything: false,
        }
    }

    /// What is masked in JSON of this statement: the fields by their names, and by those it gave them.
    pub(super) fn fields(&self) -> BTreeMap<String, Rule> {
        let mut fields = self.masking.fields.clone();
        for (name, source) in &self.known {
            let Some(rule) = self.masking.rule_of(*source) else { continue };
            let known = fields.entry(name.clone()).or_insert(rule);
            *known = rule.max(*known);
        }
        fields
    }

    pub(super) fn sources(&mut self, sql: &str, dialect: Dialect, columns: &[String]) -> Vec<Source> {
        let queries = if sql.len() > MAX_LENGTH { Vec::new() } else { readings(sql, dialect) };
        let by_name = |names: &Self| columns.iter().map(|name| names.column(name)).collect::<Vec<_>>();
        if queries.is_empty() {
            return vec![Source::Keys; columns.len()];
        }
        let mut rounds = 0;
        loop {
            let before = (self.known.clone(), self.relations.len(), self.nameless);
            for query in &queries {
                let _ = walk(query, self);
            }
            self.nameless = self.nameless_found;
            if before == (self.known.clone(), self.relations.len(), self.nameless) {
                break;
            }
            rounds += 1;
            if rounds == MAX_ROUNDS {
                self.lost = true;
                break;
            }
        }
        if self.is_anything {
            return vec![Source::Keys; columns.len()];
        }
        if self.lost {
            return self.unless_named(sql, by_name(self));
        }
        let mut sources = by_name(self);
        for shape in queries.iter().map(|query| self.query(query)) {
            for (at, source) in sources.iter_mut().enumerate() {
                *source = (*source).max(shape.at(at, columns.len()));
                if shape.is_star(at, columns.len()) {
                    *source = (*source).max(self.unless_called(&columns[at]));
                }
            }
        }
        sources
    }

    /// Everything, where a statement that was not wholly understood names a masked field, or what may hold one.
    fn unless_named(&self, sql: &str, by_name: Vec<Source>) -> Vec<Source> {
        let written = sql.replace("''", "'").replace("\"\"", "\"");
        let names_a_row = sql.split(is_between_words).any(|word| self.of(word) >= Source::Row);
        // Behind a backslash any letter may stand.
        if names_a_row || sql.contains('\\') || self.in_words(&written) > Source::Plain {
            vec![Source::Keys; by_name.len()]
        } else {
            by_name
        }
    }

    /// The worst of the fields that a text names, as words of it or, where their names are no single words, as a part.
    pub(super) fn in_words(&self, text: &str) -> Source {
        let words = text.split(is_between_words).map(|word| self.masking.rule(word));
        let small = text.to_lowercase();
        let phrases =
            self.phrases.iter().filter(|(name, _)| small.contains(name)).map(|(_, rule)| Some(*rule));
        words.chain(phrases).max().flatten().into()
    }

    /// Whatever the fields are that are masked.
    pub(super) fn anything(&self) -> Source {
        Some(self.masking.strictest()).into()
    }

    /// What a name among expressions stands for.
    pub(super) fn of(&self, name: &str) -> Source {
        self.told(name).max(self.unless_called(name))
    }

    fn told(&self, name: &str) -> Source {
        let row = if self.relations.contains(&name.to_lowercase()) { Source::Row } else { Source::Plain };
        row.max(self.column(name))
    }

    /// What a column carries by whose name nothing is called: the server made it.
    fn unless_called(&self, name: &str) -> Source {
        if self.nameless == Source::Plain {
            return Source::Plain;
        }
        let small = name.to_lowercase();
        // SQLite's name for a column is its expression, which spells out whatever it is made of.
        let is_spelled = name.contains(is_between_words) && name != "?column?";
        let is_plain = || small.split(is_between_words).all(|part| self.told(part) == Source::Plain);
        if self.called.contains(&small) || self.relations.contains(&small) || is_spelled && is_plain() {
            Source::Plain
        } else {
            self.nameless
        }
    }

    /// The columns that hold what JSON's members are called whose values stand beside them: of one table function alone,
    /// and by names that nothing else has.
    pub(super) fn keys(&self) -> HashSet<String> {
        if self.taken_apart.len() != 1 {
            return HashSet::new();
        }
        let mut keys = self.keys.clone();
        let is_in =
            |names: &HashSet<String>, of: &Option<String>| of.as_ref().is_some_and(|of| names.contains(of));
        while let Some((alias, _)) =
            self.aliases.iter().find(|(alias, of)| is_in(&keys, of) && !keys.contains(alias))
        {
            keys.insert(alias.clone());
        }
        while let Some((alias, _)) =
            self.aliases.iter().find(|(alias, of)| keys.contains(alias) && !is_in(&keys, of))
        {
            keys.remove(alias);
        }
        keys.retain(|key| !self.stored.contains(key.as_str()));
        keys
    }

    fn column(&self, name: &str) -> Source {
        let small = name.to_lowercase();
        let known = self.known.get(&small).copied().unwrap_or_else(|| {
            // SQLite gives a column without an alias its expression for a name: `upper(x)`.
            let parts = small.split(is_between_words).filter_map(|part| self.known.get(part));
            let fields = parts.filter(|known| **known >= Source::Field);
            fields.copied().max().unwrap_or(Source::Plain)
        });
        known.max(self.masking.rule(name).into())
    }

    fn learn(&mut self, name: &str, source: Source) {
        self.called.insert(name.to_lowercase());
        self.carry(name, source);
    }

    fn carry(&mut self, name: &str, source: Source) {
        if source > Source::Plain {
            let known = self.known.entry(name.to_lowercase()).or_insert(source);
            *known = (*known).max(source);
        }
    }

    /// The columns of a query.
    pub(super) fn query(&self, query: &Query) -> Shape {
        self.set(&query.body)
    }

    fn set(&self, set: &SetExpr) -> Shape {
        let mut rights = Vec::new();
        let mut set = set;
        // A long UNION leans to the left.
        while let SetExpr::SetOperation { left, right, .. } = set {
            rights.push(right);
            set = left;
        }
        let mut shape = match set {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::Values(values) => {
                let rows = values.rows.iter().map(|row| {
                    Shape::exactly(row.content.iter().map(|expr| (self.expr(expr), Name::Unknown)).collect())
                });
                rows.reduce(Shape::or).unwrap_or_else(|| Shape::exactly(Vec::new()))
            }
            SetExpr::Table(table) => match &table.table_name {
                Some(name) => self.all_of(&name.to_string()),
                None => Shape::unknown(),
            },
            _ => Shape::unknown(),
        };
        for right in rights {
            shape = shape.or(self.set(right));
        }
        shape
    }

    fn select(&self, select: &Select) -> Shape {
        if let [
            SelectItem::Wildcard(_)
            | SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(_), _),
        ] = select.projection.as_slice()
            && let [TableWithJoins { relation: TableFactor::Table { name, alias, args: None, .. }, joins }] =
                select.from.as_slice()
            && joins.is_empty()
            && alias.as_ref().is_none_or(|alias| alias.columns.is_empty())
        {
            return self.all_of(&name.to_string());
        }
        let mut shape = Shape::exactly(Vec::new());
        for item in &select.projection {
            match item {
                SelectItem::UnnamedExpr(expr) => shape.push(self.expr(expr), implied_name(expr)),
                SelectItem::ExprWithAlias { expr, alias } => {
                    shape.push(self.expr(expr), Name::Known(alias.value.clone()));
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(expr), _) => {
                    let source = self.expr(expr);
                    shape.star(if source > Source::Row { source } else { Source::Plain });
                }
                SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => shape.star(Source::Plain),
                SelectItem::ExprWithAliases { .. } => return Shape::unknown(),
            }
        }
        shape
    }

    /// All columns of what has this name.
    fn all_of(&self, name: &str) -> Shape {
        let name = name.to_lowercase();
        if self.ctes.contains(&name) {
            let mut shape = Shape::exactly(Vec::new());
            shape.star(Source::Plain);
            return shape;
        }
        Shape::of_table(name)
    }

    /// Takes the names that a list after a table's alias gives to the columns of `shape`, and those that the server may
    /// make for others of them.
    fn rename(&mut self, alias: Option<&TableAlias>, shape: &Shape) {
        let columns = alias.map(|alias| alias.columns.as_slice()).unwrap_or_default();
        for (at, column) in columns.iter().enumerate() {
            self.learn(&column.name.value, shape.renamed(at));
        }
        for (source, names) in shape.nameless(columns.len()) {
            self.nameless_found = self.nameless_found.max(source);
            for name in names {
                self.learn(name, source);
            }
        }
    }

    /// A function in FROM: its column has the alias's name, and JSON is taken apart into keys and values.
    fn table_function(&mut self, name: Option<&str>, alias: Option<&TableAlias>, source: Source) {
        let has_keys = name.is_some_and(|name| functions::takes_apart(&name.to_lowercase()));
        let keys = if source == Source::Keys { source } else { Source::Plain };
        for name in ["value", "atom", "json"] {
            self.learn(name, source);
        }
        for name in ["key", "fullkey", "path"] {
            self.learn(name, keys);
        }
        if let Some(name) = alias.map(|alias| alias.name.value.as_str()).or(name) {
            self.learn(name, source);
            if has_keys {
                self.taken_apart.insert(name.to_lowercase());
            }
        }
        if has_keys {
            let first = alias.and_then(|alias| alias.columns.first());
            let key = first.map_or_else(|| "key".to_owned(), |column| column.name.value.to_lowercase());
            self.keys.insert(key);
        }
        for (at, column) in alias.iter().flat_map(|alias| &alias.columns).enumerate() {
            self.learn(&column.name.value, if has_keys && at == 0 { keys } else { source });
        }
    }
}

/// The statement as its store reads it, in each way that the store may; none where it is not understood.
fn readings(sql: &str, dialect: Dialect) -> Vec<Query> {
    let statements = match dialect {
        Dialect::Postgres => Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap_or_default(),
        Dialect::Sqlite => return sqlite::readings(sql),
    };
    match <[Statement; 1]>::try_from(statements) {
        Ok([Statement::Query(query)]) => vec![*query],
        _ => Vec::new(),
    }
}

fn is_between_words(c: char) -> bool {
    !c.is_alphanumeric() && c != '_'
}

/// Learns what the statement's own names carry.
impl Visitor for Names<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let shape = self.query(&cte.query);
            self.rename(Some(&cte.alias), &shape);
            self.relations.insert(cte.alias.name.value.to_lowercase());
            self.ctes.insert(cte.alias.name.to_string().to_lowercase());
        }
        // What a query's columns carry is theirs by whatever name the query gives them.
        let shape = self.query(query);
        self.is_anything |= shape.is_lost();
        for (source, name) in shape.named() {
            match name {
                Name::Known(name) => self.learn(&name, source),
                // What is called so is elsewhere.
                Name::Same(name) => self.carry(&name, source),
                // Nothing refers to it, unless a table is made of the query.
                Name::Implied(_) => {}
                Name::Unknown => self.lost |= source > Source::Plain,
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { expr, alias } = item {
                let of = unchanged(expr).map(|name| name.to_lowercase());
                self.aliases.insert((alias.value.to_lowercase(), of));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        match table {
            TableFactor::Table { name, alias, args, .. } => {
                let name = last_name(name);
                if let Some(arguments) = args {
                    let source = self.call(&name.to_lowercase(), &arguments.args);
                    self.table_function(Some(&name), alias.as_ref(), source);
                } else {
                    self.relations.insert(name.to_lowercase());
                    // The columns of a table by other names: which is which is not known here.
                    self.rename(alias.as_ref(), &Shape::unknown());
                }
            }
            TableFactor::Derived { subquery, alias, .. } => {
                let shape = self.query(subquery);
                self.rename(alias.as_ref(), &shape);
            }
            TableFactor::Function { name, args, alias, .. } => {
                let name = last_name(name);
                let source = self.call(&name.to_lowercase(), args);
                self.table_function(Some(&name), alias.as_ref(), source);
            }
            TableFactor::TableFunction { expr, alias } => {
                let source = self.expr(expr);
                self.table_function(None, alias.as_ref(), source);
            }
            TableFactor::UNNEST { array_exprs, alias, .. } => {
                let source = array_exprs.iter().map(|expr| self.expr(expr)).max().unwrap_or(Source::Plain);
                self.table_function(Some("unnest"), alias.as_ref(), source);
            }
            TableFactor::NestedJoin { alias, .. } => self.rename(alias.as_ref(), &Shape::unknown()),
            _ => self.lost = true,
        }
        if let TableFactor::Table { alias: Some(alias), args: None, .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::NestedJoin { alias: Some(alias), .. } = table
        {
            self.relations.insert(alias.name.value.to_lowercase());
        }
        ControlFlow::Continue(())
    }
}
