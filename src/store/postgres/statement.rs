//! What may be asked of Postgres, decided on the parsed statement.
//!
//! Guarantee: only what was understood runs. The statement is parsed, every relation, function, type and clause in it
//! is looked up in a list of what is allowed, and what is sent is written anew from what was checked and must read
//! the same again, so no difference between two readings of a text can be used. Names of `WITH` count only where they are in
//! scope: nobody reaches another table by naming a query after it.

use std::ops::ControlFlow;

use sqlparser::{
    ast::{
        BinaryOperator, DataType, Expr, Ident, ObjectName, ObjectNamePart, Query, SetExpr, Statement,
        TableFactor, Value, Visit, Visitor, visit_relations_mut,
    },
    dialect::PostgreSqlDialect,
    parser::Parser,
};

use super::{faults::PART, functions::is_allowed_function};
use crate::{
    domain::Catalog,
    fault::Fault,
    store::{readable, refused_statement},
};

/// Longer statements are not people's or assistants' questions.
const LONGEST: usize = 20_000;

/// Names without parentheses that tell of the server.
const TELLING: [&str; 7] = [
    "user",
    "current_user",
    "session_user",
    "current_role",
    "system_user",
    "current_catalog",
    "current_schema",
];

/// Types values may be turned into; those of the catalog would tell its names.
const TYPES: [&str; 31] = [
    "BIGINT",
    "BOOL",
    "BOOLEAN",
    "BPCHAR",
    "CHAR",
    "CHARACTER",
    "CHARACTER VARYING",
    "DATE",
    "DECIMAL",
    "DOUBLE PRECISION",
    "FLOAT",
    "FLOAT4",
    "FLOAT8",
    "INT",
    "INT2",
    "INT4",
    "INT8",
    "INTEGER",
    "INTERVAL",
    "JSON",
    "JSONB",
    "NUMERIC",
    "REAL",
    "SMALLINT",
    "TEXT",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "TIMESTAMP WITH TIME ZONE",
    "TIMESTAMP WITHOUT TIME ZONE",
    "UUID",
];

/// The statement as it may run, or why it may not.
pub(crate) fn checked(sql: &str, catalog: Catalog) -> Result<String, Fault> {
    let refused = |problem: String| refused_statement(PART, catalog, problem);
    let readable = readable(catalog);
    if sql.len() > LONGEST {
        return Err(refused(format!("it is longer than {LONGEST} bytes")));
    }
    let mut statement = parsed(sql).map_err(refused)?;
    if !matches!(statement, Statement::Query(_)) {
        return Err(refused("it does not begin with SELECT or WITH".to_owned()));
    }
    // The schema people write by habit; sluice's tables are found without it.
    let _ = visit_relations_mut(&mut statement, |name| {
        if let [schema, table] = names(name).as_slice()
            && schema == "public"
            && readable.contains(&table.as_str())
        {
            name.0.remove(0);
        }
        ControlFlow::<()>::Continue(())
    });
    if let ControlFlow::Break(problem) =
        statement.visit(&mut Check { readable: &readable, scopes: Vec::new() })
    {
        return Err(refused(problem));
    }
    // The library writes some quotes in texts and names so that the text would end earlier.
    let written = statement.to_string();
    if parsed(&written).as_ref() != Ok(&statement) {
        return Err(refused(
            "a quote in a text stands beside a backslash or another quote; write it as chr(39)".to_owned(),
        ));
    }
    Ok(written)
}

fn parsed(sql: &str) -> Result<Statement, String> {
    let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).map_err(|error| error.to_string())?;
    match (statements.pop(), statements.pop()) {
        (Some(statement), None) => Ok(statement),
        _ => Err("it must be exactly one statement".to_owned()),
    }
}

/// Walks the statement; breaks with what is wrong.
struct Check<'a> {
    /// The tables that may be read.
    readable: &'a [&'static str],
    /// What each enclosing query names in its `WITH`.
    scopes: Vec<Vec<String>>,
}

impl Visitor for Check<'_> {
    type Break = String;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<String> {
        if !query.locks.is_empty() {
            return refuse("FOR UPDATE and FOR SHARE lock rows");
        }
        body(&query.body)?;
        let named: Vec<String> =
            query.with.iter().flat_map(|with| &with.cte_tables).map(|cte| folded(&cte.alias.name)).collect();
        if let Some(with) = query.with.as_ref().filter(|with| !with.recursive) {
            // Without RECURSIVE such a name inside is not the query's, but a table's.
            for (i, cte) in with.cte_tables.iter().enumerate() {
                let mut stray = Reads { of: &named[i..], readable: self.readable };
                cte.query.visit(&mut stray)?;
            }
        }
        self.scopes.push(named);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<String> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<String> {
        match factor {
            TableFactor::Table { name, args: None, .. } => self.relation(name),
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                function(name)
            }
            TableFactor::Derived { .. } | TableFactor::UNNEST { .. } | TableFactor::NestedJoin { .. } => {
                ControlFlow::Continue(())
            }
            _ => refuse("FROM holds something else than tables, subqueries and functions"),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<String> {
        match expr {
            Expr::Function(call) => function(&call.name),
            Expr::Cast { data_type, .. } | Expr::Convert { data_type: Some(data_type), .. } => {
                known_type(data_type)
            }
            Expr::TypedString(typed) => known_type(&typed.data_type),
            Expr::Identifier(name)
                if name.quote_style.is_none() && TELLING.contains(&folded(name).as_str()) =>
            {
                refuse(format!("{name} tells of the server"))
            }
            Expr::BinaryOp { op: BinaryOperator::PGCustomBinaryOperator(_), .. } => {
                refuse("OPERATOR() names an operator of another schema")
            }
            Expr::Value(value) if matches!(value.value, Value::Placeholder(_)) => {
                refuse("it has parameters; write the values into it")
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

impl Check<'_> {
    fn relation(&self, name: &ObjectName) -> ControlFlow<String> {
        if let [table] = names(name).as_slice() {
            let in_scope = self.scopes.iter().flatten().any(|named| named == table);
            if in_scope || self.readable.contains(&table.as_str()) {
                return ControlFlow::Continue(());
            }
        }
        refuse(format!("{name} is not a table that can be read"))
    }
}

/// Finds names that are read although they are not in scope.
struct Reads<'a> {
    of: &'a [String],
    readable: &'a [&'static str],
}

impl Visitor for Reads<'_> {
    type Break = String;

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<String> {
        if let TableFactor::Table { name, args: None, .. } = factor
            && let [table] = names(name).as_slice()
            && self.of.contains(table)
            && !self.readable.contains(&table.as_str())
        {
            return refuse(format!(
                "{table} is read inside of WITH before it is known; write WITH RECURSIVE"
            ));
        }
        ControlFlow::Continue(())
    }
}

/// A query's body is made of SELECT and VALUES only.
fn body(body: &SetExpr) -> ControlFlow<String> {
    match body {
        SetExpr::Select(select) if select.into.is_some() => refuse("SELECT INTO makes a table"),
        SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::Query(_) => ControlFlow::Continue(()),
        SetExpr::SetOperation { left, right, .. } => {
            self::body(left)?;
            self::body(right)
        }
        SetExpr::Table(_) => refuse("TABLE can't be checked; write SELECT * FROM"),
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
            refuse("it would change something")
        }
    }
}

fn function(name: &ObjectName) -> ControlFlow<String> {
    let allowed = match names(name).as_slice() {
        [function] => is_allowed_function(function),
        [schema, function] => schema == "pg_catalog" && is_allowed_function(function),
        _ => false,
    };
    if allowed {
        return ControlFlow::Continue(());
    }
    refuse(format!(
        "the function {name} is not among those that only compute; aggregates, window functions and those of text, \
         numbers, times and json are"
    ))
}

fn known_type(data_type: &DataType) -> ControlFlow<String> {
    let spelled = data_type.to_string().to_uppercase();
    // Without lengths, precisions and brackets: VARCHAR(9)[] is VARCHAR.
    let mut name = String::new();
    let mut depth = 0_u32;
    for character in spelled.chars() {
        match character {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            _ if depth == 0 => name.push(character),
            _ => {}
        }
    }
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    if name == "VARCHAR" || TYPES.contains(&name.as_str()) {
        return ControlFlow::Continue(());
    }
    refuse(format!("nothing can be turned into {spelled} here"))
}

fn refuse<T>(problem: impl Into<String>) -> ControlFlow<String, T> {
    ControlFlow::Break(problem.into())
}

/// The parts of a name as Postgres reads them; what is no plain name becomes one that nothing has.
fn names(name: &ObjectName) -> Vec<String> {
    let part = |part: &ObjectNamePart| part.as_ident().map_or_else(|| "\0".to_owned(), folded);
    name.0.iter().map(part).collect()
}

fn folded(name: &Ident) -> String {
    if name.quote_style.is_none() { name.value.to_lowercase() } else { name.value.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(sql: &str) -> String {
        match checked(sql, Catalog::built_in()) {
            Ok(statement) => panic!("allowed: {statement}"),
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn reading_in_every_way_people_read_is_allowed() {
        for sql in [
            "SELECT count(*) FROM leads;",
            "select * from public.leads l join chat_sessions c on c.lead_id = l.id::text -- all",
            "WITH leads AS (SELECT * FROM leads WHERE score_qualificacao > 50) SELECT * FROM leads",
            "WITH a AS (SELECT 1 AS n), b AS (SELECT n + 1 AS n FROM a) SELECT * FROM b",
            "WITH RECURSIVE d(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM d WHERE n < 7) SELECT n FROM d",
            "SELECT a.evento, (SELECT max(valor) FROM eventos_raw e WHERE e.evento = a.evento) FROM eventos_agregados a",
            "SELECT evento, row_number() OVER (PARTITION BY categoria ORDER BY \"timestamp\" DESC) FROM eventos_raw",
            "SELECT metadata->>'nome', dados #>> '{localizacao,cidade}', metadata ? 'empresa' FROM eventos_raw",
            "SELECT count(*) FILTER (WHERE valor > 50), percentile_cont(0.5) WITHIN GROUP (ORDER BY valor) FROM eventos_raw",
            "SELECT date_trunc('day', \"timestamp\" AT TIME ZONE 'America/Sao_Paulo'), extract(hour FROM \"timestamp\") \
             FROM eventos_raw WHERE \"timestamp\" > now() - interval '7 days' GROUP BY 1, 2 HAVING count(*) > 1",
            "SELECT d::date FROM generate_series(timestamp '2026-01-01', timestamp '2026-01-31', interval '1 day') AS d",
            "SELECT l.nome, i FROM leads l, unnest(l.interesse) AS i",
            "SELECT x.* FROM leads l CROSS JOIN LATERAL jsonb_each_text(l.metadata) AS x(k, v)",
            "SELECT CASE WHEN valor >= 50 THEN 'a' ELSE 'b' END, coalesce(usuario, 'x') FROM eventos_raw ORDER BY 1 NULLS LAST LIMIT 5 OFFSET 2",
            "SELECT id FROM leads EXCEPT SELECT entidade_id FROM eventos_raw",
            "SELECT DISTINCT ON (entidade_id) * FROM eventos_raw ORDER BY entidade_id, versao DESC",
            "SELECT cast(valor AS numeric(10, 2)), '{1,2}'::int[], 'x'::varchar(3) FROM eventos_raw",
            "VALUES (1, 'a'), (2, 'b')",
            r#"SELECT 'd''água', E'a\nb\'c', $$a'b$$, 'C:\x', '', nome AS "um ""nome"" só" FROM leads"#,
            "SELECT count(*) OVER w FROM leads WINDOW w AS (PARTITION BY origem ORDER BY created_at)",
            "SELECT array(SELECT nome FROM leads), ARRAY[1, 2], (ARRAY[1, 2])[1], nome = ANY('{a,b}'::text[]) FROM leads",
            "SELECT origem, count(*) FROM leads GROUP BY ROLLUP (origem) ORDER BY grouping(origem)",
            "SELECT substring(nome FROM 1 FOR 3), trim(both ' ' FROM nome), position('a' IN nome), nome ~* '^a' FROM leads",
            "SELECT * FROM leads l LEFT JOIN chat_sessions c USING (id) WHERE l.nome ILIKE '%ana%' FETCH FIRST 3 ROWS ONLY",
            "SELECT sum(valor) FROM eventos_raw WHERE (evento, categoria) IN (SELECT evento, categoria FROM eventos_agregados)",
            "SELECT nome COLLATE \"C\", age(created_at), created_at::date - interval '1' month FROM leads",
            "SELECT (metadata->'x'->>0)::int, dados @> '{\"a\": 1}', dados - 'a', dados || '{}' FROM eventos_raw",
        ] {
            if let Err(fault) = checked(sql, Catalog::built_in()) {
                panic!("{sql}: {fault}");
            }
        }
    }

    #[test]
    fn other_tables_are_refused_however_they_are_named() {
        for sql in [
            "SELECT * FROM pg_shadow",
            "SELECT * FROM pg_catalog.pg_authid",
            "SELECT * FROM information_schema.tables",
            "SELECT * FROM sluice_syncs",
            "SELECT * FROM \"Leads\"",
            "SELECT * FROM outro.leads",
            "SELECT * FROM leads, LATERAL (SELECT * FROM pg_stat_activity) s",
            "SELECT (SELECT count(*) FROM pg_class)",
            "SELECT * FROM leads WHERE EXISTS (SELECT FROM pg_roles)",
            "WITH pg_shadow AS (SELECT * FROM pg_shadow) SELECT * FROM pg_shadow",
            "WITH a AS (SELECT * FROM pg_user), pg_user AS (SELECT 1) SELECT * FROM a",
            "SELECT * FROM pg_shadow WHERE EXISTS (WITH pg_shadow AS (SELECT 1) SELECT 1)",
            "SELECT * FROM (WITH pg_shadow AS (SELECT 1) SELECT * FROM pg_shadow) a, pg_shadow",
            "TABLE pg_shadow",
            "SELECT 1 UNION ALL (TABLE pg_shadow)",
            "SELECT * FROM leads UNION SELECT * FROM pg_tables",
        ] {
            let problem = problem(sql);
            assert!(problem.contains("eventos_agregados"), "{sql}: {problem}");
        }
    }

    #[test]
    fn what_reaches_out_waits_locks_or_changes_is_refused() {
        for sql in [
            "SELECT pg_read_file('/etc/passwd')",
            "SELECT * FROM pg_ls_dir('/')",
            "SELECT lo_import('/etc/passwd')",
            "SELECT * FROM dblink('host=evil', 'SELECT 1') AS t(a int)",
            "SELECT pg_sleep(100)",
            "SELECT pg_catalog.pg_sleep(100)",
            "SELECT PG_SLEEP(100)",
            "SELECT \"pg_sleep\"(100)",
            "SELECT set_config('statement_timeout', '0', false)",
            "SELECT current_setting('data_directory')",
            "SELECT pg_terminate_backend(1)",
            "SELECT pg_advisory_lock(1)",
            "SELECT query_to_xml('SELECT * FROM pg_shadow', true, true, '')",
            "SELECT nextval('x')",
            "SELECT version()",
            "SELECT current_user",
            "SELECT user",
            "SELECT 1259::regclass",
            "SELECT '1259'::oid::regclass::text",
            "SELECT CAST(1259 AS regclass)",
            "SELECT regclass '1259'",
            "SELECT count(*) FROM leads WHERE id IN (SELECT id FROM leads ORDER BY pg_sleep(1))",
            "SELECT count(*) OVER (ORDER BY pg_sleep(1)) FROM leads",
            "SELECT count(*) FILTER (WHERE pg_sleep(1) IS NULL) FROM leads",
            "SELECT * FROM leads LIMIT (SELECT pg_sleep(1)::text::int)",
            "SELECT 1 OPERATOR(public.+) 1",
            "SELECT * FROM leads FOR UPDATE",
            "SELECT * INTO novo FROM leads",
            "WITH x AS (DELETE FROM leads RETURNING *) SELECT * FROM x",
            "DELETE FROM leads",
            "COPY leads TO PROGRAM 'sh'",
            "EXPLAIN ANALYZE SELECT 1",
            "SET statement_timeout = 0",
            r"SELECT '\'' , pg_read_file($$/etc/passwd$$) --'",
            r#"SELECT 1 AS "\"" , pg_read_file($$/etc/passwd$$) --""#,
            "SELECT 'a'''' || pg_sleep(1) || '''",
            "SELECT array(SELECT usename FROM pg_shadow)",
            "SELECT 'a' = ANY (SELECT usename FROM pg_shadow)",
            "SELECT (ARRAY[1])[pg_sleep(1)::text::int]",
            "SELECT ARRAY[pg_sleep(1)]",
            "SELECT count(*) OVER w FROM leads WINDOW w AS (ORDER BY pg_sleep(1))",
            "SELECT string_agg(nome, ',' ORDER BY pg_sleep(1)) FROM leads",
            "SELECT mode() WITHIN GROUP (ORDER BY pg_sleep(1)) FROM leads",
            "SELECT * FROM leads a JOIN leads b ON pg_sleep(1) IS NULL",
            "SELECT DISTINCT ON (pg_sleep(1)) * FROM leads",
            "SELECT 1 FROM leads GROUP BY pg_sleep(1)",
            "SELECT 1 FROM leads GROUP BY ROLLUP (pg_sleep(1))",
            "SELECT 1 FROM leads HAVING pg_sleep(1) IS NULL",
            "SELECT 1 FROM generate_series(1, pg_sleep(1)::text::int)",
            "SELECT 1 FROM unnest(ARRAY[pg_sleep(1)])",
            "SELECT 1 FROM ROWS FROM (pg_ls_dir('/'))",
            "VALUES (pg_sleep(1))",
            "SELECT substring(pg_read_file('a') FROM 1), trim(pg_read_file('a'))",
            "SELECT extract(day FROM pg_postmaster_start_time())",
            "SELECT CASE pg_sleep(1) WHEN NULL THEN 1 END",
            "SELECT nome FROM leads OFFSET pg_sleep(1)::text::int",
            "SELECT xmltable.* FROM xmltable('/a' PASSING pg_read_file('a')::xml COLUMNS a text)",
            "SELECT * FROM json_table(pg_read_file('a')::jsonb, '$' COLUMNS (a text PATH '$'))",
            "SELECT 'x'::leads",
            "SELECT '{1259}'::regclass[]",
            "SELECT ARRAY[1259]::regclass[]",
            "SELECT repeat('x', 1000000000)",
            "SELECT 1; SELECT 2",
            "SELECT $1",
            "",
        ] {
            problem(sql);
        }
    }
}
