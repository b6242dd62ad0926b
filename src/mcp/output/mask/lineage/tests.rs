use serde_json::json;
use sqlparser::{dialect::PostgreSqlDialect, parser::Parser};

use super::*;
use crate::store::tables::Column;

/// What a row of these columns and cells is after the statement.
fn masked(sql: &str, columns: &[&str], cells: Value) -> Value {
    masked_by(&Masking::default(), sql, columns, cells)
}

/// The same, where these fields are masked.
fn masked_by(masking: &Masking, sql: &str, columns: &[&str], cells: Value) -> Value {
    let postgres = masked_in(Dialect::Postgres, masking, sql, columns, &cells);
    // What SQLite's dialect reads otherwise, if at all.
    let of_postgres = ["::", "LATERAL", "unnest", "WITHIN", "$$", "U&", "['", "JSON_OBJECT"];
    if !of_postgres.iter().any(|part| sql.contains(part)) {
        assert_eq!(masked_in(Dialect::Sqlite, masking, sql, columns, &cells), postgres, "{sql}");
    }
    postgres
}

/// The same, where a store of this dialect answered.
fn masked_in(dialect: Dialect, masking: &Masking, sql: &str, columns: &[&str], cells: &Value) -> Value {
    let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
    let mut rows = [cells.as_array().cloned().expect("cells")];
    let json = ["metadata", "dados", "localizacao"].map(|name| (name, "jsonb"));
    let others = ["nome", "origem", "cor", "bonus", "email", "telefone", "apelido", "salario"];
    let stored = json.into_iter().chain(others.map(|name| (name, "text")));
    let stored = stored.map(|(name, kind)| Column { name, kind, meaning: "" }).collect();
    let tables = [StoreTable { table: "leads", about: "", columns: stored }];
    masking.rows(sql, dialect, &tables, &columns, &mut rows);
    json!(rows[0])
}

/// A statement of one column whose value is hidden whatever it looks like.
fn hides(sql: &str, column: &str) {
    assert_eq!(masked(sql, &[column], json!(["so secreto"])), json!(["***"]), "{sql}");
}

/// Fields as definitions have them: named as people write, and one of numbers.
fn declared() -> Masking {
    let fields = [
        ("data de nascimento", Rule::Declared),
        ("cpf/cnpj", Rule::Declared),
        ("cpf-do-cliente", Rule::Declared),
        ("número d'água", Rule::Declared),
        ("apelido", Rule::Declared),
        ("email", Rule::Always),
        ("salario", Rule::Hidden),
    ];
    Masking::new(fields.map(|(name, rule)| (name.to_owned(), rule)))
}

#[test]
fn a_field_is_masked_by_whatever_name_it_has() {
    for (sql, column) in [
        ("SELECT email AS x FROM leads", "x"),
        ("SELECT l.email x FROM leads l", "x"),
        ("SELECT lower(email) FROM leads", "lower"),
        ("SELECT split_part(email, '@', 1) AS a FROM leads", "a"),
        ("SELECT substring(email from 1 for 3) AS a FROM leads", "a"),
        ("SELECT 'tel: ' || telefone || '.' AS a FROM leads", "a"),
        ("SELECT string_agg(email, ', ' ORDER BY nome) AS a FROM leads", "a"),
        ("SELECT max(telefone) FILTER (WHERE origem = 'x') AS a FROM leads", "a"),
        ("SELECT first_value(email) OVER (PARTITION BY origem) AS a FROM leads", "a"),
        ("SELECT mode() WITHIN GROUP (ORDER BY telefone) AS a FROM leads", "a"),
        ("SELECT x AS y FROM (SELECT email AS x FROM leads) t", "y"),
        ("SELECT y FROM (SELECT x AS y FROM (SELECT email AS x FROM leads) t) u", "y"),
        ("SELECT * FROM (SELECT email AS x FROM leads) t", "x"),
        ("SELECT t.* FROM (SELECT upper(email) FROM leads) t", "upper"),
        ("WITH t AS (SELECT email AS x FROM leads) SELECT x FROM t", "x"),
        ("WITH t(a) AS (SELECT email FROM leads) SELECT a FROM t", "a"),
        ("WITH u AS (SELECT b FROM t), t AS (SELECT email AS b FROM leads) SELECT b FROM u", "b"),
        ("SELECT nome AS n FROM leads UNION ALL SELECT email FROM leads", "n"),
        ("SELECT n FROM (SELECT nome AS n FROM leads UNION SELECT telefone FROM leads) t", "n"),
        ("SELECT (SELECT email FROM leads LIMIT 1) AS a", "a"),
        ("SELECT coalesce(email, telefone) AS a FROM leads", "a"),
        ("SELECT CASE WHEN true THEN email END AS a FROM leads", "a"),
        ("SELECT CAST(telefone AS text) AS a FROM leads", "a"),
        ("SELECT telefone::text::varchar AS a FROM leads", "a"),
        ("SELECT metadata->>'telefone' AS a FROM leads", "a"),
        ("SELECT dados #>> '{contato,telefone}' AS a FROM eventos_raw", "a"),
        ("SELECT json_extract(dados, '$.contato.telefone') AS a FROM eventos_raw", "a"),
        ("SELECT x.v AS a FROM leads, LATERAL (SELECT email AS v) x", "a"),
        ("SELECT e FROM leads, unnest(ARRAY[email]) AS e", "e"),
        ("SELECT p FROM leads, LATERAL regexp_split_to_table(email, '@') AS p", "p"),
        ("SELECT a FROM (VALUES (1)) v, LATERAL (VALUES ((SELECT email FROM leads LIMIT 1))) w(a)", "a"),
        ("SELECT b FROM leads AS l(a, b)", "b"),
        ("SELECT leads::text AS a FROM leads", "a"),
        ("SELECT substr(metadata::text, 3, 9) AS a FROM leads", "a"),
        ("SELECT metadata->>lower('TELEFONE') AS a FROM leads", "a"),
        ("SELECT split_part(usuario, '@', 1) AS a FROM eventos_raw", "a"),
        ("SELECT left(usuario, 7) AS a FROM eventos_raw", "a"),
        ("SELECT trim(both 'x' from usuario) AS a FROM eventos_raw", "a"),
        ("SELECT replace(coalesce(usuario, nome), '@', '#') AS a FROM eventos_raw", "a"),
        ("SELECT split_part(coalesce(email, nome), '@', 1) AS a FROM leads", "a"),
        ("SELECT CASE WHEN true THEN split_part(email, '@', 1) ELSE nome END AS a FROM leads", "a"),
        ("SELECT replace(dados::text, '\"telefone\"', '\"x\"') AS a FROM eventos_raw", "a"),
        ("SELECT jsonb_path_query(dados, '$.*') AS a FROM eventos_raw", "a"),
        ("SELECT json_extract(dados, '$.\"\\u0074elefone\"') AS a FROM eventos_raw", "a"),
        ("SELECT split_part(value, '@', 1) AS a FROM leads, LATERAL jsonb_each_text(metadata)", "a"),
        ("SELECT (l.*)::text AS a FROM leads l", "a"),
        ("SELECT max((l.*)::text) AS a FROM leads l", "a"),
        ("SELECT (l.telefone).reverse AS a FROM leads l", "a"),
        ("SELECT ((l.telefone).lower).upper AS a FROM leads l", "a"),
        ("SELECT row(l.*)::text AS a FROM leads l", "a"),
        ("SELECT string_agg(coalesce(telefone, nome), ', ') AS a FROM leads", "a"),
        ("SELECT concat(usuario, ' (', evento, ')') AS a FROM eventos_raw", "a"),
        ("SELECT coalesce(telefone, nome) || ', ' || origem AS a FROM leads", "a"),
        ("SELECT 'de ' || usuario AS a FROM eventos_raw", "a"),
        ("SELECT metadata->>'usuario' || '.' AS a FROM eventos_raw", "a"),
        ("SELECT x.reverse FROM leads, unnest(ARRAY[email]) AS x", "reverse"),
        ("SELECT x.reverse AS a FROM leads, unnest(ARRAY[coalesce(usuario, '')]) AS x", "a"),
        ("SELECT f.concat FROM fichas f WHERE '$$' = '$$'", "concat"),
        ("SELECT (f).concat AS a FROM fichas f WHERE '$$' = '$$'", "a"),
        ("SELECT (f.usuario).reverse AS a FROM fichas f WHERE '$$' = '$$'", "a"),
        ("SELECT btrim FROM leads, trim(email, '@gmail.com') WHERE '$$' = '$$'", "btrim"),
        ("SELECT * FROM leads l, trim(l.telefone) WHERE '$$' = '$$'", "btrim"),
    ] {
        hides(sql, column);
    }
}

#[test]
fn a_path_is_known_by_whatever_spelling_it_names_a_field() {
    for sql in [
        "SELECT dados->>$$telefone$$ AS a FROM eventos_raw",
        "SELECT dados->>$x$telefone$x$ AS a FROM eventos_raw WHERE '$$' = '$$'",
        "SELECT dados->>U&'telefone' AS a FROM eventos_raw",
        "SELECT dados->>U&'\\0074elefone' AS a FROM eventos_raw",
        "SELECT dados->>E'\\x74elefone' AS a FROM eventos_raw WHERE '$$' = '$$'",
        "SELECT dados[$$telefone$$] AS a FROM eventos_raw",
        "SELECT dados['telefone'] AS a FROM eventos_raw",
        "SELECT dados['telefone']['numero'] AS a FROM eventos_raw",
        "SELECT dados['telefone'][0] AS a FROM eventos_raw",
        "SELECT jsonb_path_query(dados, '$.keyvalue().value') AS a FROM eventos_raw",
        "SELECT jsonb_path_query(dados, '$ . * ') AS a FROM eventos_raw",
        "SELECT (SELECT json_agg(e.value) FROM json_each(dados) e)->>0 AS a FROM eventos_raw",
        "SELECT substr(json_extract(dados, '$'), 9, 9) AS a FROM eventos_raw",
        "SELECT (jsonb_each_text(dados)).value AS a FROM eventos_raw WHERE '$$' = '$$'",
        "SELECT v AS a FROM leads, LATERAL jsonb_each_text(metadata) AS e(chave, v)",
        "SELECT id AS a FROM leads, unnest(ARRAY[telefone]) AS t(id)",
    ] {
        hides(sql, "a");
    }
    let masking = declared();
    for sql in [
        "SELECT dados->>'Data de Nascimento' AS a FROM eventos_raw",
        "SELECT dados#>>'{pessoa,Data de Nascimento}' AS a FROM eventos_raw",
        "SELECT json_extract(dados, '$.\"Data de Nascimento\"') AS a FROM eventos_raw",
        "SELECT json_extract(dados, '$.Data de Nascimento') AS a FROM eventos_raw",
        "SELECT dados->>'CPF/CNPJ' AS a FROM eventos_raw",
        "SELECT dados->>'CPF-do-cliente' AS a FROM eventos_raw",
        "SELECT dados->>'Número d''Água' AS a FROM eventos_raw",
        "SELECT dados['Data de Nascimento'] AS a FROM eventos_raw",
        "SELECT \"Data de Nascimento\" AS a FROM clientes",
    ] {
        let told = masked_by(&masking, sql, &["a"], json!(["so secreto"]));
        assert_eq!(told, json!(["***"]), "{sql}");
    }
    for sql in [
        "SELECT dados->lower('SALARIO') AS a FROM eventos_raw",
        "SELECT jsonb_path_query(dados, '$.*') AS a FROM eventos_raw",
        "SELECT value AS a FROM json_each((SELECT dados FROM eventos_raw))",
        "SELECT ARRAY[dados->'salario'] AS a FROM eventos_raw WHERE '$$' = '$$'",
        "SELECT s AS a FROM fichas AS f(x, s)",
    ] {
        assert_eq!(masked_by(&masking, sql, &["a"], json!([5000])), json!(["***"]), "{sql}");
    }
    for (sql, cell) in [
        ("SELECT dados->>'Data de cadastro' AS a FROM eventos_raw", json!("ontem")),
        ("SELECT json_extract(dados, '$') AS a FROM eventos_raw", json!({"cor": "azul", "n": 7})),
        ("SELECT jsonb_path_query(dados, '$.cor', '{}', true) AS a FROM eventos_raw", json!("azul")),
        ("SELECT jsonb_path_query_array(dados, '$.cores[*]') AS a FROM eventos_raw", json!(["azul"])),
        ("SELECT dados->'cores'->>0 AS a FROM eventos_raw", json!("azul")),
        ("SELECT json_extract_path_text(dados, 'itens', '0', 'cor') AS a FROM eventos_raw", json!("azul")),
        ("SELECT count(*) AS leads FROM leads", json!(7)),
    ] {
        let cells = json!([cell]);
        assert_eq!(masked_by(&masking, sql, &["a"], cells.clone()), cells, "{sql}");
    }
}

#[test]
fn json_that_a_statement_makes_is_masked_by_the_names_that_the_statement_gives() {
    let masking = declared();
    for (made, taken) in [
        ("to_jsonb(t)", "SELECT apelido AS x FROM fichas"),
        ("row_to_json(t)", "SELECT salario AS x FROM fichas"),
        ("to_jsonb(t)", "SELECT substr(email, 1, 6) AS x FROM leads"),
        ("to_jsonb(t)", "SELECT f::text AS x FROM fichas f"),
        ("to_jsonb(t)", "SELECT e.value AS x FROM eventos_raw, jsonb_each_text(dados) e"),
        ("jsonb_agg(t)->0", "SELECT max(f)::text AS x FROM fichas f"),
    ] {
        for path in [
            format!("{made}->>'x'"),
            format!("{made}['x']"),
            format!("{made}#>>'{{x}}'"),
            format!("jsonb_extract_path_text({made}, 'x')"),
            format!("jsonb_path_query({made}, '$.x')"),
        ] {
            for sql in [
                format!("SELECT {path} AS a FROM ({taken}) t WHERE '$$' = '$$'"),
                format!(
                    "WITH j AS (SELECT {path} AS b FROM ({taken}) t) SELECT b AS a FROM j WHERE '$$' = '$$'"
                ),
            ] {
                assert_eq!(masked_by(&masking, &sql, &["a"], json!(["Zeca"])), json!(["***"]), "{sql}");
            }
        }
        let whole = format!("SELECT {made} AS j FROM ({taken}) t WHERE '$$' = '$$'");
        let told = masked_by(&masking, &whole, &["j"], json!([{"x": "Zeca", "cor": "azul"}]));
        assert_eq!(told, json!([{"x": "***", "cor": "azul"}]), "{whole}");
    }
    let quoted = "SELECT to_jsonb(t)->>'um nome' AS a FROM (SELECT apelido AS \"Um Nome\" FROM fichas) t";
    assert_eq!(masked_by(&masking, quoted, &["a"], json!(["Zeca"])), json!(["***"]));
    for sql in [
        "SELECT json_build_object('x', f::text) AS j FROM fichas f",
        "SELECT json_build_object('x', '' || f) AS j FROM fichas f WHERE '$$' = '$$'",
        "SELECT json_build_object('x', concat(f)) AS j FROM fichas f WHERE '$$' = '$$'",
    ] {
        assert_eq!(
            masked_by(&masking, sql, &["j"], json!([{"x": "(7,Zeca,5000)"}])),
            json!([{"x": "***"}]),
            "{sql}"
        );
    }
    let columns = "SELECT json_build_object('x', f) AS j FROM fichas f WHERE '$$' = '$$'";
    assert_eq!(
        masked_by(&masking, columns, &["j"], json!([{"x": {"apelido": "Zeca", "cor": "azul"}}])),
        json!([{"x": {"apelido": "***", "cor": "azul"}}])
    );
    for (sql, column, cell) in [
        ("SELECT u.c FROM fichas f, unnest(ARRAY[f]) AS u(a, b, c)", "c", json!(5000)),
        ("SELECT b FROM unnest((SELECT array_agg(f) FROM fichas f)) AS u(a, b)", "b", json!(true)),
        (
            "SELECT row_to_json(t)->>'timestamptz' AS a FROM (SELECT (salario + 1)::timestamp(3) with time zone FROM fichas) t",
            "a",
            json!("ontem"),
        ),
        (
            "SELECT row_to_json(t)->>'timestamp' AS a FROM (SELECT (salario + 1)::timestamp without time zone FROM fichas) t",
            "a",
            json!("ontem"),
        ),
        (
            "SELECT row_to_json(t)->>'float4' AS a FROM (SELECT (salario + 1)::float(24) FROM fichas) t",
            "a",
            json!("5001"),
        ),
        (
            "SELECT j.root AS a FROM fichas f, json_tree(json_object(f.apelido, 1), '$.' || f.apelido) AS j",
            "a",
            json!("$.Zeca"),
        ),
    ] {
        assert_eq!(masked_by(&masking, sql, &[column], json!([cell])), json!(["***"]), "{sql}");
    }
}

#[test]
fn values_whose_names_stand_above_them_or_beside_them_are_masked() {
    let masking = declared();
    for sql in [
        "SELECT e.value->>'numero' AS a FROM eventos_raw, jsonb_each(dados) e WHERE e.key = 'telefone'",
        "SELECT json_extract(e.value, '$.rua') AS a FROM eventos_raw, json_each(dados) e WHERE e.key = 'endereco'",
        "SELECT json_extract(e.value, '$.rua') AS a FROM eventos_raw, json_each(dados, '$.apelido') e",
        "SELECT p.value AS a FROM eventos_raw, LATERAL jsonb_each_text(dados->'pessoa') p WHERE p.key = 'apelido'",
        "SELECT dados->'respostas'->0->>'resposta' AS a FROM eventos_raw",
        "SELECT dados['respostas'][0]['resposta'] AS a FROM eventos_raw",
        "SELECT dados#>>'{respostas,0,resposta}' AS a FROM eventos_raw",
        "SELECT json_extract(dados, '$.respostas[1].valor') AS a FROM eventos_raw",
        "SELECT json_extract_path_text(dados, 'respostas', '0', 'valor') AS a FROM eventos_raw",
        "SELECT jsonb_path_query(dados, '$.respostas[*].valor') AS a FROM eventos_raw",
        "SELECT e->>'resposta' AS a FROM eventos_raw, LATERAL jsonb_array_elements(dados->'respostas') AS e",
        "SELECT json_extract(e.value, '$.valor') AS a FROM eventos_raw, json_each(dados, '$.respostas') AS e",
        "SELECT dados->>'valor' AS a FROM (SELECT dados->'respostas'->0 AS dados FROM eventos_raw) t",
    ] {
        assert_eq!(masked_by(&masking, sql, &["a"], json!(["so secreto"])), json!(["***"]), "{sql}");
    }
    let below = "SELECT e.value AS v FROM eventos_raw, json_each(dados) e WHERE e.key = 'endereco'";
    let told = masked_by(&masking, below, &["v"], json!([{"rua": "X", "n": 7}]));
    assert_eq!(told, json!([{"rua": "***", "n": "***"}]));
    assert_eq!(masked_by(&masking, below, &["v"], json!(["{\"rua\": \"X\"}"])), json!(["***"]));
    for sql in [
        "SELECT dados->>'valor' AS a FROM eventos_raw",
        "SELECT r.dados->>'valor' AS a FROM eventos_raw r",
        "SELECT json_extract(dados, '$.valor') AS a FROM eventos_raw",
        "SELECT dados->'pedido'->>'valor' AS a FROM eventos_raw",
        "SELECT dados->'itens'->0->>'cor' AS a FROM eventos_raw",
        "SELECT e->>'cor' AS a FROM eventos_raw, LATERAL jsonb_array_elements(dados->'itens') AS e",
        "SELECT json_extract(e.value, '$.cor') AS a FROM eventos_raw, json_each(dados, '$.itens') AS e",
    ] {
        assert_eq!(masked_by(&masking, sql, &["a"], json!(["azul"])), json!(["azul"]), "{sql}");
    }
}

#[test]
fn a_field_known_by_its_looks_alone_gives_way_to_what_stands_beside_it() {
    let masking = declared();
    for (sql, cell, told) in [
        ("SELECT coalesce(apelido, cor) AS a FROM fichas", "Zeca", "***"),
        ("SELECT CASE WHEN true THEN apelido ELSE cor END AS a FROM fichas", "Zeca", "***"),
        ("SELECT coalesce(email, apelido, cor) AS a FROM fichas", "Zeca", "***"),
        ("SELECT coalesce(email, cor) AS a FROM fichas", "azul", "azul"),
        ("SELECT coalesce(email, cor) AS a FROM fichas", "ana@localhost", "a***@***"),
    ] {
        assert_eq!(masked_by(&masking, sql, &["a"], json!([cell])), json!([told]), "{sql}");
    }
}

#[test]
fn every_kind_of_expression_carries_what_is_in_it_or_says_nothing_of_it() {
    let carried = [
        "salario",
        "f.salario",
        "(salario)",
        "- salario",
        "salario + 1",
        "1 + salario",
        "salario::int",
        "CAST(salario AS int)",
        "salario COLLATE x",
        "salario AT TIME ZONE 'UTC'",
        "extract(year FROM salario)",
        "extract(epoch FROM (dados->>'salario')::date)",
        "ceil(salario)",
        "floor(salario)",
        "floor((dados->>'salario')::numeric)",
        "ceil((dados->>'salario')::numeric / 1000) * 1000",
        "floor((SELECT * FROM m))",
        "substring(salario, 1, 2)",
        "substr(salario, 1, 2)",
        "trim(salario)",
        "trim(both '0' FROM salario)",
        "overlay(salario PLACING 'x' FROM 1)",
        "overlay('xxxx' PLACING salario FROM 1)",
        "overlay(dados::text PLACING 'x' FROM 1)",
        "CASE WHEN true THEN salario END",
        "CASE WHEN true THEN 0 ELSE salario END",
        "coalesce(salario, 0)",
        "round(salario)",
        "max(salario)",
        "max(salario) OVER ()",
        "percentile_cont(0.5) WITHIN GROUP (ORDER BY salario)",
        "ARRAY[salario]",
        "(ARRAY[salario])[1]",
        "(1, salario)",
        "INTERVAL salario",
        "dados->'salario'",
        "dados['salario']",
        "(f.salario).round",
        "(SELECT salario)",
        "(SELECT x FROM m)",
        "(SELECT * FROM m)",
        "ARRAY(SELECT * FROM m)",
    ];
    let nothing = [
        "1",
        "date '2026-01-01'",
        "interval '1 day'",
        "salario IS NULL",
        "salario IS NOT NULL",
        "salario IS TRUE",
        "salario IS NOT FALSE",
        "salario IS UNKNOWN",
        "salario IS DISTINCT FROM 1",
        "salario IS JSON",
        "salario IS NORMALIZED",
        "salario IN (1, 2)",
        "salario IN (SELECT 1)",
        "salario BETWEEN 1 AND 2",
        "salario > 1000",
        "salario = ANY(ARRAY[1])",
        "salario <> ALL(ARRAY[1])",
        "salario LIKE '5%'",
        "salario ILIKE '5%'",
        "salario SIMILAR TO '5%'",
        "salario ~ '5'",
        "EXISTS (SELECT * FROM m)",
        "position('5' IN salario)",
        "count(salario)",
        "length(salario)",
        "extract(year FROM criado)",
        "floor((dados->>'score')::numeric / 10)",
        "ceil(score)",
        "overlay(nome PLACING 'x' FROM 1)",
    ];
    let masking = declared();
    let told = |expr: &str| {
        let sql = format!("WITH m AS (SELECT salario AS x FROM fichas) SELECT {expr} AS a FROM fichas f");
        assert!(Parser::parse_sql(&PostgreSqlDialect {}, &sql).is_ok(), "{sql}");
        masked_in(Dialect::Postgres, &masking, &sql, &["a"], &json!([5000]))
    };
    for expr in carried {
        assert_eq!(told(expr), json!(["***"]), "{expr}");
    }
    for expr in nothing {
        assert_eq!(told(expr), json!([5000]), "{expr}");
    }
}

#[test]
fn columns_whose_names_the_server_makes_are_masked_behind_a_star_and_by_those_names() {
    let masking = declared();
    let told = |dialect, made: &str, names: [&str; 2]| {
        let told = [
            format!("SELECT * FROM (SELECT {made}, count(*) FROM fichas GROUP BY 1) AS t"),
            format!("WITH t AS (SELECT {made}, count(*) FROM fichas GROUP BY 1) SELECT t.* FROM t"),
            format!("SELECT \"{}\", 7 AS n FROM (SELECT {made} FROM fichas) AS t", names[0]),
        ];
        told.map(|sql| masked_in(dialect, &masking, &sql, &names, &json!(["so secreto", 7])))
    };
    for (made, name) in [
        ("salario + bonus", "?column?"),
        ("(salario + 1)::int", "int4"),
        ("(salario + 1)::timestamp without time zone", "timestamp"),
        ("(salario + 1)::timestamp(3) with time zone", "timestamptz"),
        ("(salario + 1)::float(24)", "float4"),
        ("round(salario * 1.1)::int", "round"),
        ("floor(salario)", "floor"),
        ("ceil(salario)", "ceil"),
        ("substring(salario, 1, 2)", "substring"),
        ("substr(salario, 1, 2)", "substr"),
        ("trim(apelido)", "btrim"),
        ("CASE WHEN true THEN apelido ELSE cor END", "cor"),
        ("CASE WHEN true THEN apelido END", "case"),
        ("(SELECT upper(apelido))", "upper"),
        ("(SELECT apelido AS x)", "x"),
        ("extract(year FROM salario)", "extract"),
        ("salario AT TIME ZONE 'UTC'", "timezone"),
        ("INTERVAL salario", "feito_por_um_servidor"),
    ] {
        let masked = told(Dialect::Postgres, made, [name, "count"]);
        assert!(masked.iter().all(|row| *row == json!(["***", 7])), "{made}: {masked:?}");
    }
    for (made, name) in [
        ("salario + bonus", "salario + bonus"),
        ("apelido || ' ' || cor", "apelido || ' ' || cor"),
        ("round(salario * 1.1)::int", "round"),
        ("CAST(salario AS TEXT)", "CAST(salario AS TEXT)"),
    ] {
        let masked = told(Dialect::Sqlite, made, [name, "count(*)"]);
        assert!(masked.iter().all(|row| *row == json!(["***", 7])), "{made}: {masked:?}");
    }
    for sql in [
        "SELECT * FROM (SELECT 'todos' UNION ALL SELECT apelido FROM fichas)",
        "SELECT t.* FROM (SELECT 'todos' UNION ALL SELECT substr(email, 1, 6) FROM leads) t, leads l",
        "WITH t AS (SELECT 'todos' UNION ALL SELECT salario FROM fichas) SELECT l.cor, t.* FROM t, leads l",
        "WITH t AS (SELECT 'todos' UNION ALL SELECT * FROM (SELECT salario) u, leads) SELECT t.* FROM t, leads",
    ] {
        let columns: &[&str] = if sql.contains("l.cor") { &["cor", "'todos'"] } else { &["'todos'"] };
        let row = vec![json!("Zeca"); columns.len()];
        let masked = masked_in(Dialect::Sqlite, &masking, sql, columns, &json!(row));
        assert_eq!(masked.as_array().and_then(|row| row.last()), Some(&json!("***")), "{sql}");
    }
    let beside =
        "SELECT * FROM leads JOIN (SELECT cor, salario * 2, count(*) FROM fichas GROUP BY 1, 2) AS f ON true";
    let row = masked_in(
        Dialect::Postgres,
        &masking,
        beside,
        &["nome", "origem", "cor", "?column?", "count"],
        &json!(["Ana", "site", "azul", 5000, 7]),
    );
    assert_eq!(row, json!(["Ana", "site", "azul", "***", 7]));
    let plain = "SELECT * FROM (SELECT nome, count(*), score / 2 FROM leads GROUP BY 1, 3) AS t";
    let row = json!(["Ana", 7, 4]);
    assert_eq!(masked_by(&masking, plain, &["nome", "count", "?column?"], row.clone()), row);
}

#[test]
fn a_name_beside_a_value_is_its_key_only_where_json_gave_both() {
    let row = |key: &str| json!([key, "Zeca"]);
    let columns = ["campo", "valor"];
    for sql in [
        "SELECT e.key AS campo, e.value AS valor FROM eventos_raw, jsonb_each_text(dados) AS e",
        "SELECT campo, valor FROM (SELECT key AS campo, value AS valor FROM eventos_raw, json_each(dados)) AS t",
        "SELECT k AS campo, v AS valor FROM eventos_raw, LATERAL jsonb_each_text(dados) AS e(k, v)",
        "SELECT e.key AS campo, e.value #>> '{}' AS valor FROM eventos_raw, LATERAL jsonb_each(dados) AS e",
        "WITH t(campo, valor) AS (SELECT key, value FROM eventos_raw, json_each(dados)) SELECT campo, valor FROM t",
        "SELECT e->>'campo' AS campo, e->>'valor' AS valor FROM eventos_raw, LATERAL jsonb_array_elements(dados->'respostas') AS e",
        "SELECT json_extract(e.value, '$.campo') AS campo, json_extract(e.value, '$.valor') AS valor FROM eventos_raw, json_each(dados, '$.respostas') AS e",
    ] {
        assert_eq!(masked_by(&declared(), sql, &columns, row("cor")), row("cor"), "{sql}");
        let told = masked_by(&declared(), sql, &columns, row("apelido"));
        assert_eq!(told, json!(["apelido", "***"]), "{sql}");
    }
    for sql in [
        "SELECT 'cor' AS campo, e.value AS valor FROM eventos_raw, jsonb_each_text(dados) AS e",
        "SELECT campo, valor FROM (SELECT 'cor' AS campo, value AS valor FROM eventos_raw, json_each(dados)) AS t",
        "SELECT cor AS campo, e.value AS valor FROM eventos_raw, jsonb_each_text(dados) AS e",
        "SELECT a.key AS campo, b.value AS valor FROM eventos_raw, json_each(dados) AS a, json_each(a.value) AS b",
        "SELECT key AS campo, lead(value) OVER (ORDER BY key) AS valor FROM eventos_raw, json_each(dados)",
        "SELECT a.campo, b.valor FROM (SELECT key AS campo FROM eventos_raw, json_each(dados)) AS a, (SELECT value AS valor FROM eventos_raw, json_each(dados)) AS b",
        "WITH e AS (SELECT key AS campo, value AS valor FROM eventos_raw, json_each(dados)) SELECT a.campo, b.valor FROM e AS a, e AS b",
        "SELECT key AS campo, (jsonb_each_text(dados)).value AS valor FROM eventos_raw, LATERAL json_each(dados)",
        "SELECT e.key AS campo, v.value AS valor FROM eventos_raw, LATERAL jsonb_each(dados) AS e, LATERAL jsonb_array_elements_text(dados) AS v",
        "SELECT key AS campo, value AS valor FROM (SELECT value FROM eventos_raw, LATERAL json_each(dados)) AS t, unnest(ARRAY['cor']) AS key",
        "SELECT key AS campo, value AS valor FROM (SELECT 'cor', value FROM eventos_raw, json_each(dados)) AS t(key, value)",
        "SELECT 'cor' AS campo, e->>'valor' AS valor FROM eventos_raw, LATERAL jsonb_array_elements(dados->'respostas') AS e",
        "SELECT dados->>'campo' AS campo, e->>'valor' AS valor FROM eventos_raw, LATERAL jsonb_array_elements(dados->'respostas') AS e",
        "SELECT e.key AS campo, e.value->>'valor' AS valor FROM eventos_raw, LATERAL jsonb_each(dados) AS e",
    ] {
        let told = masked_by(&declared(), sql, &columns, row("cor"));
        assert_eq!(told, json!(["cor", "***"]), "{sql}");
    }
    for sql in [
        "SELECT key, CASE WHEN true THEN lead(value) OVER () ELSE value END FROM eventos_raw, LATERAL json_each(dados)",
        "SELECT key, (jsonb_each_text(dados)).value FROM eventos_raw, LATERAL json_each(dados)",
    ] {
        assert_eq!(
            masked_by(&declared(), sql, &["key", "value"], row("cor")),
            json!(["cor", "***"]),
            "{sql}"
        );
    }
    let known = "SELECT 'email' AS campo, e.value AS valor FROM eventos_raw, jsonb_each_text(dados) AS e";
    assert_eq!(masked_by(&declared(), known, &columns, json!(["email", 5000])), json!(["email", "***"]));
}

#[test]
fn columns_behind_a_star_that_get_other_names_are_masked() {
    for (sql, column) in [
        ("SELECT d FROM (SELECT * FROM leads) AS x(a, b, c, d)", "d"),
        ("SELECT c FROM (SELECT *, 1 FROM leads) AS x(a, b, c)", "c"),
        ("WITH p(a, b) AS (SELECT * FROM (SELECT nome, telefone FROM leads) q) SELECT b FROM p", "b"),
        (
            "SELECT * FROM (SELECT origem AS rotulo, utm_source AS dado FROM leads) a
             UNION ALL SELECT * FROM (SELECT nome, telefone FROM leads) b",
            "dado",
        ),
        (
            "SELECT * FROM (SELECT origem AS a, utm_source AS dado FROM leads) a UNION ALL SELECT * FROM b",
            "dado",
        ),
        ("SELECT dado FROM (SELECT origem AS a, nome AS dado FROM leads UNION SELECT * FROM b) x", "dado"),
        (
            "WITH t AS (SELECT 1) SELECT * FROM t UNION SELECT * FROM (WITH t AS (SELECT email) SELECT * FROM t)",
            "x",
        ),
        ("SELECT c FROM (leads CROSS JOIN chat_sessions) AS j(a, b, c)", "c"),
        ("SELECT (jsonb_each_text(dados)).* FROM eventos_raw", "value"),
        ("SELECT column1 AS a FROM (VALUES ((SELECT substr(dados, 9, 9) FROM eventos_raw)))", "a"),
        ("SELECT * FROM (SELECT upper(x) FROM (SELECT telefone AS x FROM leads))", "upper(x)"),
        (
            "WITH x AS (SELECT origem AS a FROM leads), y AS (SELECT telefone FROM leads)
             SELECT * FROM x UNION ALL SELECT * FROM y",
            "a",
        ),
        (
            "SELECT * FROM (WITH leads AS (SELECT 1) SELECT origem AS a FROM eventos_raw) x
             UNION ALL SELECT * FROM leads",
            "a",
        ),
        ("SELECT a FROM (SELECT l AS a FROM leads l) t WHERE '$$' = '$$'", "a"),
        ("WITH a AS (SELECT telefone AS b FROM leads) SELECT a::text AS x FROM a", "x"),
    ] {
        hides(sql, column);
    }
    for sql in [
        "SELECT * FROM leads WHERE origem = 'a' UNION ALL SELECT * FROM leads WHERE origem = 'b'",
        "SELECT a FROM (SELECT nome, * FROM leads) AS x(a)",
        "WITH t AS (SELECT * FROM leads) SELECT nome AS a FROM t",
        "SELECT a FROM generate_series(1, 9) AS g(a)",
        "WITH x AS (SELECT origem AS a FROM leads), y AS (SELECT cor FROM leads) SELECT * FROM x UNION ALL SELECT * FROM y",
        "SELECT * FROM (SELECT origem AS a FROM leads) x EXCEPT SELECT * FROM (SELECT cor FROM leads) AS y",
        "WITH x(a) AS (SELECT max(origem) FROM leads) SELECT * FROM x UNION ALL SELECT x.* FROM x",
        "WITH a AS (SELECT to_char(created_at, 'YYYY-MM') AS a, count(*) AS n FROM leads GROUP BY 1) SELECT a FROM a",
        "WITH a AS (SELECT DISTINCT origem AS a FROM leads) SELECT upper(a) AS a FROM a AS b",
        "SELECT a FROM (SELECT origem AS a FROM leads) AS a",
        "SELECT t.max AS a FROM (SELECT origem, max(cor) FROM leads GROUP BY 1) AS t",
    ] {
        assert_eq!(masked(sql, &["a"], json!(["casa"])), json!(["casa"]), "{sql}");
    }
}

#[test]
fn numbers_that_are_called_like_a_table_are_reckoned_with() {
    let funnel = |expr: &str| {
        format!(
            "WITH l AS (SELECT created_at::date AS dia, count(*) AS leads FROM leads GROUP BY 1),
             s AS (SELECT started_at::date AS dia, count(*) AS sessoes FROM chat_sessions GROUP BY 1)
             SELECT {expr} AS a FROM l JOIN s USING (dia)"
        )
    };
    for expr in [
        "leads",
        "leads * 1.0 / nullif(sessoes, 0)",
        "(100 * leads / sessoes)::int",
        "leads::numeric",
        "leads::float8 % 2",
        "leads - lag(leads) OVER (ORDER BY dia)",
        "coalesce(leads, 0) + coalesce(sessoes, 0)",
        "(sessoes + leads)::int::text",
        "round(100.0 * leads / nullif(sessoes, 0), 1)",
    ] {
        assert_eq!(masked(&funnel(expr), &["a"], json!([7])), json!([7]), "{expr}");
    }
    for expr in [
        "leads::text",
        "leads::varchar(40)",
        "leads::name",
        "leads::citext",
        "leads || ''",
        "'' || leads",
        "leads OPERATOR(pg_catalog.||) ''",
        "concat(leads)",
    ] {
        let sql = format!("SELECT {expr} AS a FROM leads WHERE '$$' = '$$'");
        hides(&sql, "a");
    }
}

#[test]
fn a_row_that_is_called_like_a_column_of_another_table_is_a_row() {
    for (sql, column) in [
        ("SELECT cor::text FROM fichas cor", "cor"),
        ("SELECT cor FROM (SELECT * FROM fichas) cor WHERE '$$' = '$$'", "cor"),
        ("WITH cor AS (SELECT * FROM fichas) SELECT cor::text FROM cor", "cor"),
        ("SELECT usuario::text FROM leads usuario", "usuario"),
    ] {
        hides(sql, column);
    }
    for sql in [
        "SELECT cor::text AS a FROM leads cor",
        "SELECT cor::text AS a FROM (SELECT * FROM leads) AS cor",
        "WITH cor AS (SELECT * FROM leads JOIN fichas USING (id)) SELECT cor::text AS a FROM cor",
        "SELECT cor::text AS a FROM (SELECT l.* FROM leads l) AS cor",
        "SELECT cor::text AS a FROM (SELECT * FROM (leads CROSS JOIN fichas)) AS cor",
        "WITH cor AS (TABLE leads) SELECT cor::text AS a FROM cor",
    ] {
        assert_eq!(masked(sql, &["a"], json!(["azul"])), json!(["azul"]), "{sql}");
    }
}

#[test]
fn a_column_that_is_called_like_a_function_is_no_call_where_the_statement_names_it() {
    let day = |columns: &[&str], sql: &str| {
        let row = json!(["2026-01-01", 7]);
        assert_eq!(masked(sql, columns, row.clone()), row, "{sql}");
    };
    day(
        &["date", "n"],
        "WITH s AS (SELECT s.started_at::date AS date, count(*) AS n FROM chat_sessions s GROUP BY 1)
         SELECT s.date, s.n FROM s",
    );
    day(
        &["date", "sessoes"],
        "WITH a AS (SELECT created_at::date AS date, count(*) AS m FROM leads GROUP BY 1),
         b AS (SELECT started_at::date AS date, count(*) AS n FROM chat_sessions GROUP BY 1),
         c AS (SELECT a.*, b.n AS sessoes FROM a JOIN b USING (date))
         SELECT c.date, c.sessoes FROM c",
    );
    day(
        &["date", "count"],
        "WITH b AS (SELECT *, created_at::date AS date FROM leads),
         u AS (SELECT * FROM b WHERE origem = 'x')
         SELECT u.date, count(*) FROM u GROUP BY 1",
    );
    day(
        &["dia", "n"],
        "WITH s AS (SELECT s.started_at::date AS date, count(*) AS n FROM chat_sessions s GROUP BY 1)
         SELECT to_char(s.date, 'DD/MM') AS dia, (SELECT max(s.n)) AS n FROM s WHERE '$$' = '$$'",
    );
    for sql in [
        "SELECT x.reverse AS a, 1 AS reverse FROM leads, unnest(ARRAY[email]) AS x",
        "WITH x AS (SELECT x.reverse AS reverse FROM leads, unnest(ARRAY[email]) AS x) SELECT x.reverse AS a FROM x",
        "WITH s AS (SELECT s.text AS text FROM leads s) SELECT s.text AS a FROM s WHERE '$$' = '$$'",
        "WITH s AS (SELECT nome AS text FROM leads) SELECT (SELECT s.text FROM leads s) AS a FROM s WHERE '$$' = '$$'",
    ] {
        let columns: &[&str] = if sql.contains("1 AS") { &["a", "reverse"] } else { &["a"] };
        let row = vec![json!("so secreto"); columns.len()];
        assert_eq!(masked(sql, columns, json!(row))[0], json!("***"), "{sql}");
    }
}

#[test]
fn names_of_members_that_are_made_of_a_field_are_masked() {
    for sql in [
        "SELECT jsonb_object_agg(telefone, id) AS j FROM leads",
        "SELECT json_object_agg(telefone, score_qualificacao) AS j FROM leads",
        "SELECT json_build_object(telefone, id) AS j FROM leads",
        "SELECT json_build_object('x', 1, telefone, id) AS j FROM leads",
        "SELECT json_group_object(telefone, id) AS j FROM leads",
        "SELECT json_object(telefone, id) AS j FROM leads",
        "SELECT JSON_OBJECT(telefone : id) AS j FROM leads",
        "SELECT j FROM (SELECT jsonb_object_agg(telefone, id) AS j FROM leads) t",
        "SELECT jsonb_object_agg(e.value, 1) AS j FROM leads, LATERAL jsonb_each_text(metadata) AS e",
        "SELECT jsonb_set('{}', ARRAY[telefone], '1') AS j FROM leads",
        "SELECT json_set('{}', '$.' || telefone, 1) AS j FROM leads",
        "SELECT json('{\"' || telefone || '\": 1}') AS j FROM leads",
        "SELECT ('{\"' || telefone || '\": 1}')::jsonb AS j FROM leads",
        "SELECT '{\"a\": {\"' || telefone || '\": 1}}' -> 'a' AS j FROM leads",
        "SELECT json_extract(x, '$.a') AS j FROM (SELECT '{\"a\": {\"' || telefone || '\": 1}}' AS x FROM leads)",
    ] {
        assert_eq!(masked(sql, &["j"], json!([{"3123-5678": "7"}])), json!(["***"]), "{sql}");
    }
    for sql in [
        "SELECT jsonb_object_keys(jsonb_object_agg(telefone, id)) AS k FROM leads",
        "SELECT json_object_keys(('{\"' || telefone || '\": 1}')::json) AS k FROM leads",
        "SELECT key AS k FROM json_each((SELECT json_group_object(telefone, id) FROM leads))",
        "SELECT e.c AS k FROM leads, LATERAL jsonb_each((SELECT jsonb_object_agg(telefone, 1))) AS e(c, v)",
    ] {
        hides(sql, "k");
    }
    let merged = "SELECT metadata || jsonb_build_object('quem', usuario) AS j FROM eventos_raw";
    let told = json!([{"quem": "Ana", "origem": "site"}]);
    assert_eq!(masked(merged, &["j"], told.clone()), told);
    let readable = "SELECT json_build_object('x', telefone, 'n', id) AS j FROM leads";
    assert_eq!(
        masked(readable, &["j"], json!([{"x": "3123-5678", "n": 7}])),
        json!([{"x": "***78", "n": 7}]),
        "names that the statement gives stay"
    );
    let named = "SELECT jsonb_object_agg(origem, telefone) AS j FROM leads";
    assert_eq!(masked(named, &["j"], json!([{"site": "3123-5678"}])), json!([{"site": "***78"}]));
}

#[test]
fn what_says_nothing_of_a_field_is_left_alone() {
    for (sql, column) in [
        ("SELECT nome AS x FROM leads", "x"),
        ("SELECT CASE WHEN email IS NULL THEN 'a' ELSE 'b' END AS tem FROM leads", "tem"),
        ("SELECT nome AS n FROM leads WHERE email LIKE '%x' ORDER BY telefone", "n"),
        ("SELECT string_agg(nome, ',' ORDER BY email) AS n FROM leads", "n"),
        ("SELECT metadata->>'origem' AS o FROM leads", "o"),
        ("SELECT localizacao->'pais'->>'nome' AS o FROM leads", "o"),
        ("SELECT json_extract(metadata, '$.origem') AS o FROM leads", "o"),
        ("SELECT to_char(created_at, 'YYYY') AS ano FROM leads", "ano"),
        ("SELECT 'email' AS canal", "canal"),
        ("SELECT array_agg(usuario) AS u FROM eventos_raw", "u"),
        ("SELECT leads.nome FROM leads JOIN chat_sessions c ON c.lead_id = leads.id::text", "nome"),
        ("SELECT k FROM leads, LATERAL jsonb_object_keys(metadata) AS k", "k"),
    ] {
        assert_eq!(masked(sql, &[column], json!(["so secreto"])), json!(["so secreto"]), "{sql}");
    }
    let counted = "SELECT email, count(*) AS email_n, length(telefone) AS t, count(DISTINCT email) FROM leads GROUP BY 1";
    let row = json!(["ana@x.com", 3, 11, 2]);
    assert_eq!(masked(counted, &["email", "email_n", "t", "count"], row), json!(["a***@***", 3, 11, 2]));
}

#[test]
fn columns_are_told_apart_by_their_places_before_and_behind_a_star() {
    let sql = "SELECT lower(telefone), leads.*, upper(email) FROM leads";
    let columns = ["lower", "id", "nome", "upper"];
    let row = masked(sql, &columns, json!(["a", "b", "c", "d"]));
    assert_eq!(row, json!(["***", "b", "c", "***"]));
    let one_of = "SELECT coalesce(email, nome) AS quem FROM leads";
    assert_eq!(masked(one_of, &["quem"], json!(["Ana Souza"])), json!(["Ana Souza"]));
    assert_eq!(masked(one_of, &["quem"], json!(["ana@localhost"])), json!(["a***@***"]));
}

#[test]
fn json_made_of_rows_is_masked_by_its_names_old_and_new() {
    let rows = "SELECT row_to_json(l) AS j FROM leads l";
    let lead = json!([{"nome": "Ana", "telefone": "3123-5678"}]);
    assert_eq!(masked(rows, &["j"], lead), json!([{"nome": "Ana", "telefone": "***78"}]));
    let renamed = "SELECT row_to_json(t) AS j FROM (SELECT nome, telefone AS x FROM leads) t";
    assert_eq!(
        masked(renamed, &["j"], json!([{"nome": "Ana", "x": "3123-5678"}])),
        json!([{"nome": "Ana", "x": "***78"}])
    );
    let pairs = "SELECT key, value FROM leads, LATERAL jsonb_each_text(metadata)";
    assert_eq!(
        masked(pairs, &["key", "value"], json!(["telefone", "3123-5678"])),
        json!(["telefone", "***78"])
    );
    assert_eq!(masked(pairs, &["key", "value"], json!(["origem", "site"])), json!(["origem", "site"]));
    let beside =
        "SELECT nome, value FROM leads, LATERAL jsonb_each_text(metadata) AS e WHERE e.key = 'telefone'";
    assert_eq!(
        masked(beside, &["nome", "value"], json!(["Ana", "ligue"])),
        json!(["Ana", "***"]),
        "a column is no key"
    );
    for gathered in [
        "SELECT jsonb_agg(e.value) AS j FROM leads, LATERAL jsonb_each(metadata) AS e",
        "SELECT array_agg(e) AS j FROM leads, LATERAL jsonb_array_elements_text(metadata) AS e",
        "SELECT jsonb_path_query_array(dados, '$.*') AS j FROM eventos_raw",
    ] {
        assert_eq!(
            masked(gathered, &["j"], json!([["ligue", "site"]])),
            json!([["***", "***"]]),
            "{gathered}"
        );
    }
    let renamed =
        "SELECT json_object_agg(l.id, e.value) AS j FROM leads l, LATERAL jsonb_each_text(metadata) AS e";
    assert_eq!(masked(renamed, &["j"], json!([{"7": "ligue"}])), json!([{"7": "***"}]));
    let lists = "SELECT array_agg(metadata) AS j FROM leads";
    assert_eq!(
        masked(lists, &["j"], json!([[{"nome": "Ana", "telefone": "ligue"}]])),
        json!([[{"nome": "Ana", "telefone": "***"}]])
    );
    let values = "SELECT value FROM leads, LATERAL jsonb_each_text(metadata)";
    assert_eq!(masked(values, &["value"], json!(["site"])), json!(["***"]), "the name is lost");
}

#[test]
fn a_statement_that_is_not_understood_is_masked_as_a_whole() {
    let odd = "SELECT email AS x FROM leads WHERE ((((";
    assert_eq!(masked(odd, &["x", "n"], json!(["a", "b"])), json!(["***", "***"]));
    hides("SELECT nome AS x FROM leads WHERE ((((", "x");
    let long = format!("SELECT email AS x FROM leads -- {}", "x".repeat(names::MAX_LENGTH));
    hides(&long, "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_statements_do_not_exhaust_a_worker_s_stack() {
    // The embedded store refuses most of them.
    let long = |sql: &str| {
        for dialect in [Dialect::Postgres, Dialect::Sqlite] {
            masked_in(dialect, &Masking::default(), sql, &["x"], &json!(["a"]));
        }
    };
    // On a worker, whose stack is what a server has.
    let done = tokio::spawn(async move {
        for piece in [
            "||email",
            "+1",
            "::text",
            " UNION SELECT 1",
            ",email",
            "->'a'",
            " AND true",
            " COLLATE x",
            "[1]",
        ] {
            long(&format!("SELECT email{}", piece.repeat((names::MAX_LENGTH - 20) / piece.len())));
        }
        for (open, close) in
            [("(", ")"), ("lower(", ")"), ("(SELECT ", ")"), ("NOT ", ""), ("- ", ""), ("CASE WHEN ", "")]
        {
            let deep = names::MAX_LENGTH / (open.len() + close.len() + 1);
            long(&format!("SELECT {}email{}", open.repeat(deep), close.repeat(deep)));
        }
    });
    done.await.expect("no panic");
}

#[test]
fn calls_inside_one_another_are_looked_at_once() {
    for (open, close) in [
        ("jsonb_extract_path(", ", origem)"),
        ("json_extract(", ", origem)"),
        ("json_build_object(", ", 1)"),
        ("jsonb_set('{}', ", ", '1')"),
    ] {
        let sql = format!("SELECT {}telefone{} AS a FROM leads", open.repeat(40), close.repeat(40));
        assert_eq!(
            masked_in(Dialect::Postgres, &Masking::default(), &sql, &["a"], &json!(["x"])),
            json!(["***"])
        );
    }
    let steps: Vec<String> =
        (1..=40).map(|i| format!(", a{i} AS (SELECT n{0} || n{0} AS n{i} FROM a{0})", i - 1)).collect();
    hides(
        &format!("WITH a0 AS (SELECT telefone AS n0 FROM leads){} SELECT n40 FROM a40", steps.concat()),
        "n40",
    );
    assert_eq!(
        masked("SELECT jsonb_path_query(nome) AS a FROM leads", &["a"], json!(["x"])),
        json!(["x"]),
        "no path"
    );
}

#[test]
fn a_statement_is_read_as_the_embedded_store_reads_it() {
    let masked = |sql: &str, columns: &[&str], cells: Value| {
        masked_in(Dialect::Sqlite, &Masking::default(), sql, columns, &cells)
    };
    for sql in [
        "SELECT nome FROM leads WHERE metadata ? 'empresa'",
        r"SELECT nome FROM leads WHERE nome <> E'd\'Ávila'",
        "SELECT nome FROM leads WHERE nome <> $$d'Ávila$$",
        "SELECT nome FROM leads WHERE nome MATCH 'Ana'",
    ] {
        assert_eq!(masked(sql, &["nome"], json!(["Ana"])), json!(["Ana"]), "{sql}");
    }
    let quoted = r"SELECT E'\'' AS a, hex(email) AS origem, ' FROM leads --' AS b FROM leads";
    assert_eq!(masked(quoted, &["a", "origem", "b"], json!(["'", "616E61", "x"]))[1], json!("***"));
    // PostgreSQL's comments end where SQLite's go on, and the other way round.
    let nested = "SELECT nome AS a, /* /* */ hex(email) AS origem --*/ origem\n FROM leads";
    assert_eq!(masked(nested, &["a", "origem"], json!(["Ana", "616E61"])), json!(["Ana", "***"]));
}

#[test]
fn an_answer_of_another_number_of_columns_than_the_statement_is_masked() {
    assert_eq!(masked("SELECT nome AS n FROM leads", &["n", "m"], json!(["a", "b"])), json!(["***", "***"]));
    assert_eq!(masked("SELECT nome, *, origem FROM leads", &["nome"], json!(["a"])), json!(["***"]));
}
