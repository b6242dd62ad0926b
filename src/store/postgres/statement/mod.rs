//! What may be asked of Postgres, decided on the parsed statement.
//!
//! Guarantee: only what was understood runs. The statement is parsed; every clause, expression, function and type in
//! it is looked up in a list of what is allowed ([`vocabulary`]), every name is resolved ([`names`]), and what is sent
//! is written anew from what was checked and must read the same again, so no difference between two readings of a
//! text can be used. This is the first of three walls; the login that questions run under and the session's settings
//! are the others.

mod costs;
mod functions;
mod names;
mod vocabulary;
mod ways;

use std::{collections::BTreeSet, ops::ControlFlow};

use sqlparser::{
    ast::{Ident, ObjectName, ObjectNamePart, Statement},
    dialect::PostgreSqlDialect,
    parser::Parser,
};

pub(crate) use self::functions::{is_allowed_function, is_allowed_type};
use self::{
    names::{Names, Sources},
    vocabulary::Vocabulary,
};
use crate::{
    sql_walk::{walk, walk_mut},
    store::Readable,
};

/// Longer statements are not people's or assistants' questions.
const MAX_STATEMENT_BYTES: usize = 20_000;

/// Enough for the deepest statement of that length.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Nor could the protocol tell where such a statement ends.
const HOLDS_NUL: &str = "it holds a character NUL, which no text of PostgreSQL has";

/// What is told where the parser itself failed.
pub(super) const CRASHED: &str = "it can't be read";

/// A statement that may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Written anew. It means what was checked where the search path is `pg_catalog` alone.
    pub sql: String,
    /// Names behind a dot. The statement must not run where one of them is a function of one argument or a type: it
    /// would be called if there is no such column.
    pub attributes: BTreeSet<String>,
}

/// The statement as it may run, or why it may not. `schema` is where the readable tables are.
pub(crate) fn checked(sql: &str, readable: &Readable, schema: &str) -> Result<Checked, String> {
    if sql.len() > MAX_STATEMENT_BYTES {
        return Err(format!("it is longer than {MAX_STATEMENT_BYTES} bytes"));
    }
    if sql.contains('\0') {
        return Err(HOLDS_NUL.to_owned());
    }
    // `1+1+1…` is a tree as deep as it is long, and whatever walks it, its destructor too, goes down all the way.
    std::thread::scope(|scope| {
        let check = || check(sql, readable, schema).map_err(|problem| ways::with_way(problem, sql));
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, check);
        let outcome = thread.map(std::thread::ScopedJoinHandle::join);
        outcome.map_or_else(
            |error| Err(error.to_string()),
            |joined| joined.unwrap_or_else(|_| Err(CRASHED.to_owned())),
        )
    })
}

fn check(sql: &str, readable: &Readable, schema: &str) -> Result<Checked, String> {
    let mut statement = parsed(sql)?;
    if !matches!(statement, Statement::Query(_)) {
        return Err("it does not begin with SELECT or WITH".to_owned());
    }
    let sources = Sources::of(&statement, readable);
    let mut names = Names::new(readable, schema, sources);
    if let ControlFlow::Break(problem) = walk(&statement, &mut Vocabulary) {
        return Err(problem);
    }
    if let ControlFlow::Break(problem) = costs::bounded(&statement, readable) {
        return Err(problem);
    }
    if let ControlFlow::Break(problem) = walk_mut(&mut statement, &mut names) {
        return Err(problem);
    }
    // The library writes some quotes in names so that the name would end earlier.
    let written = statement.to_string();
    // An escape may stand for one.
    if written.contains('\0') {
        return Err(HOLDS_NUL.to_owned());
    }
    if parsed(&written).as_ref() != Ok(&statement) {
        return Err("it can't be written so that it reads the same again; avoid quotes in names".to_owned());
    }
    Ok(Checked { sql: written, attributes: names.into_attributes() })
}

fn parsed(sql: &str) -> Result<Statement, String> {
    let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).map_err(|error| error.to_string())?;
    match (statements.pop(), statements.pop()) {
        (Some(statement), None) => Ok(statement),
        _ => Err("it must be exactly one statement".to_owned()),
    }
}

fn refuse<T>(problem: impl Into<String>) -> ControlFlow<String, T> {
    ControlFlow::Break(problem.into())
}

/// The parts of a name as Postgres reads them; what is no plain name becomes one that nothing has.
fn folded_names(name: &ObjectName) -> Vec<String> {
    let part = |part: &ObjectNamePart| part.as_ident().map_or_else(|| "\0".to_owned(), folded);
    name.0.iter().map(part).collect()
}

/// A name as Postgres folds it: letters beyond ASCII keep their case.
fn folded(name: &Ident) -> String {
    if name.quote_style.is_none() { name.value.to_ascii_lowercase() } else { name.value.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Catalog;

    fn allowed(sql: &str) -> Result<Checked, String> {
        checked(sql, &Readable::of(Catalog::built_in()), "public")
    }

    fn problem(sql: &str) -> String {
        match allowed(sql) {
            Ok(statement) => panic!("allowed: {}", statement.sql),
            Err(problem) => problem,
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
            r"SELECT 'it''s ''quoted''', E'\\\'', '\', E'\'' || '''x''', timestamp '2026-01-01'",
            "SELECT 'a$$b''$t$', 'it''s $', 'c''$t'",
            "SELECT (metadata->'x'->>0)::int, dados @> '{\"a\": 1}', dados - 'a', dados || '{}' FROM eventos_raw",
        ] {
            if let Err(fault) = allowed(sql) {
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
            problem(sql);
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
            r#"SELECT 1 AS "\"" , pg_read_file($$/etc/passwd$$) --""#,
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
            "SELECT X'OPR'",
            "SELECT B'1', N'a'",
            "",
        ] {
            problem(sql);
        }
    }

    /// The names behind dots that the server must be asked about.
    fn attributes(sql: &str) -> Vec<String> {
        match allowed(sql) {
            Ok(checked) => checked.attributes.into_iter().collect(),
            Err(problem) => panic!("{sql}: {problem}"),
        }
    }

    #[test]
    fn a_name_behind_a_dot_that_may_be_a_function_is_never_let_pass_unasked() {
        for sql in [
            "SELECT x.pg_sleep FROM unnest(ARRAY[20::float8]) AS x",
            "SELECT X.PG_SLEEP FROM unnest(ARRAY[20::float8]) AS x",
            "SELECT x.\"pg_sleep\" FROM unnest(ARRAY[20::float8]) AS x",
            "SELECT (x).pg_sleep FROM unnest(ARRAY[20::float8]) AS x",
            "SELECT (20::float8).pg_sleep",
            "SELECT (ARRAY[20::float8])[1].pg_sleep",
            "SELECT x[1].pg_sleep FROM (SELECT ARRAY[20::float8]) AS y(x)",
            "SELECT y.x[1].pg_sleep FROM (SELECT ARRAY[20::float8]) AS y(x)",
            "SELECT leads.interesse[1].pg_sleep FROM leads",
            "SELECT public.leads.pg_sleep[1] FROM leads",
            "SELECT x.pg_sleep[1] FROM unnest(ARRAY[20::float8]) AS x",
            "SELECT (SELECT 20::float8).pg_sleep",
            "SELECT (CASE WHEN true THEN 20::float8 END).pg_sleep",
            "SELECT (max(x.a)).pg_sleep FROM (VALUES (1)) AS x(a)",
            "SELECT 1 FROM unnest(ARRAY[20::float8]) AS x ORDER BY x.pg_sleep",
            "SELECT 1 FROM unnest(ARRAY[20::float8]) AS x GROUP BY x.pg_sleep",
            "SELECT 1 FROM unnest(ARRAY[20::float8]) AS x WHERE x.pg_sleep IS NULL",
            "SELECT 1 FROM unnest(ARRAY[20::float8]) AS x HAVING max(x.pg_sleep) IS NULL",
            "SELECT 1 FROM unnest(ARRAY[20::float8]) AS x LIMIT (SELECT x.pg_sleep)",
            "SELECT DISTINCT ON (x.pg_sleep) 1 FROM unnest(ARRAY[20::float8]) AS x",
            "SELECT count(*) OVER (ORDER BY x.pg_sleep) FROM unnest(ARRAY[20::float8]) AS x",
            "SELECT count(*) OVER w FROM unnest(ARRAY[20::float8]) AS x WINDOW w AS (PARTITION BY x.pg_sleep)",
            "SELECT count(*) FILTER (WHERE x.pg_sleep IS NULL) FROM unnest(ARRAY[20::float8]) AS x",
            "SELECT string_agg('a', 'b' ORDER BY x.pg_sleep) FROM unnest(ARRAY[20::float8]) AS x",
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x.pg_sleep) FROM unnest(ARRAY[20::float8]) AS x",
            "SELECT coalesce(x.pg_sleep) FROM unnest(ARRAY[20::float8]) AS x",
            "SELECT make_interval(days => x.pg_sleep) FROM unnest(ARRAY[20::float8]) AS x",
            "SELECT ARRAY[x.pg_sleep] FROM unnest(ARRAY[20::float8]) AS x",
            "SELECT ROW(x.pg_sleep) FROM unnest(ARRAY[20::float8]) AS x",
            "SELECT (ARRAY[1])[x.pg_sleep] FROM unnest(ARRAY[20::float8]) AS x",
            "SELECT x.pg_sleep::text FROM unnest(ARRAY[20::float8]) AS x",
            "SELECT extract(day FROM x.pg_sleep) FROM unnest(ARRAY[20::float8]) AS x",
            "SELECT * FROM unnest(ARRAY[20::float8]) AS x JOIN leads l ON x.pg_sleep IS NULL",
            "SELECT * FROM unnest(ARRAY[20::float8]) AS x, LATERAL (SELECT x.pg_sleep) AS y",
            "SELECT * FROM unnest(ARRAY[20::float8]) AS x, generate_series(1, x.pg_sleep) AS y",
            "SELECT (SELECT x.pg_sleep) FROM unnest(ARRAY[20::float8]) AS x",
            "WITH y AS (SELECT x.pg_sleep FROM unnest(ARRAY[20::float8]) AS x) SELECT 1 FROM y",
            "WITH RECURSIVE y AS (SELECT 1 UNION ALL SELECT x.pg_sleep FROM unnest(ARRAY[1]) AS x) SELECT 1 FROM y",
            "VALUES ((SELECT x.pg_sleep FROM unnest(ARRAY[20::float8]) AS x))",
            "SELECT 1 UNION SELECT x.pg_sleep FROM unnest(ARRAY[20::float8]) AS x",
            "SELECT 1 FROM leads WHERE id IN (SELECT x.pg_sleep FROM unnest(ARRAY[20::float8]) AS x)",
            "SELECT 1 FROM unnest(ARRAY[20::float8]) AS x GROUP BY ROLLUP (x.pg_sleep)",
            "SELECT pg_sleep.pg_sleep FROM unnest(ARRAY[20::float8]) AS pg_sleep",
            "SELECT pg_sleep.pg_sleep FROM jsonb_array_elements_text('[]') AS pg_sleep",
            "SELECT public.leads.pg_sleep FROM leads",
            // The column is another's, or no longer there.
            "SELECT (SELECT 1 FROM (SELECT 1) a JOIN (SELECT 2) b ON x.pg_sleep IS NULL, (SELECT 1 AS pg_sleep) x) \
             FROM unnest(ARRAY[20::float8]) AS x",
            "SELECT x.pg_sleep FROM (SELECT 1 AS pg_sleep) AS x(y)",
            "SELECT x.pg_sleep FROM ((SELECT 1 AS pg_sleep) AS y CROSS JOIN leads) AS x",
            "WITH x AS (SELECT 1 AS pg_sleep) SELECT x.pg_sleep FROM x AS x(y)",
            "WITH x AS (SELECT 1 AS pg_sleep), y AS (WITH x AS (SELECT 2) SELECT x.pg_sleep FROM x) SELECT 1 FROM y, x",
            "WITH x(y) AS (SELECT 1 AS pg_sleep) SELECT x.pg_sleep FROM x",
            "SELECT x.pg_sleep FROM (SELECT 1 UNION SELECT 2 AS pg_sleep) AS x",
            "WITH x AS (SELECT 1 AS pg_sleep), y AS (SELECT * FROM x), z AS (WITH x AS (SELECT 2) SELECT * FROM x) SELECT z.pg_sleep FROM z",
            "WITH x AS (SELECT 1 AS pg_sleep), y AS (SELECT * FROM x AS x(a)) SELECT y.pg_sleep FROM y",
            "SELECT x.pg_sleep FROM (SELECT *, 1 FROM (SELECT 1 AS pg_sleep) AS z) AS x",
            "SELECT x.pg_sleep FROM leads AS x WHERE EXISTS (SELECT 1 FROM (SELECT 1 AS pg_sleep) AS x)",
            "SELECT \"X\".pg_sleep FROM unnest(ARRAY[20::float8]) AS \"X\", (SELECT 1 AS pg_sleep) AS x",
        ] {
            assert_eq!(attributes(sql), ["pg_sleep"], "{sql}");
        }
        for sql in [
            "SELECT a.public.leads.nome FROM leads",
            "SELECT a.b.c[1].d FROM leads",
            "SELECT pg_catalog.pg_class.relname[1] FROM leads",
            "SELECT pg_catalog.pg_class.relname FROM leads",
            "SELECT outro.leads.nome FROM leads",
            "SELECT pg_catalog.pg_class.* FROM leads",
            "SELECT count(pg_catalog.pg_class.*) FROM leads",
            "SELECT (l).pg_sleep() FROM leads l",
            "SELECT 1 FROM leads l JOIN leads m USING (id) AS x",
            "SELECT 1 FROM leads ORDER BY 1 USING <",
            "SELECT 1 FROM leads TABLESAMPLE system(1)",
            "SELECT * FROM ROWS FROM (generate_series(1, 2)) AS x",
        ] {
            problem(sql);
        }
    }

    #[test]
    fn a_column_that_is_there_for_certain_needs_no_question() {
        for sql in [
            "SELECT l.nome, l.score_qualificacao FROM leads l",
            "SELECT leads.nome, public.leads.email FROM public.leads",
            "SELECT e.\"timestamp\", e.valor FROM eventos_raw AS e ORDER BY e.posicao",
            "SELECT x.version, x.max FROM (SELECT nome AS version, max(id) FROM leads GROUP BY 1) AS x",
            "WITH x AS (SELECT nome AS version FROM leads) SELECT y.version FROM x AS y",
            "WITH x(version) AS (SELECT nome FROM leads) SELECT x.version FROM x WHERE x.version IS NULL",
            "SELECT x.version FROM jsonb_each('{}') AS x(version, host)",
            "SELECT x.version FROM leads AS x(version)",
            "SELECT x.version FROM (SELECT version FROM (VALUES (1)) AS v(version)) AS x",
            "SELECT x.length, x.text, x.count FROM unnest(ARRAY['a']) AS x",
            "WITH a AS (SELECT nome AS version FROM leads), b AS (SELECT * FROM a), c AS (SELECT b.* FROM b)
             SELECT b.version, c.version FROM b, c",
            "WITH a AS (SELECT nome AS version FROM leads) SELECT x.version, x.email FROM (SELECT * FROM a, leads) AS x",
        ] {
            assert!(attributes(sql).is_empty(), "{sql}: {:?}", attributes(sql));
        }
        assert_eq!(attributes("SELECT (jsonb_each(dados)).key, l.ctid FROM leads l"), ["ctid", "key"]);
    }

    #[test]
    fn what_runs_names_its_tables_in_full_and_its_columns_in_quotes() {
        for (sql, expected) in [
            ("SELECT Nome FROM Leads l", r#"SELECT "nome" FROM "meus dados"."leads" l"#),
            ("SELECT l.* FROM public.leads l", r#"SELECT l.* FROM "meus dados"."leads" l"#),
            (
                "WITH leads AS (SELECT * FROM leads) SELECT leads.nome FROM leads",
                r#"WITH leads AS (SELECT * FROM "meus dados"."leads") SELECT "leads"."nome" FROM leads"#,
            ),
            (
                "WITH leads AS (SELECT 1) SELECT public.leads.nome, public.leads.* FROM public.leads",
                r#"WITH leads AS (SELECT 1) SELECT "meus dados"."leads"."nome", "meus dados"."leads".* FROM "meus dados"."leads""#,
            ),
            (
                "WITH RECURSIVE leads AS (SELECT 1 AS n UNION SELECT n + 1 FROM leads WHERE n < 3) SELECT count(*) FROM leads",
                r#"WITH RECURSIVE leads AS (SELECT 1 AS n UNION SELECT "n" + 1 FROM leads WHERE "n" < 3) SELECT count(*) FROM leads"#,
            ),
            (
                r"SELECT 'it''s', 'a''$$', 'a''$', E'\\', 'plain'",
                r"SELECT $$it's$$, $t$a'$$$t$, $t$a'$$t$, $$\$$, 'plain'",
            ),
            // Where a backslash is read as an escape the text would end earlier.
            (
                r"SELECT '\'' , pg_read_file($$/etc/passwd$$) --'",
                r"SELECT $t$\' , pg_read_file($$/etc/passwd$$) --$t$",
            ),
            ("SELECT 'a'''' || pg_sleep(1) || '''", "SELECT $$a'' || pg_sleep(1) || '$$"),
            (
                "SELECT public.leads.interesse[1], l.interesse[1:2] FROM leads, leads l",
                r#"SELECT "meus dados"."leads"."interesse"[1], "l"."interesse"[1:2] FROM "meus dados"."leads", "meus dados"."leads" l"#,
            ),
            ("SELECT system_user, current_role", r#"SELECT "system_user", "current_role""#),
        ] {
            assert_eq!(
                checked(sql, &Readable::of(Catalog::built_in()), "meus dados").expect("allowed").sql,
                expected
            );
        }
        let tables = Readable::new([("Meus \"Leads\"".to_owned(), vec!["Nome".to_owned()])]);
        let checked =
            checked(r#"SELECT l."Nome" FROM "Meus ""Leads""" l"#, &tables, "public").expect("allowed");
        assert_eq!(checked.sql, r#"SELECT "l"."Nome" FROM "public"."Meus ""Leads""" l"#);
        assert!(checked.attributes.is_empty());
    }

    #[test]
    fn forms_that_can_t_be_read_or_checked_are_refused_with_what_says_the_same() {
        for (sql, way) in [
            ("SELECT 1 FROM leads WHERE score_qualificacao BETWEEN SYMMETRIC 9 AND 1", "least(a, b)"),
            (
                "SELECT sum(versao) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING EXCLUDE CURRENT ROW) FROM leads",
                "without EXCLUDE",
            ),
            (
                "WITH RECURSIVE d(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM d) SEARCH DEPTH FIRST BY n SET o SELECT n FROM d",
                "holds the path",
            ),
            (
                "WITH RECURSIVE d(n) AS (SELECT 1 UNION ALL SELECT n FROM d) CYCLE n SET c USING p SELECT n FROM d",
                "<> ALL(path)",
            ),
            ("SELECT 1 FROM leads WHERE nome NOT LIKE ALL (ARRAY['a%', 'b%'])", "NOT LIKE 'a%' AND"),
            ("SELECT ALL nome FROM leads", "without ALL"),
            ("SELECT (jsonb_each(metadata)).* FROM leads", "SELECT t.* FROM f(x) AS t"),
            ("TABLE leads", "SELECT * FROM"),
            ("SELECT * FROM leads TABLESAMPLE system(1)", "random() < 0.01"),
        ] {
            match allowed(sql) {
                Ok(checked) => assert!(sql.contains(").*"), "allowed: {}", checked.sql),
                Err(problem) => assert!(problem.contains(way), "{sql}: {problem}"),
            }
        }
        for sql in [
            "SELECT 1 FROM leads WHERE nome LIKE ANY (ARRAY['a%', 'b%'])",
            "SELECT 1 FROM leads WHERE nome ILIKE ANY (ARRAY['a%', 'b%'])",
            "SELECT jsonb_set(metadata, '{a}', '1'), to_hex(255), gen_random_uuid() FROM leads",
            "SELECT r.a FROM leads, jsonb_to_record(metadata) AS r(a int)",
        ] {
            if let Err(problem) = allowed(sql) {
                panic!("{sql}: {problem}");
            }
        }
    }

    #[test]
    fn a_character_nul_is_refused_however_it_is_written() {
        for sql in [
            "SELECT 'a\0b'",
            "SELECT 1 AS \"a\0b\"",
            r"SELECT E'a\000b'",
            r"SELECT E'a\x00b'",
            r"SELECT U&'a\0000b'",
        ] {
            let problem = problem(sql);
            assert!(problem.contains("NUL") || problem.contains("sql parser error"), "{sql:?}: {problem}");
        }
        assert!(problem("SELECT 'a\0b'").contains("character NUL"));
    }

    #[test]
    fn a_name_that_postgres_would_cut_is_refused() {
        let long = "a".repeat(64);
        assert!(problem(&format!("SELECT 1 AS {long}")).contains("longer than 63"));
        assert!(
            problem(&format!("WITH {long} AS (SELECT 1) SELECT * FROM {long}")).contains("longer than 63")
        );
        assert!(allowed(&format!("SELECT 1 AS {}", &long[1..])).is_ok());
    }

    #[test]
    fn a_statement_that_is_long_or_deep_is_answered_without_exhausting_the_stack() {
        for (open, middle, close) in [
            ("1 + ", "1", ""),
            ("(", "1", ")"),
            ("NOT ", "true", ""),
            ("- ", "1", ""),
            ("coalesce(", "1", ")"),
            ("(SELECT ", "1", ")"),
            ("CASE WHEN true THEN ", "1", " END"),
        ] {
            for depth in [10, 30, 300, (MAX_STATEMENT_BYTES - 20) / (open.len() + close.len())] {
                let sql = format!("SELECT {}{middle}{}", open.repeat(depth), close.repeat(depth));
                let _ = allowed(&sql);
            }
        }
        let _ = allowed(&format!("SELECT 1 {}", "UNION SELECT 1 ".repeat(1_300)));
        let _ = allowed(&format!("SELECT x{}", "[1]".repeat(6_000)));
        let _ = allowed(&format!("SELECT x{}", ".a".repeat(9_000)));
        let _ = allowed(&format!("SELECT x{}", "::int".repeat(3_900)));
    }
}
