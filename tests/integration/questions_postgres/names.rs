//! Whether the check resolves names as Postgres does.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use sluice::{
    fuzzing,
    store::{Questions as _, Readable},
};
use sqlx::Executor as _;

use super::{LIMITS, migrated};

/// Statements to make up.
const STATEMENTS: usize = 4_000;

/// The column that some sources have and others do not. No function has its name, so that Postgres refuses a
/// statement which would have called it.
const COLUMN: &str = "gato";

/// What sources may be called.
const NAMES: [&str; 6] = ["a", "b", "c", "com", "sem", COLUMN];

/// Makes up statements with few names that mean many things.
struct Author {
    random: StdRng,
    /// What the sources around the place are called, the innermost last.
    scope: Vec<&'static str>,
    /// What the queries of `WITH` around it are called.
    queries: Vec<&'static str>,
}

impl Author {
    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random.random_range(0..choices.len())]
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    /// A column's name, that in question more often than others.
    fn column(&mut self) -> &'static str {
        self.one_of(&["n", "m", COLUMN, COLUMN])
    }

    fn query(&mut self, depth: u32) -> String {
        let (mut text, known) = (String::new(), self.queries.len());
        if depth > 0 && self.chance(30) {
            text += if self.chance(30) { "WITH RECURSIVE " } else { "WITH " };
            let (name, query) = (self.one_of(&NAMES), self.query(depth - 1));
            text = format!("{text}{name}{} AS ({query}) ", self.columns());
            self.queries.push(name);
        }
        text += &self.select(depth);
        if self.chance(10) {
            text.push_str(" UNION ALL ");
            text.push_str(&self.select(0));
        }
        self.queries.truncate(known);
        text
    }

    fn select(&mut self, depth: u32) -> String {
        let outside = self.scope.len();
        let from = self.from(depth);
        let items: Vec<String> = (0..2).map(|_| self.item(depth)).collect();
        let mut text = format!("SELECT {} FROM {from}", items.join(", "));
        if self.chance(30) {
            text = format!("{text} WHERE {} IS NULL", self.expression(depth));
        }
        self.scope.truncate(outside);
        text
    }

    fn item(&mut self, depth: u32) -> String {
        if self.chance(10) {
            return "*".to_owned();
        }
        let expression = self.expression(depth);
        if self.chance(60) { format!("{expression} AS {}", self.column()) } else { expression }
    }

    fn expression(&mut self, depth: u32) -> String {
        // The innermost sources more often than others, and now and then one that is nowhere.
        let near = self.scope[self.scope.len().saturating_sub(2)..].to_vec();
        let source = match self.random.random_range(0..100) {
            0..60 if !near.is_empty() => self.one_of(&near),
            0..95 if !near.is_empty() => self.one_of(&self.scope.clone()),
            _ => self.one_of(&NAMES),
        };
        match self.random.random_range(0..10) {
            0..=6 => format!("{source}.{}", self.column()),
            7 if depth > 0 => format!("(SELECT count(*) FROM ({}) AS z)", self.query(depth - 1)),
            8 if depth > 0 => format!("EXISTS ({})", self.query(depth - 1)),
            _ => "1".to_owned(),
        }
    }

    fn from(&mut self, depth: u32) -> String {
        let mut text = self.source(depth);
        for _ in 0..self.one_of(&[0, 0, 1, 2]) {
            let source = self.source(depth);
            text = match self.random.random_range(0..3) {
                0 => format!("{text}, {source}"),
                1 => format!("{text} CROSS JOIN {source}"),
                _ => format!("{text} JOIN {source} ON {} IS NULL", self.expression(0)),
            };
        }
        text
    }

    fn source(&mut self, depth: u32) -> String {
        let outside = self.scope.len();
        let (text, named) = match self.random.random_range(0..10) {
            0..=2 => (self.one_of(&["com", "sem", "public.com", "com"]).to_owned(), true),
            3 | 4 if !self.queries.is_empty() => (self.one_of(&self.queries.clone()).to_owned(), true),
            5 => (self.one_of(&["unnest(ARRAY[1])", "jsonb_array_elements_text('[]')"]).to_owned(), false),
            6 if depth > 0 => (format!("({} CROSS JOIN {})", self.source(0), self.source(0)), false),
            7 if depth > 0 => (format!("LATERAL ({})", self.query(depth - 1)), false),
            8 | 9 if depth > 0 => (format!("({})", self.query(depth - 1)), false),
            _ => ("com".to_owned(), true),
        };
        if named && self.chance(40) {
            let name = text.trim_start_matches("public.");
            self.scope.extend(NAMES.iter().find(|known| **known == name));
            return text;
        }
        let alias = self.one_of(&NAMES);
        self.scope.truncate(outside);
        self.scope.push(alias);
        format!("{text} AS {alias}{}", self.columns())
    }

    fn columns(&mut self) -> String {
        match self.random.random_range(0..10) {
            0 => format!("({})", self.column()),
            1 => format!("(n, {COLUMN})"),
            _ => String::new(),
        }
    }
}

#[tokio::test]
async fn what_passes_as_a_column_is_one_to_postgres() {
    let (database, _store) = migrated().await;
    database.execute("CREATE TABLE com (n int, gato int); CREATE TABLE sem (n int, m int)").await;
    let table = |name: &str, columns: [&str; 2]| (name.to_owned(), columns.map(str::to_owned).to_vec());
    let readable = Readable::new([table("com", ["n", COLUMN]), table("sem", ["n", "m"])]);
    let mut connection = database.connection().await;
    connection.execute("SET search_path = pg_catalog").await.expect("set");
    let mut author = Author { random: StdRng::seed_from_u64(10), scope: Vec::new(), queries: Vec::new() };
    let (mut certain, mut resolved) = (0, 0);
    for _ in 0..STATEMENTS {
        let text = author.query(3);
        let Some(passed) = fuzzing::passed_sql(&text, &readable) else { continue };
        // Of such a name the server would be asked.
        if passed.attributes.contains(COLUMN) {
            continue;
        }
        certain += usize::from(passed.sql.contains(&format!(".\"{COLUMN}\"")));
        let Err(error) = connection.prepare(&passed.sql).await else {
            resolved += usize::from(passed.sql.contains(&format!(".\"{COLUMN}\"")));
            continue;
        };
        let message = error.to_string();
        let called = message.contains(&format!(".{COLUMN} does not exist"))
            || message.contains("column notation")
            || message.contains("not found in data type")
            || message.contains("could not identify column")
            || message.contains("function");
        assert!(!called, "{message}\n{text}\n{}", passed.sql);
    }
    assert!(certain > STATEMENTS / 40 && resolved > STATEMENTS / 80, "{certain} had it, {resolved} ran");
}

#[tokio::test]
async fn a_name_behind_a_dot_runs_only_where_it_can_be_nothing_but_a_column() {
    let (_database, store) = migrated().await;
    for (sql, named) in [
        ("SELECT x.pg_sleep FROM unnest(ARRAY[20::float8]) AS x", "pg_sleep"),
        ("SELECT s.pg_read_file FROM unnest(ARRAY['/etc/passwd']) AS s", "pg_read_file"),
        ("SELECT (s).query_to_xml FROM unnest(ARRAY['x']) AS s", ""),
        (
            "SELECT s.ts_stat FROM unnest(ARRAY['SELECT to_tsvector(relname::text) FROM pg_class']) AS s",
            "ts_stat",
        ),
        ("SELECT s.pg_advisory_lock FROM unnest(ARRAY[7::bigint]) AS s", "pg_advisory_lock"),
        ("SELECT (1259).regclass", "regclass"),
        ("SELECT x.regclass FROM unnest(ARRAY[1259]) AS x", "regclass"),
        ("SELECT l.pg_column_size FROM leads l", "pg_column_size"),
        ("SELECT leads.pg_typeof FROM leads", "pg_typeof"),
        ("SELECT x.lo_get FROM unnest(ARRAY[1]) AS x", "lo_get"),
        ("SELECT x.current_setting FROM unnest(ARRAY['data_directory']) AS x", "current_setting"),
        ("SELECT x.pg_notify FROM unnest(ARRAY['a']) AS x", ""),
    ] {
        let fault = store.query(sql, LIMITS).await.expect_err(sql);
        assert!(fault.message.starts_with("sql: "), "{sql}: {fault}");
        assert!(
            fault.message.contains(&format!("as the function {named}()")) || named.is_empty(),
            "{sql}: {fault}"
        );
    }
    // A name that is neither function nor type, or whose function only computes, or that is a column for certain.
    for (sql, expected) in [
        ("SELECT x.key, x.value FROM jsonb_each('{\"a\": 1}') AS x", json!([["a", 1]])),
        ("SELECT (jsonb_each('{\"a\": 1}')).key", json!([["a"]])),
        ("SELECT (x).key FROM jsonb_each('{\"a\": 1}') AS x", json!([["a"]])),
        ("SELECT x.length FROM unnest(ARRAY['abc']) AS x", json!([[3]])),
        ("SELECT x.current_setting FROM (SELECT 1 AS current_setting) AS x", json!([[1]])),
        ("SELECT (array_agg(x ORDER BY x.valor))[2].valor FROM (VALUES (3), (2)) AS x(valor)", json!([])),
    ] {
        match store.query(sql, LIMITS).await {
            Ok(answer) => assert_eq!(json!(answer.rows), expected, "{sql}"),
            // Of an unnamed row type Postgres itself can't tell the columns.
            Err(fault) => {
                assert!(expected == json!([]) && fault.message.contains("record"), "{sql}: {fault}");
            }
        }
    }
}

/// Asks the server's catalog of every function that is allowed: none writes, waits, reads tables, files or settings.
#[tokio::test]
async fn every_allowed_function_only_computes() {
    let (database, _store) = migrated().await;
    let mut connection = database.connection().await;
    let all: Vec<(String, String)> = sqlx::query_as(
        "SELECT proname::text, proname || '(' || pg_get_function_arguments(oid) || ') ' || provolatile::text || ' '
                || (SELECT lanname FROM pg_language AS l WHERE l.oid = prolang)
         FROM pg_proc
         WHERE pronamespace = 'pg_catalog'::regnamespace
           AND (provolatile = 'v' OR prosecdef OR proargtypes::oid[] && ARRAY[
                'regclass'::regtype, 'regproc'::regtype, 'regtype'::regtype, 'regrole'::regtype, 'regnamespace'::regtype,
                'oid'::regtype, 'internal'::regtype, 'cstring'::regtype]::oid[])
         ORDER BY 1, 2",
    )
    .fetch_all(&mut connection)
    .await
    .expect("the catalog");
    // A clock, dice, the least and largest of some numbers, and what PostgreSQL 14 called volatile.
    let harmless = ["clock_timestamp", "gen_random_uuid", "random", "min", "max", "timezone"];
    let doubtful: Vec<&str> = all
        .iter()
        .filter(|(name, _)| fuzzing::is_allowed_function(name) && !harmless.contains(&name.as_str()))
        .map(|(_, signature)| signature.as_str())
        .collect();
    assert!(all.len() > 100 && doubtful.is_empty(), "{doubtful:?}");
}
