//! A table that no definition knows, with a column of every type of Postgres.

use sluice::source::sample::{SampleColumn, SampleServer};

/// Name, type, and a value as PostgREST sends it.
pub const EVERY_TYPE: [(&str, &str, &str); 30] = [
    ("c_smallint", "smallint", "-32768"),
    ("c_integer", "integer", "2147483647"),
    ("c_bigint", "bigint", "9223372036854775807"),
    ("c_numeric", "numeric", "12345678901234567890.1234567890"),
    ("c_real", "real", "0.1"),
    ("c_double", "double precision", "0.1000000000000000055"),
    ("c_money", "money", "\"R$ 1.234,56\""),
    ("c_boolean", "boolean", "true"),
    ("c_text", "text", "\"São Paulo\\u0000\\ud800\""),
    ("c_varchar", "character varying", "\"abc\""),
    ("c_char", "character", "\"a  \""),
    ("c_uuid", "uuid", "\"5f0c2f6e-7f0a-4f7a-9a55-0d3b8f6f1a01\""),
    ("c_date", "date", "\"2026-05-01\""),
    ("c_time", "time without time zone", "\"10:30:00\""),
    ("c_timetz", "time with time zone", "\"10:30:00-03\""),
    ("c_timestamp", "timestamp without time zone", "\"2026-05-01T10:30:00.123456\""),
    ("c_timestamptz", "timestamp with time zone", "\"2026-05-01T10:30:00.123456+00:00\""),
    ("c_interval", "interval", "\"1 mon 2 days\""),
    ("c_json", "json", "{\"a\":1e999,\"a\":2}"),
    ("c_jsonb", "jsonb", "{\"a\": [1, {\"b\": null}]}"),
    ("c_bytea", "bytea", "\"\\\\xdeadbeef\""),
    ("c_inet", "inet", "\"10.1.2.3/8\""),
    ("c_cidr", "cidr", "\"10.0.0.0/8\""),
    ("c_macaddr", "macaddr", "\"08:00:2b:01:02:03\""),
    ("c_textos", "text[]", "[\"a\",\"b\\\"c\",null]"),
    ("c_numeros", "integer[]", "[1,2,3]"),
    ("c_jsons", "jsonb[]", "[{\"a\":1}]"),
    ("c_enum", "public.fase", "\"aberta\""),
    ("c_range", "int4range", "\"[1,10)\""),
    ("c_composto", "public.endereco", "{\"rua\":\"A\",\"numero\":1}"),
];

/// Its key, which no double holds.
pub const KEY: i64 = 9_007_199_254_740_993;

/// Makes the table `Tudo` of a row with all values and one without any.
pub fn create_every_type(server: &SampleServer) {
    let mut columns = vec![SampleColumn::key("id", "bigint")];
    columns.extend(EVERY_TYPE.map(|(name, format, _)| SampleColumn::new(name, format)));
    let values: Vec<String> =
        EVERY_TYPE.iter().map(|(name, _, value)| format!("\"{name}\":{value}")).collect();
    let full = format!("{{\"id\":{KEY},{}}}", values.join(","));
    server.create_table("public", "Tudo", columns, &[full.as_str(), r#"{"id": 2}"#]).expect("rows");
}
