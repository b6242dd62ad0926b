//! How SQLite spells what only PostgreSQL has.

pub(super) const ANY: &str = "x IN (SELECT …) for = ANY, x NOT IN (SELECT …) for <> ALL, x >= (SELECT max(y) FROM t) for >= ALL, \
                              x > (SELECT min(y) FROM t) for > ANY";
pub(super) const BARE_COLUMN: &str = "it in GROUP BY, too, or max(x) for one value of each group";
pub(super) const CONDITION: &str = "x IS NOT NULL, x <> 0, x = 'value', or (x ->> 'key')::boolean";
pub(super) const JSON_CONCAT: &str =
    "json_set(x, '$.key', 'value') for an object with one more key, or x::text for a text";
pub(super) const LIST_HAS: &str = "'a' = ANY(x)";
pub(super) const LIST_ORDER: &str =
    "json_array_length(x), or (SELECT group_concat(value, ', ') FROM json_each(x)) for a text";
pub(super) const LIST_AS_TEXT: &str = "(SELECT group_concat(value, ', ') FROM json_each(x))";
pub(super) const NUMBER_AS_TEXT: &str = "x::integer::text, or the number by itself, in a column of its own";
pub(super) const SAME_CAST: &str = "the same cast on both sides, such as x::date or x::timestamp";
pub(super) const SPREAD: &str = "SELECT sqrt(avg((x - m) * (x - m))) FROM t, (SELECT avg(x) AS m FROM t) for stddev_pop; the sum of the squares \
                                 divided by count(x) - 1 for stddev and variance";
pub(super) const SUBSTRING: &str = "substring(x, 2, 3) for characters by their places, x ~ 'pattern' to test";
pub(super) const TEXT_AS_BOOLEAN: &str = "x = 'true', or (x ->> 'key')::boolean";
pub(super) const TEXT_AS_NUMBER: &str = "x::numeric, or (x ->> 'key')::numeric";
pub(super) const TIME: &str = "'2026-05-01' or '2026-05-01T12:00:00Z', or now() - interval '7 days'";
pub(super) const CAST: &str = "CAST(x AS INTEGER), CAST(x AS REAL) or CAST(x AS TEXT)";
pub(super) const DIFFERENCE: &str =
    "extract(epoch FROM a - b) for seconds, or (julianday(a) - julianday(b)) for days";
pub(super) const DISTINCT_ON: &str =
    "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY a ORDER BY b DESC) AS n FROM t) WHERE n = 1";
pub(super) const DISTINCT_TEXTS: &str =
    "(SELECT string_agg(x, ', ' ORDER BY x) FROM (SELECT DISTINCT x FROM t))";
pub(super) const EACH: &str = "json_each(x) AS e in FROM, with e.key, and x -> e.fullkey for the value";
pub(super) const EACH_TEXT: &str = "json_each(x) AS e in FROM, with e.key, and x ->> e.fullkey for the value";
pub(super) const ELEMENT: &str = "x ->> 0 for the first element";
pub(super) const INTERVAL: &str = "now() - interval '7 days', or datetime('now', '-7 days')";
pub(super) const JSON_CONTAINS: &str = "x ->> 'key' = 'value', x #>> '{}' = 'value' for an element, or EXISTS (SELECT 1 FROM json_each(x) WHERE value = 'a')";
pub(super) const JSON_ITSELF: &str = "x -> 'key', which is JSON, where x ->> 'key' is a text, and x -> e.fullkey for the value of json_each(x) AS e";
pub(super) const JSON_ORDER: &str = "(x ->> 'key')::numeric to sort by a number, x ->> 'key' by a text, and x #>> '{}' for an element's own text";
pub(super) const JSON_PATH: &str = "x ->> '$.a.b'";
pub(super) const JSON_REMOVE: &str =
    "json_remove(x, '$.key') for an object with one key less, or (x ->> 'key')::numeric";
pub(super) const JSON_VALUE: &str = "(x ->> 'key')::numeric for a number, (x ->> 'key')::boolean, x ->> 'key' for a text, or x #>> '{}' for that of an element";
pub(super) const LATERAL: &str = "a subquery in SELECT, or json_each(t.x) in FROM";
pub(super) const MODE: &str =
    "SELECT x FROM t WHERE x IS NOT NULL GROUP BY x ORDER BY count(*) DESC, x LIMIT 1 for mode";
pub(in crate::store::sqlite::query) const ONE_ROW: &str =
    "LIMIT 1 with ORDER BY into it for one of them, or max(x) or string_agg(x, ', ') for one value of all";
pub(super) const OUTER_AGGREGATE: &str = "the aggregate in a WITH of its own: WITH m AS (SELECT max(x) AS x FROM t) SELECT (SELECT x FROM m) FROM t";
pub(super) const PERCENTILE: &str = "percentile_cont(0.9) WITHIN GROUP (ORDER BY x), of one number between 0 and 1, for numbers in ascending order";
pub(super) const ROLLUP: &str = "one GROUP BY and UNION ALL for each total";
pub(super) const UNNEST: &str = "FROM leads, json_each(leads.interesse) AS i, with i.value for the element";
pub(super) const UNNEST_ALL: &str =
    "the columns by their names: SELECT leads.*, i FROM leads, unnest(leads.interesse) AS i";
pub(super) const UNNEST_GROUPS: &str = "WITH t AS (SELECT interesse, count(*) AS n FROM leads GROUP BY interesse) SELECT n, unnest(interesse) FROM t";
pub(super) const UNNEST_WINDOW: &str = "WITH t AS (SELECT *, row_number() OVER (ORDER BY created_at) AS n FROM leads) SELECT n, unnest(interesse) FROM t";
pub(super) const USING: &str = "ON a.x::date = b.x::date, the same cast on both sides";
pub(super) const UUID: &str =
    "all of it, such as '0e984725-c51c-4bf4-9960-e1c80e27aba0', or x::text LIKE '0e98%'";

const FUNCTIONS: [(&str, &str); 45] = [
    ("age", DIFFERENCE),
    ("array_agg", "json_group_array(x)"),
    ("array_length", "nullif(json_array_length(x), 0)"),
    ("array_position", "(SELECT min(key) + 1 FROM json_each(x) WHERE value = 'a')"),
    ("array_to_string", "(SELECT group_concat(value, ', ') FROM json_each(x))"),
    ("ascii", "unicode(x)"),
    ("bool_and", "min(x)"),
    ("bool_or", "max(x)"),
    ("cardinality", "json_array_length(x)"),
    ("cbrt", "power(x, 1.0 / 3)"),
    ("chr", "char(65)"),
    ("corr", "avg(x * y) - avg(x) * avg(y) and the deviations by hand"),
    ("date_bin", "datetime(unixepoch(x) / 900 * 900, 'unixepoch')"),
    ("every", "min(x)"),
    (
        "generate_series",
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 29) SELECT date('now', -i || ' days') FROM n",
    ),
    ("initcap", "upper(substr(x, 1, 1)) || substr(x, 2)"),
    ("json_agg", "json_group_array(x)"),
    ("json_each_text", EACH_TEXT),
    ("json_object_agg", "json_group_object(k, v)"),
    ("json_object_keys", "json_each(x), with the column key"),
    ("jsonb_agg", "json_group_array(x)"),
    ("jsonb_each", EACH),
    ("jsonb_each_text", EACH_TEXT),
    ("jsonb_object_agg", "json_group_object(k, v)"),
    ("jsonb_object_keys", "json_each(x), with the column key"),
    ("lpad", "printf('%5s', x)"),
    ("make_date", "printf('%04d-%02d-%02d', y, m, d)"),
    ("make_interval", INTERVAL),
    ("md5", "the text itself: there is no digest here"),
    ("regexp_match", "x ~ 'pattern' to test, substr and instr to cut"),
    ("regexp_matches", "x ~ 'pattern' to test, substr and instr to cut"),
    (
        "regexp_replace",
        "replace(x, 'old', 'new') for each text that is replaced; by a pattern nothing can be",
    ),
    ("repeat", "replace(printf('%5s', ''), ' ', x) for x five times"),
    ("reverse", "the text as it is: nothing turns it round here"),
    ("rpad", "printf('%-5s', x)"),
    ("starts_with", "x LIKE 'a%'"),
    ("stddev", SPREAD),
    ("stddev_pop", SPREAD),
    ("string_to_array", "split_part(x, ',', n) for the nth part"),
    (
        "to_date",
        "x::date of a text like '2026-11-15'; one like 15/11/2026 is cut with substr and put together with ||",
    ),
    ("to_json", "json_quote(x)"),
    ("to_jsonb", "json_quote(x)"),
    ("translate", "replace(replace(x, 'a', 'b'), 'c', 'd')"),
    ("variance", SPREAD),
    ("width_bucket", "CASE WHEN x < 50 THEN 1 ELSE 2 END"),
];

/// What to write for a function of PostgreSQL's that this store has not.
pub(in crate::store::sqlite::query) fn of_function(name: &str) -> Option<&'static str> {
    FUNCTIONS.iter().find(|(function, _)| *function == name).map(|(_, instead)| *instead)
}
