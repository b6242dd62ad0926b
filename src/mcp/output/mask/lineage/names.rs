//! The names in a statement, and what each may carry.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
    ops::ControlFlow,
};

use sqlparser::{
    ast::{
        Expr, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement, TableAlias,
        TableFactor, TableWithJoins, Visitor,
    },
    dialect::PostgreSqlDialect,
    parser::Parser,
};

use super::{
    Dialect, Masking, Rule, Source,
    expressions::{implied_name, last_name, member, unchanged},
    fields, functions,
    shape::{Name, Shape},
};
use crate::{
    sql_walk::walk,
    store::{postgres, sqlite, tables::StoreTable},
};

/// Longer statements are not followed; what they answer is masked as a whole.
pub(super) const MAX_LENGTH: usize = 20_000;

/// A name is learned from the names before it; more rounds than this no statement needs that somebody wrote.
const MAX_ROUNDS: usize = 20;

/// The names in a statement, and what each may carry.
pub(super) struct Names<'a> {
    masking: &'a Masking,
    dialect: Dialect,
    /// Names of fields that are no single words: `data de nascimento`.
    phrases: Vec<(&'a str, Rule)>,
    /// What columns carry.
    known: HashMap<String, Source>,
    /// What columns are called in the statement and in the store.
    called: HashSet<String>,
    /// The columns of the store.
    stored: HashSet<&'static str>,
    /// The tables of the store, and the columns of each.
    tables: HashMap<&'static str, HashSet<String>>,
    /// What columns of derived tables and CTEs carry whose names are the server's to make: so does what is called by a
    /// name that nothing here has.
    nameless: Source,
    /// The same, as far as it was found in this round: before the first has ended not all names are known.
    nameless_found: Source,
    /// What those of them carry that no spelled-out name tells.
    untold: Source,
    untold_found: Source,
    /// What JSON's members are called in, where it is taken apart, and what holds their values.
    keys: HashSet<String>,
    values: HashSet<String>,
    /// What stands for the values that functions in `FROM` take out of JSON.
    items: HashSet<String>,
    /// Whether a key and a value of one answer may be those of different members.
    is_unpaired: bool,
    /// The functions in `FROM` that give values out of JSON, and the queries of `WITH` that are read, as far as a walk
    /// came.
    givers: usize,
    reads: HashSet<String>,
    /// Names that the statement gives, each with the column that it gives it to as it is, if it does.
    aliases: HashSet<(String, Option<String>)>,
    /// Tables and what stands for them: named as a value, each is a whole row.
    relations: HashSet<String>,
    /// The columns that everything surely has that `FROM` calls so.
    certain: HashMap<String, HashSet<String>>,
    /// The same in the queries alone whose columns are being looked at, the innermost last: what is called so elsewhere
    /// is something else.
    scopes: RefCell<Vec<HashMap<String, HashSet<String>>>>,
    /// The same of what `WITH` names.
    certain_of_ctes: HashMap<String, HashSet<String>>,
    /// What `WITH` names, with its columns where they are known and no other query has its name: it may stand for
    /// something else elsewhere.
    ctes: HashMap<String, Option<Shape>>,
    /// Something was there that is not followed.
    lost: bool,
    /// Columns without a name of their own may carry anything.
    is_anything: bool,
}

impl<'a> Names<'a> {
    pub(super) fn new(masking: &'a Masking, tables: &[StoreTable], dialect: Dialect) -> Self {
        let stored = || tables.iter().flat_map(|table| &table.columns);
        let json = stored().filter(|column| column.kind == "jsonb");
        let known = json.map(|column| (column.name.to_owned(), Source::Json)).collect();
        let phrases = masking.fields.iter().filter(|(name, _)| name.contains(is_between_words));
        Self {
            masking,
            dialect,
            phrases: phrases.map(|(name, rule)| (name.as_str(), *rule)).collect(),
            known,
            called: stored().map(|column| column.name.to_lowercase()).collect(),
            stored: stored().map(|column| column.name).collect(),
            tables: tables.iter().map(|table| (table.table, columns_of(table))).collect(),
            nameless: Source::Plain,
            nameless_found: Source::Plain,
            untold: Source::Plain,
            untold_found: Source::Plain,
            keys: HashSet::new(),
            values: HashSet::new(),
            items: HashSet::new(),
            is_unpaired: false,
            givers: 0,
            reads: HashSet::new(),
            aliases: HashSet::new(),
            relations: HashSet::new(),
            certain: HashMap::new(),
            scopes: RefCell::default(),
            certain_of_ctes: HashMap::new(),
            ctes: HashMap::new(),
            lost: false,
            is_anything: false,
        }
    }

    /// What is masked in JSON of this statement: the fields by their names, and by those it gave them.
    pub(super) fn fields(&self) -> BTreeMap<String, Rule> {
        let mut fields = self.masking.fields.clone();
        for (name, source) in &self.known {
            let is_nameless = matches!(source, Source::Items | Source::Values);
            let rule =
                if is_nameless { Some(self.masking.strictest()) } else { self.masking.rule_of(*source) };
            let Some(rule) = rule else { continue };
            let known = fields.entry(name.clone()).or_insert(rule);
            *known = rule.max(*known);
        }
        fields
    }

    pub(super) fn sources(&mut self, sql: &str, columns: &[String]) -> Vec<Source> {
        let queries = if sql.len() > MAX_LENGTH { Vec::new() } else { readings(sql, self.dialect) };
        let by_name = |names: &Self| columns.iter().map(|name| names.column(name)).collect::<Vec<_>>();
        if queries.is_empty() {
            return vec![Source::Keys; columns.len()];
        }
        let mut rounds = 0;
        loop {
            let before = self.learned();
            for query in &queries {
                (self.givers, self.reads) = (0, HashSet::new());
                let _ = walk(query, self);
                self.is_unpaired |= self.givers > 1;
            }
            (self.nameless, self.untold) = (self.nameless_found, self.untold_found);
            if before == self.learned() {
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

    /// What tells whether another round would learn anything.
    fn learned(&self) -> impl PartialEq + use<'a> {
        (self.known.clone(), self.relations.len(), self.nameless, self.untold, self.ctes.clone())
    }

    /// Everything, where a statement that was not wholly understood names a masked field, or what may hold one.
    fn unless_named(&self, sql: &str, by_name: Vec<Source>) -> Vec<Source> {
        let written = sql.replace("''", "'").replace("\"\"", "\"");
        let names_a_row = sql
            .split(is_between_words)
            .any(|word| self.of(word) >= Source::Json || self.relations.contains(&word.to_lowercase()));
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

    /// The same of a path into JSON, which the statement may have made itself, by names of its own.
    pub(super) fn in_path(&self, path: &str) -> Source {
        let small = path.to_lowercase();
        let words = small.split(is_between_words).filter_map(|word| self.known.get(word));
        let phrases =
            self.known.iter().filter(|(name, _)| name.contains(is_between_words) && small.contains(*name));
        let known = words.chain(phrases.map(|(_, source)| source)).copied();
        // JSON in JSON has names of its own.
        let worst = known.filter(|source| *source >= Source::Items).max().unwrap_or(Source::Plain);
        worst.max(self.in_words(path))
    }

    /// Whatever the fields are that are masked.
    pub(super) fn anything(&self) -> Source {
        Some(self.masking.strictest()).into()
    }

    /// What a name among expressions stands for.
    pub(super) fn of(&self, name: &str) -> Source {
        self.told(name).max(self.unless_called(name))
    }

    /// A column of anything in `FROM` comes before the row of the same name, and SQLite has no rows for values.
    fn told(&self, name: &str) -> Source {
        let small = name.to_lowercase();
        let is_row = self.dialect == Dialect::Postgres
            && self.relations.contains(&small)
            && self.certain.get(&small).is_some_and(|columns| !columns.contains(&small))
            && !self.scopes.borrow().iter().flat_map(HashMap::values).any(|columns| columns.contains(&small));
        if is_row { self.column(name).max(Source::Row) } else { self.column(name) }
    }

    /// What a name behind another's dot stands for.
    pub(super) fn attribute(&self, of: Option<&str>, name: &str) -> Source {
        let column = self.column(name).max(self.unless_called(name));
        match of {
            Some(of) if self.may_call(Some(of), name) => column.max(self.called_of(name, self.of(of))),
            _ => column,
        }
    }

    /// Whether a name behind a dot may be a function of what stands before it: Postgres calls it where there is no such
    /// column.
    pub(super) fn may_call(&self, of: Option<&str>, name: &str) -> bool {
        let small = name.to_lowercase();
        self.dialect == Dialect::Postgres
            && (postgres::is_allowed_function(&small) || postgres::is_allowed_type(&small))
            && !of.is_some_and(|of| self.surely_has(&of.to_lowercase(), &small))
    }

    /// Whether what is called so has this column: the innermost of that name, or all in the statement where the query
    /// that has it is not being looked at.
    fn surely_has(&self, of: &str, column: &str) -> bool {
        let scopes = self.scopes.borrow();
        let here = scopes.iter().rev().find_map(|things| things.get(of));
        here.or_else(|| self.certain.get(of)).is_some_and(|columns| columns.contains(column))
    }

    /// Whether it is JSON as a table has it, by the name that it has there.
    pub(super) fn is_stored_json(&self, name: &str) -> bool {
        let small = name.to_lowercase();
        let is_other =
            |(alias, of): &(String, Option<String>)| *alias == small && of.as_ref() != Some(&small);
        self.stored.contains(small.as_str())
            && self.known.get(&small) == Some(&Source::Json)
            && !self.aliases.iter().any(is_other)
    }

    pub(super) const fn is_postgres(&self) -> bool {
        matches!(self.dialect, Dialect::Postgres)
    }

    /// What a column carries by whose name nothing is called: the server made it.
    fn unless_called(&self, name: &str) -> Source {
        if self.nameless == Source::Plain {
            return Source::Plain;
        }
        let small = name.to_lowercase();
        // SQLite's name for a column is its expression, which spells out whatever it is made of.
        let is_spelled = name.contains(is_between_words) && name != "?column?";
        let is_plain =
            |part: &str| self.told(part) == Source::Plain && !self.relations.contains(&part.to_lowercase());
        if self.called.contains(&small) || self.relations.contains(&small) {
            Source::Plain
        } else if is_spelled && small.split(is_between_words).all(is_plain) {
            self.untold
        } else {
            self.nameless
        }
    }

    /// The columns that hold what JSON's members are called, each with those that hold their values and nothing else:
    /// members of the one JSON, or of the one item of a list, that a row is made of.
    pub(super) fn pairs(&self) -> Vec<(HashSet<String>, HashSet<String>)> {
        if self.is_unpaired {
            return Vec::new();
        }
        let mut pairs = vec![(self.keys.clone(), self.values.clone())];
        for item in &self.items {
            let members = |names: &[&str]| names.iter().map(|name| format!("{item}->{name}")).collect();
            pairs.push((members(&fields::KEYS), members(&fields::NAMED)));
        }
        for (keys, values) in &mut pairs {
            self.rename_all(keys);
            keys.retain(|key| !self.stored.contains(key.as_str()));
            self.rename_all(values);
        }
        pairs
    }

    /// Follows columns to the names that they are given, and leaves out names that are given to others, too.
    fn rename_all(&self, columns: &mut HashSet<String>) {
        let is_in =
            |names: &HashSet<String>, of: &Option<String>| of.as_ref().is_some_and(|of| names.contains(of));
        while let Some((alias, _)) =
            self.aliases.iter().find(|(alias, of)| is_in(columns, of) && !columns.contains(alias))
        {
            columns.insert(alias.clone());
        }
        while let Some((alias, _)) =
            self.aliases.iter().find(|(alias, of)| columns.contains(alias) && !is_in(columns, of))
        {
            columns.remove(alias);
        }
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
            && let [TableWithJoins { relation, joins }] = select.from.as_slice()
            && joins.is_empty()
        {
            match relation {
                TableFactor::Table { name, alias, args: None, .. }
                    if alias.as_ref().is_none_or(|alias| alias.columns.is_empty()) =>
                {
                    return self.all_of(&name.to_string());
                }
                TableFactor::Derived { subquery, alias, .. } => {
                    let shape = self.query(subquery);
                    if shape.is_exact() {
                        return shape.renamed_to(given_names(alias.as_ref()));
                    }
                }
                _ => {}
            }
        }
        let things = self.certain_of_from(&select.from);
        self.scopes.borrow_mut().push(things);
        let shape = self.projection(&select.projection);
        self.scopes.borrow_mut().pop();
        shape
    }

    fn projection(&self, items: &[SelectItem]) -> Shape {
        let mut shape = Shape::exactly(Vec::new());
        for item in items {
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
        match self.ctes.get(&name) {
            Some(Some(shape)) => shape.clone(),
            Some(None) => {
                let mut shape = Shape::exactly(Vec::new());
                shape.star(Source::Plain);
                shape
            }
            None => Shape::of_table(name),
        }
    }

    /// Takes the names that a list after a table's alias gives to the columns of `shape`, and those that the server may
    /// make for others of them.
    fn rename(&mut self, alias: Option<&TableAlias>, shape: &Shape) {
        for (at, name) in given_names(alias).enumerate() {
            self.learn(&name, shape.renamed(at));
            self.give(&name, shape.name_at(at).map(str::to_lowercase));
        }
        let given = given_names(alias).count();
        for (source, name) in shape.behind(given) {
            if let Name::Implied { names, is_whole } = name {
                self.nameless_found = self.nameless_found.max(*source);
                if !is_whole {
                    self.untold_found = self.untold_found.max(*source);
                }
                for name in names {
                    self.learn(name, *source);
                }
            }
        }
    }

    /// The columns that what stands in `FROM` surely has.
    fn certain_of(&self, table: &TableFactor) -> HashSet<String> {
        let alias = alias_of(table);
        // Which columns a list leaves their own names is not known here.
        if alias.is_some_and(|alias| !alias.columns.is_empty()) {
            return given_names(alias).map(|name| name.to_lowercase()).collect();
        }
        match table {
            TableFactor::Table { name, args: None, .. } => self.certain_of_relation(&last_name(name)),
            TableFactor::Derived { subquery, .. } => self.certain_of_query(subquery),
            _ => HashSet::new(),
        }
    }

    /// The same of a table, or of a query of `WITH`, that has this name.
    fn certain_of_relation(&self, name: &str) -> HashSet<String> {
        let name = name.to_lowercase();
        match (self.tables.get(name.as_str()), self.certain_of_ctes.get(&name)) {
            (Some(of_table), Some(of_cte)) => of_table.intersection(of_cte).cloned().collect(),
            (Some(columns), None) | (None, Some(columns)) => columns.clone(),
            (None, None) => HashSet::new(),
        }
    }

    /// The same of a query: the columns that it names, and those of what its stars stand for.
    fn certain_of_query(&self, query: &Query) -> HashSet<String> {
        let mut set = &*query.body;
        loop {
            set = match set {
                // A set has the names of its first query.
                SetExpr::SetOperation { left, .. } => left,
                SetExpr::Query(query) => &query.body,
                SetExpr::Select(select) => {
                    let from = self.certain_of_from(&select.from);
                    return select.projection.iter().flat_map(|item| certain_of_item(item, &from)).collect();
                }
                SetExpr::Table(table) => {
                    let name = table.table_name.as_ref();
                    return name
                        .map_or_else(HashSet::new, |name| self.certain_of_relation(&name.to_string()));
                }
                _ => return HashSet::new(),
            }
        }
    }

    /// The same of everything in `FROM`, by what it is called there.
    fn certain_of_from(&self, from: &[TableWithJoins]) -> HashMap<String, HashSet<String>> {
        let mut certain = HashMap::new();
        for part in from {
            for table in std::iter::once(&part.relation).chain(part.joins.iter().map(|join| &join.relation)) {
                if let TableFactor::NestedJoin { table_with_joins, alias: None } = table {
                    let inside = self.certain_of_from(std::slice::from_ref(&**table_with_joins));
                    for (name, columns) in inside {
                        intersect(&mut certain, &name, columns);
                    }
                } else if let Some(name) = called_in_from(table) {
                    intersect(&mut certain, &name, self.certain_of(table));
                }
            }
        }
        certain
    }

    fn give(&mut self, name: &str, of: Option<String>) {
        self.aliases.insert((name.to_lowercase(), of));
    }

    /// A function in FROM: its column has the alias's name, and JSON is taken apart into keys and values.
    fn table_function(&mut self, name: Option<&str>, alias: Option<&TableAlias>, source: Source) {
        let small = name.unwrap_or_default().to_lowercase();
        let has_keys = functions::takes_apart(&small);
        let keys = if source == Source::Keys { source } else { Source::Plain };
        self.givers += usize::from(source > Source::Plain || small.starts_with("json"));
        for name in ["value", "atom", "json", "root"] {
            self.learn(name, source);
        }
        for name in ["key", "fullkey", "path"] {
            self.learn(name, keys);
        }
        if small == "trim" {
            // Postgres's grammar makes another function of it.
            self.learn("btrim", source);
        }
        let called = alias.map(|alias| alias.name.value.as_str()).or(name);
        if let Some(name) = called {
            self.learn(name, source);
            self.give(name, None);
            self.items.insert(name.to_lowercase());
        }
        let listed: Vec<String> = given_names(alias).map(|name| name.to_lowercase()).collect();
        for (at, name) in listed.iter().enumerate() {
            let source = match source {
                _ if has_keys && at == 0 => keys,
                // The columns of a row by other names: which is which is not known here.
                Source::Row => Source::Keys,
                source => source,
            };
            self.learn(name, source);
        }
        let or_own = |at: usize, own: &str| listed.get(at).cloned().unwrap_or_else(|| own.to_owned());
        if has_keys {
            self.keys.insert(or_own(0, "key"));
            self.values.extend([or_own(1, "value"), "atom".to_owned()]);
            self.items.insert(or_own(1, "value"));
        } else {
            for name in &listed {
                self.give(name, None);
            }
            self.items.extend(listed.iter().cloned());
            self.items.insert("value".to_owned());
        }
        if let Some(name) = called {
            self.is_from(name, listed.into_iter().collect());
        }
    }

    /// Something in `FROM` is called so, and surely has these columns.
    fn is_from(&mut self, name: &str, columns: HashSet<String>) {
        intersect(&mut self.certain, name, columns);
    }
}

/// What of a name holds for everything that has it.
fn intersect(certain: &mut HashMap<String, HashSet<String>>, name: &str, columns: HashSet<String>) {
    match certain.get_mut(&name.to_lowercase()) {
        Some(certain) => certain.retain(|column| columns.contains(column)),
        None => {
            certain.insert(name.to_lowercase(), columns);
        }
    }
}

fn columns_of(table: &StoreTable) -> HashSet<String> {
    table.columns.iter().map(|column| column.name.to_lowercase()).collect()
}

/// The columns that an item of a query's list surely gives it.
fn certain_of_item(item: &SelectItem, from: &HashMap<String, HashSet<String>>) -> Vec<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => vec![alias.value.to_lowercase()],
        SelectItem::UnnamedExpr(expr) => {
            implied_name(expr).known().map(str::to_lowercase).into_iter().collect()
        }
        SelectItem::Wildcard(_) => from.values().flatten().cloned().collect(),
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
            from.get(&last_name(name).to_lowercase()).into_iter().flatten().cloned().collect()
        }
        SelectItem::QualifiedWildcard(..) | SelectItem::ExprWithAliases { .. } => Vec::new(),
    }
}

const fn alias_of(table: &TableFactor) -> Option<&TableAlias> {
    match table {
        TableFactor::Table { alias, .. }
        | TableFactor::Derived { alias, .. }
        | TableFactor::Function { alias, .. }
        | TableFactor::TableFunction { alias, .. }
        | TableFactor::UNNEST { alias, .. }
        | TableFactor::NestedJoin { alias, .. } => alias.as_ref(),
        _ => None,
    }
}

fn called_in_from(table: &TableFactor) -> Option<String> {
    match (alias_of(table), table) {
        (Some(alias), _) => Some(alias.name.value.clone()),
        (None, TableFactor::Table { name, .. } | TableFactor::Function { name, .. }) => Some(last_name(name)),
        (None, TableFactor::UNNEST { .. }) => Some("unnest".to_owned()),
        _ => None,
    }
}

/// The names that a list after a table's alias gives to its columns.
fn given_names(alias: Option<&TableAlias>) -> impl Iterator<Item = String> {
    alias.into_iter().flat_map(|alias| &alias.columns).map(|column| column.name.value.clone())
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

pub(super) fn is_between_words(c: char) -> bool {
    !c.is_alphanumeric() && c != '_'
}

/// Learns what the statement's own names carry.
impl Visitor for Names<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let shape = self.query(&cte.query);
            self.rename(Some(&cte.alias), &shape);
            let name = cte.alias.name.value.to_lowercase();
            let certain = if cte.alias.columns.is_empty() {
                self.certain_of_query(&cte.query)
            } else {
                given_names(Some(&cte.alias)).map(|name| name.to_lowercase()).collect()
            };
            intersect(&mut self.certain_of_ctes, &name, certain);
            let shape = Some(shape.renamed_to(given_names(Some(&cte.alias))))
                .filter(|shape| shape.is_exact() && !self.tables.contains_key(name.as_str()));
            self.relations.insert(name);
            let written = cte.alias.name.to_string().to_lowercase();
            let shape = match self.ctes.remove(&written) {
                Some(known) => known.zip(shape).and_then(|(known, shape)| known.either(shape)),
                None => shape,
            };
            self.ctes.insert(written, shape);
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
                Name::Implied { .. } => {}
                Name::Unknown => self.lost |= source > Source::Plain,
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for item in &select.projection {
            let (expr, names) = match item {
                SelectItem::ExprWithAlias { expr, alias } => (expr, vec![alias.value.clone()]),
                SelectItem::UnnamedExpr(expr) => match implied_name(expr) {
                    Name::Implied { names, .. } => (expr, names),
                    Name::Known(_) | Name::Same(_) | Name::Unknown => continue,
                },
                _ => continue,
            };
            let of = unchanged(expr).or_else(|| member(expr)).map(|name| name.to_lowercase());
            for name in names {
                self.give(&name, of.clone());
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            self.givers += usize::from(functions::takes_apart(&last_name(&function.name).to_lowercase()));
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
                    let small = name.to_lowercase();
                    // Rows of one query that is read twice stand beside one another as those of two.
                    if self.certain_of_ctes.contains_key(&small) && !self.reads.insert(small.clone()) {
                        self.is_unpaired = true;
                    }
                    // The columns of a table by other names: which is which is not known here.
                    self.rename(alias.as_ref(), &Shape::unknown());
                    self.relations.insert(small);
                    let certain = self.certain_of(table);
                    self.is_from(alias.as_ref().map_or(&name, |alias| &alias.name.value), certain);
                }
            }
            TableFactor::Derived { subquery, alias, .. } => {
                let shape = self.query(subquery);
                self.rename(alias.as_ref(), &shape);
                if let Some(alias) = alias {
                    self.is_from(&alias.name.value, self.certain_of(table));
                }
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
            TableFactor::NestedJoin { alias, .. } => {
                self.rename(alias.as_ref(), &Shape::unknown());
                if let Some(alias) = alias {
                    self.is_from(&alias.name.value, self.certain_of(table));
                }
            }
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
