use serde_json::json;

use super::*;

/// What a row of these columns and cells is after the statement.
fn masked(sql: &str, columns: &[&str], cells: Value) -> Value {
    let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
    let cells = cells.as_array().cloned().expect("cells");
    let of = |dialect| {
        let mut rows = [cells.clone()];
        Masking::default().rows(
            sql,
            dialect,
            ["metadata", "dados", "localizacao"].into_iter(),
            &columns,
            &mut rows,
        );
        json!(rows[0])
    };
    let postgres = of(Dialect::Postgres);
    if !sql.contains("::") && !sql.contains("LATERAL") && !sql.contains("unnest") && !sql.contains("WITHIN") {
        assert_eq!(of(Dialect::Sqlite), postgres, "{sql}");
    }
    postgres
}

/// A statement of one column whose value is hidden whatever it looks like.
fn hides(sql: &str, column: &str) {
    assert_eq!(masked(sql, &[column], json!(["so secreto"])), json!(["***"]), "{sql}");
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
    ] {
        hides(sql, column);
    }
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
    // On a worker, whose stack is what a server has.
    let done = tokio::spawn(async {
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
            let sql = format!("SELECT email{}", piece.repeat((names::MAX_LENGTH - 20) / piece.len()));
            masked(&sql, &["x"], json!(["a"]));
        }
        for (open, close) in
            [("(", ")"), ("lower(", ")"), ("(SELECT ", ")"), ("NOT ", ""), ("- ", ""), ("CASE WHEN ", "")]
        {
            let deep = names::MAX_LENGTH / (open.len() + close.len() + 1);
            masked(&format!("SELECT {}email{}", open.repeat(deep), close.repeat(deep)), &["x"], json!(["a"]));
        }
    });
    done.await.expect("no panic");
}
