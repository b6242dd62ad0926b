use super::*;
use crate::domain::Catalog;
use crate::store::postgres::statement::checked;

fn problem(sql: &str) -> Option<String> {
    checked(sql, &Readable::of(Catalog::built_in()), "public").err()
}

#[test]
fn a_text_that_is_made_is_not_looked_for_in_another() {
    let long = "(SELECT string_agg('a', '') FROM generate_series(1, 1000000))";
    for sql in [
        format!("SELECT strpos({long}, 'b' || left({long}, 180000))"),
        format!("SELECT position({long} IN nome) FROM leads"),
        format!("SELECT translate({long}, replace(left({long}, 15000), 'a', 'b'), 'c')"),
        format!("SELECT translate({long}, 'a', {long})"),
        format!("SELECT btrim({long}, {long}), 1"),
        format!("SELECT trim(both {long} FROM {long})"),
        format!("SELECT ltrim('a', {long})"),
        format!("SELECT {long} LIKE '%' || left({long}, 100000) || 'b%'"),
        format!("WITH x AS MATERIALIZED (SELECT {long} AS t) SELECT t NOT ILIKE substr(t, 1, 100000) FROM x"),
        format!("SELECT {long} ~~* {long}, 1"),
        format!("SELECT nome !~~ ALL (ARRAY['a%', {long}]) FROM leads"),
        format!("SELECT nome LIKE ANY (ARRAY['a%', {long}]) FROM leads"),
        format!("SELECT split_part({long}, {long}, 1)"),
        format!("SELECT string_to_array({long}, {long})"),
        format!("SELECT * FROM string_to_table({long}, {long})"),
        format!("SELECT replace({long}, {long}, '')"),
        format!("SELECT replace({long}, 'a', {long})"),
        format!("WITH x AS (SELECT {long} AS t) SELECT strpos(t, t) FROM x"),
        format!("WITH x(t) AS (SELECT {long}) SELECT strpos(t, lower(t)) FROM x"),
        format!("WITH x AS (SELECT {long} AS nome) SELECT strpos(nome, nome) FROM x"),
        format!("WITH x AS (SELECT left({long}, 9)) SELECT strpos(\"left\", \"left\") FROM x"),
        format!("SELECT strpos(t.t, t.t) FROM (SELECT {long}) AS t(t)"),
        "SELECT strpos('a', v) FROM jsonb_array_elements_text('[]') AS v".to_owned(),
        format!("SELECT strpos(nome, '{}') FROM leads", "a".repeat(MAX_NEEDLE_BYTES + 1)),
        "WITH x AS (SELECT nome || nome AS a FROM leads), y AS (SELECT a || a AS b FROM x) SELECT strpos(b, b) FROM y".to_owned(),
        "SELECT array(SELECT generate_series(1, 60000)) && array(SELECT generate_series(60001, 120000))".to_owned(),
        "WITH x AS (SELECT array_agg(i) AS v FROM generate_series(1, 60000) AS i) SELECT v @> v FROM x".to_owned(),
        "WITH x AS (SELECT jsonb_object_agg(i, i) AS v, array_agg(i::text) AS k FROM generate_series(1, 60000) AS i)
         SELECT v - k FROM x".to_owned(),
        "SELECT metadata - array(SELECT nome FROM leads) FROM leads".to_owned(),
    ] {
        assert!(problem(&sql).is_some_and(|problem| problem.contains("can't stop it")), "{sql}: {:?}", problem(&sql));
    }
}

#[test]
fn what_people_look_for_is_short() {
    for sql in [
        "SELECT strpos(lower(nome), lower('Ana')), position('@' IN email), split_part(email, '@', 2) FROM leads",
        "SELECT replace(replace(replace(telefone, '(', ''), ')', ''), '-', '') FROM leads",
        "SELECT replace(nome, origem, ''), strpos(email, split_part(nome, ' ', 1)) FROM leads",
        "SELECT regexp_replace(telefone, '(\\d{2})(\\d{5})(\\d{4})', '(\\1) \\2-\\3'),
                regexp_replace(telefone, '\\D', '', 'g'), translate(nome, 'áéí', 'aei') FROM leads",
        "SELECT interesse && ARRAY['casa'], interesse @> '{lote}', metadata @> '{\"a\": 1}', metadata - 'a' FROM leads",
        "SELECT array_agg(nome) && ARRAY['Ana', 'Bia'] FROM leads",
        "SELECT l.interesse && m.interesse FROM leads l, leads m",
        "WITH x AS (SELECT nome AS name, email FROM leads) SELECT strpos(email, name), max(versao) - min(versao) FROM x, leads GROUP BY 1",
        "SELECT string_agg(nome, ', ' ORDER BY nome), array_agg(DISTINCT origem) FROM leads",
        "SELECT string_to_array(nome, ' '), array_to_string(interesse, ', '), concat_ws(' ', nome, email) FROM leads",
        "SELECT max(x.n) - min(x.n) FROM (SELECT count(*) AS n FROM leads GROUP BY origem) AS x",
        "WITH RECURSIVE d(n, p) AS (SELECT 1, 'a' UNION ALL SELECT n + 1, p || '/' || n FROM d WHERE n < 7) SELECT p FROM d",
        "SELECT nome LIKE '%a%', email ILIKE '%' || nome || '%', nome NOT LIKE lower(origem) || '%' FROM leads",
        "SELECT nome LIKE ANY (ARRAY['a%', 'b%']), nome ~~ ANY ('{a%,b%}'), nome ~~ 'a%' FROM leads",
        "WITH RECURSIVE d(id, n, p) AS (SELECT id, 1, nome FROM leads
             UNION ALL SELECT l.id, n + 1, d.p || ' > ' || l.nome FROM d, leads l WHERE l.versao > d.n) SELECT p FROM d",
        "WITH RECURSIVE p(n, p) AS (SELECT 1, nome FROM leads UNION ALL SELECT n + 1, p.p || '/' || n FROM p) SELECT p FROM p",
        "SELECT CASE WHEN nome = '' THEN '-' ELSE nome END, strpos(email, nome) FROM leads",
        "SELECT lpad(nome, 10, '.'), repeat('-', 20), format('%s: %s', nome, email) FROM leads",
    ] {
        assert_eq!(problem(sql), None, "{sql}");
    }
}

#[test]
fn what_grows_without_bound_or_is_gathered_by_the_dozen_is_refused() {
    let ten = (0..5).fold("'aaaaaaaaaa'".to_owned(), |text, _| format!("replace({text}, 'a', 'aaaaaaaaaa')"));
    for sql in [
        format!("SELECT length({ten})"),
        "WITH a AS (SELECT replace('aaaaaaaaaa', 'a', 'aaaaaaaaaa') AS t), b AS (SELECT replace(t, 'a', 'aaaaaaaaaa') AS t FROM a)
         SELECT replace(t, 'a', 'aaaaaaaaaa') FROM b".to_owned(),
        "SELECT regexp_replace(regexp_replace(nome, '.', '12345678901', 'g'), '.', '12345678901', 'g') FROM leads".to_owned(),
        "SELECT repeat(nome, 1000000000) FROM leads".to_owned(),
        "SELECT repeat(nome, score_qualificacao::int) FROM leads".to_owned(),
        "SELECT lpad(nome, 100000000) FROM leads".to_owned(),
        "SELECT format('%1000000000s', nome) FROM leads".to_owned(),
        "WITH RECURSIVE d(t) AS (SELECT 'x' UNION ALL SELECT t || t FROM d) SELECT max(length(t)) FROM d".to_owned(),
        "WITH RECURSIVE d(t) AS (SELECT 'x' UNION ALL SELECT replace(t, 'x', 'xx') FROM d) SELECT max(length(t)) FROM d".to_owned(),
        "WITH RECURSIVE d(a, b) AS (SELECT 'x', 'y' UNION ALL SELECT a || b, b || a FROM d) SELECT max(length(a)) FROM d".to_owned(),
        "WITH RECURSIVE d(a, b) AS (SELECT 'x', 'y' UNION ALL SELECT b, concat(a, b) FROM d) SELECT max(length(a)) FROM d".to_owned(),
        "WITH RECURSIVE d AS (SELECT 'x' AS a, 'y' AS b UNION ALL SELECT format('%s%s', a, b), b || a FROM d) SELECT a FROM d".to_owned(),
        "WITH RECURSIVE d(a, b) AS (SELECT 'x', 'y' UNION ALL SELECT y, z FROM (SELECT a || b AS y, b || a AS z FROM d) AS s)
         SELECT a FROM d".to_owned(),
        "WITH RECURSIVE d(a, b) AS (SELECT '1'::jsonb, '2'::jsonb UNION ALL SELECT to_jsonb(d), to_jsonb(d) FROM d) SELECT a FROM d".to_owned(),
        format!("SELECT {}", ["length(string_agg(nome, 'a'))"; 5].join(", ")) + " FROM leads",
    ] {
        assert!(problem(&sql).is_some(), "{sql}");
    }
}

/// Forty queries of `WITH`, each of which makes its columns of the one before; then `last`.
fn chain(first: &str, step: impl Fn(usize) -> String, last: &str) -> String {
    let steps: Vec<String> = (1..=40).map(|i| format!(", a{i}{}", step(i - 1))).collect();
    format!("WITH a0 AS ({first}){} {last}", steps.concat())
}

#[test]
fn names_that_double_with_each_step_are_refused_at_once() {
    let of_column = |step: &str| {
        let step = step.to_owned();
        let next =
            move |i: usize| step.replace("new", &format!("n{}", i + 1)).replace("old", &format!("n{i}"));
        chain(
            "SELECT versao AS n0 FROM leads",
            move |i| format!(" AS (SELECT {} FROM a{i})", next(i)),
            "SELECT strpos('a', n40::text) FROM a40",
        )
    };
    let nested = (0..7).fold("SELECT versao AS n FROM leads".to_owned(), |inner, _| {
        format!("SELECT {} AS n FROM ({inner}) AS x", ["n"; 8].join(" + "))
    });
    for sql in [
        of_column("old + old AS new"),
        of_column("coalesce(old, old) AS new"),
        of_column("CASE WHEN true THEN old ELSE old END AS new"),
        of_column("old - old AS new"),
        of_column("old + old AS new").replace("strpos('a', n40::text)", "n40"),
        chain(
            "SELECT versao AS n FROM leads",
            |i| format!(" AS (SELECT n + n AS n FROM a{i})"),
            "SELECT n FROM a40",
        ),
        chain(
            "SELECT versao + versao FROM leads",
            |i| format!(" AS (SELECT \"?column?\" + \"?column?\" FROM a{i})"),
            "SELECT * FROM a40 WHERE \"?column?\" > 0",
        ),
        chain(
            "SELECT versao AS n0 FROM leads",
            |i| format!("(n{}) AS (SELECT n{i} + n{i} FROM a{i})", i + 1),
            "SELECT n40 FROM a40",
        ),
        chain(
            "SELECT versao AS n FROM leads",
            |i| format!(" AS (SELECT 1 AS n UNION ALL SELECT n + n FROM a{i})"),
            "SELECT n FROM a40",
        ),
        chain(
            "SELECT 1 AS n",
            |i| format!("(n) AS (VALUES ((SELECT n + n FROM a{i})))"),
            "SELECT n FROM a40",
        ),
        chain(
            "SELECT versao AS x FROM leads",
            |i| format!(" AS (SELECT a{i} AS x, a{i} AS y FROM a{i})"),
            "SELECT a40 FROM a40",
        ),
        chain(
            "SELECT versao AS n FROM leads",
            |i| {
                format!(
                    " AS (SELECT * FROM (SELECT 1 AS n) x UNION ALL SELECT * FROM (SELECT n + n AS m FROM a{i}) y)"
                )
            },
            "SELECT n FROM a40",
        ),
        nested,
    ] {
        assert!(
            problem(&sql).is_some_and(|problem| problem.contains("written out")),
            "{sql}: {:?}",
            problem(&sql)
        );
    }
    let often = chain(
        "SELECT 1",
        |i| format!(" AS NOT MATERIALIZED (SELECT 1 FROM a{i}, a{i} AS b)"),
        "SELECT * FROM a40",
    );
    assert!(problem(&often).is_some(), "{often}");
}

#[test]
fn long_statements_of_many_steps_are_read_in_time() {
    let deep =
        (0..40).fold("SELECT 1".to_owned(), |inner, _| format!("WITH RECURSIVE a AS ({inner}) SELECT 1"));
    let wide = (0..2_500).map(|i| format!("a{i}")).collect::<Vec<_>>().join("||");
    for sql in [
        chain("SELECT versao AS n FROM leads", |i| format!(" AS (SELECT n + 1 AS n FROM a{i})"), "SELECT n FROM a40"),
        chain("SELECT * FROM leads", |i| format!(" AS (SELECT *, versao + 1 AS n{i} FROM a{i})"), "SELECT * FROM a40"),
        chain(
            "SELECT origem, count(*) AS total FROM leads GROUP BY origem",
            |i| format!(" AS (SELECT origem, total, lag(total) OVER (ORDER BY origem) AS antes{i} FROM a{i})"),
            "SELECT origem, round(100.0 * (total - antes39) / nullif(antes39, 0), 1) FROM a40",
        ),
        "WITH a AS (SELECT * FROM leads WHERE versao > 1), b AS (SELECT * FROM leads WHERE versao < 1),
         c AS (SELECT * FROM a UNION ALL SELECT * FROM b), d AS (SELECT origem, count(*) AS n FROM c GROUP BY origem)
         SELECT origem, n, round(100.0 * n / sum(n) OVER (), 1) AS parte FROM d"
            .to_owned(),
        deep,
        format!("SELECT {wide} FROM leads"),
    ] {
        assert_eq!(problem(&sql), None, "{sql}");
    }
}
