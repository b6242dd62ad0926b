//! The promise of the embedded store's dialect: a question is answered as Postgres answers it, or refused with advice.
//!
//! The same questions are asked of both stores over the same rows, and the answers are compared.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, NaiveDateTime};
use serde_json::{Value, json};
use sluice::{
    fault::FaultKind,
    store::{QueryLimits, Store},
};

use crate::support::stores::{Embedded, Postgres, StoreBench, apply, lead_with, session_with};

const LIMITS: QueryLimits =
    QueryLimits { rows: 200, bytes: 100_000, timeout: Duration::from_secs(10), verbatim: false };

/// Rows with what the two stores keep differently: NULL, booleans, numbers in JSON, lists, letters beyond ASCII, times
/// around midnight.
async fn filled<B: StoreBench>() -> (B, Arc<dyn Store>) {
    let bench = B::new().await;
    let store = bench.open();
    let leads = [
        json!({"nome": "José Simões", "telefone": "+55 48 91234-5678", "interesse": ["casa", "lote"], "origem": "google",
            "created_at": "2026-09-30T23:30:00Z", "score_qualificacao": 85, "last_interaction_at": "2026-10-01T00:00:00Z",
            "ativo": true, "nota": 7, "peso": "07", "extra": {"b": 1, "aa": [1, "x"], "a": null}}),
        json!({"nome": "ÁUREA", "telefone": null, "interesse": [], "origem": null, "created_at": "2026-10-01T00:00:00Z",
            "score_qualificacao": 40, "last_interaction_at": null, "ativo": false, "nota": 10, "peso": "3"}),
        json!({"nome": "Simões 10%", "telefone": "11", "interesse": ["casa"], "origem": "meta",
            "created_at": "2026-10-01T12:15:00.5Z", "score_qualificacao": 15, "last_interaction_at": "2026-10-02T10:00:00Z",
            "nota": 1.5, "ativo": "talvez"}),
        json!({"nome": null, "telefone": "(48) 3333", "interesse": ["lote"], "origem": "google",
            "created_at": "2026-11-02T00:00:00Z", "score_qualificacao": null, "last_interaction_at": null, "nota": null}),
        json!({"nome": "Zé 2", "telefone": "0", "interesse": ["casa", "casa"], "origem": "meta",
            "created_at": "2026-10-10T08:00:00Z", "score_qualificacao": 51, "last_interaction_at": "2026-09-01T10:00:00Z",
            "ativo": true}),
    ];
    let sessions = (0_u32..7).map(|i| {
        session_with(
            100 + u128::from(i),
            json!({"is_active": i % 3 == 0, "total_messages": i, "started_at": format!("2026-10-0{}T12:00:00Z", i + 1),
                "ended_at": if i % 2 == 0 { json!(null) } else { json!(format!("2026-10-0{}T12:30:00Z", i + 1)) }}),
        )
    });
    let leads = (1_u128..).zip(leads).map(|(id, lead)| lead_with(id, 0, lead));
    apply(&*store, leads.chain(sessions).collect()).await;
    (bench, store)
}

/// Times and numbers as they are meant, however they are written.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64().map(|number| (number * 1e9).round() / 1e9)),
        // Postgres answers with a text where a double would not hold every digit.
        Value::String(text) if text.len() > 15 && text.contains('.') && text.parse::<f64>().is_ok() => {
            plain(&json!(text.parse::<f64>().ok()))
        }
        Value::String(text) => {
            let instant = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc().to_string());
            let local = text.parse::<NaiveDateTime>().map(|at| at.to_string());
            instant.or(local).map_or_else(|_| value.clone(), Value::String)
        }
        // SQLite has no booleans of its own.
        Value::Bool(truth) => json!(f64::from(*truth)),
        Value::Array(values) => values.iter().map(plain).collect(),
        other => other.clone(),
    }
}

/// What is answered by both.
const ANSWERED: &[&str] = &[
    // Names of WITH.
    "WITH leads AS (SELECT 1 AS a) SELECT count(*) FROM public.leads",
    "WITH a AS (SELECT count(*) AS n FROM leads), leads AS (SELECT 1 AS x) SELECT n FROM a",
    "WITH a AS (SELECT 1 AS x), leads AS (SELECT * FROM public.leads WHERE origem = 'google') SELECT count(*) FROM leads, a",
    "WITH RECURSIVE leads AS (SELECT id FROM public.leads) SELECT count(*) FROM leads",
    "WITH RECURSIVE d(day) AS (SELECT date '2026-09-29' UNION ALL SELECT day + 1 FROM d WHERE day < date '2026-10-02') \
     SELECT day, count(leads.id) FROM d LEFT JOIN leads ON created_at::date = day GROUP BY day ORDER BY day",
    "WITH leads AS (WITH leads AS (SELECT 1 AS a) SELECT * FROM leads) SELECT count(*) FROM leads",
    "WITH \"Leads\" AS (SELECT 1 AS a) SELECT count(*) FROM leads",
    "WITH leads AS (SELECT 1 AS a) SELECT (SELECT count(*) FROM leads), (SELECT count(*) FROM public.leads)",
    "SELECT public.leads.nome FROM public.leads ORDER BY public.leads.id",
    "SELECT count(*) FROM (SELECT public.leads.* FROM public.leads) AS x",
    // JSON as text.
    "SELECT count(*) FROM leads WHERE CASE metadata ->> 'ativo' WHEN 'true' THEN true ELSE false END",
    "SELECT count(*) FROM leads WHERE metadata ->> 'ativo' IS NOT DISTINCT FROM 'true'",
    "SELECT count(*) FROM leads WHERE metadata ->> 'ativo' IS DISTINCT FROM 'true'",
    "SELECT count(*) FROM leads WHERE metadata ->> 'ativo' = ANY(ARRAY['true', 'false'])",
    "SELECT count(*) FROM leads WHERE metadata ->> 'ativo' ILIKE 'TRUE'",
    "SELECT count(*) FROM leads WHERE metadata ->> 'ativo' ~ 'true'",
    "SELECT count(*) FROM (SELECT metadata ->> 'ativo' AS a FROM leads) AS x WHERE a = 'true'",
    "SELECT count(*) FROM (SELECT a FROM (SELECT metadata ->> 'ativo' AS a FROM leads) AS x) AS y WHERE a = 'true'",
    "WITH x AS (SELECT metadata ->> 'nota' AS n FROM leads) SELECT count(*) FROM x WHERE n = '7'",
    "WITH x AS (SELECT metadata ->> 'nota' AS n FROM leads) SELECT count(*) FROM x WHERE n > '3'",
    "SELECT length(metadata ->> 'ativo'), 'v=' || (metadata ->> 'ativo'), upper(metadata ->> 'ativo') FROM leads ORDER BY id",
    "SELECT max(metadata ->> 'nota'), min(metadata ->> 'nota') FROM leads",
    "SELECT coalesce(metadata ->> 'ativo', 'nada') FROM leads ORDER BY id",
    "SELECT metadata ->> 'nota' FROM leads ORDER BY metadata ->> 'nota', id",
    "SELECT metadata ->> 'ativo', count(*) FROM leads GROUP BY metadata ->> 'ativo' ORDER BY 2 DESC, 1",
    "SELECT metadata ->> 'extra', length(metadata ->> 'extra'), metadata -> 'extra' -> 'aa' ->> 0 FROM leads ORDER BY id",
    "SELECT metadata #>> '{extra,b}', metadata #>> '{extra,aa,1}', metadata #> '{extra,aa}' FROM leads ORDER BY id",
    "SELECT (metadata ->> 'nota')::numeric + 1, (metadata ->> 'peso')::int, CAST(metadata ->> 'peso' AS integer) FROM leads ORDER BY id",
    "SELECT sum((metadata ->> 'nota')::numeric) FROM leads",
    "SELECT localizacao -> 'uf', localizacao ->> 'uf', metadata -> 'nota' FROM leads ORDER BY id",
    "SELECT concat(metadata ->> 'ativo', '-', metadata ->> 'nota') FROM leads ORDER BY id",
    // NULL in an order.
    "SELECT id FROM leads ORDER BY last_interaction_at DESC, id LIMIT 3",
    "SELECT id FROM leads ORDER BY last_interaction_at, id LIMIT 3",
    "SELECT id FROM leads ORDER BY last_interaction_at DESC NULLS LAST, id LIMIT 3",
    "SELECT id FROM leads ORDER BY last_interaction_at NULLS FIRST, id LIMIT 3",
    "SELECT id, rank() OVER (ORDER BY last_interaction_at DESC), row_number() OVER (ORDER BY score_qualificacao, id) FROM leads ORDER BY id",
    "SELECT id, first_value(nome) OVER (PARTITION BY origem ORDER BY nome DESC) FROM leads ORDER BY id",
    "SELECT id, count(*) OVER w FROM leads WINDOW w AS (ORDER BY last_interaction_at DESC, id) ORDER BY id",
    "SELECT string_agg(coalesce(origem, '?'), ',' ORDER BY last_interaction_at DESC, id) FROM leads",
    "SELECT last_interaction_at FROM leads UNION SELECT NULL ORDER BY 1 DESC",
    "SELECT origem, count(*) FROM leads GROUP BY origem ORDER BY origem DESC",
    // Division.
    "SELECT sum(1) / 7, sum(1) / count(*) FROM leads",
    "SELECT sum(is_active::int) / count(*), 100 * sum(CASE WHEN is_active THEN 1 ELSE 0 END) / count(*) FROM chat_sessions",
    "SELECT 100 * count(*) FILTER (WHERE is_active) / count(*), 100.0 * count(*) / 7 FROM chat_sessions",
    "SELECT sum(total_messages) / 4, avg(total_messages) / 2, max(total_messages) / 4 FROM chat_sessions",
    "SELECT sum(n) / 2 FROM (SELECT count(*) AS n FROM chat_sessions GROUP BY is_active) AS x",
    "SELECT sum(score_qualificacao) / 7, score_qualificacao / 2 FROM leads GROUP BY 2 ORDER BY 2",
    "SELECT sum(x::bigint) / 2, sum(x) / 2 FROM (SELECT 3 AS x UNION ALL SELECT 2) AS t",
    "SELECT extract(hour FROM created_at) / 2, date_part('hour', created_at) / 5 FROM leads ORDER BY id",
    "SELECT (count(*) + 1) / 2, length('abc') / 2, -7 / 2, 7 % 4, -7 % 4 FROM leads",
    "SELECT 1 / nullif(count(*), 0) FROM leads WHERE id IS NULL",
    // Parts of texts.
    "SELECT substring(nome for 3), substring(nome from 3), substring(nome from 2 for 2) FROM leads ORDER BY id",
    "SELECT substr('abc', -1), substr('abc', -1, 3), substr('abc', 0, 2), substring('abc', 2), substr('ação', 3, 9)",
    "SELECT left(nome, 2), right(nome, 2) FROM leads ORDER BY id",
    // Times.
    "SELECT count(*) FROM leads WHERE created_at > '2026-10-01'",
    "SELECT count(*) FROM (SELECT created_at::date FROM leads) AS x WHERE created_at = '2026-10-01'",
    "SELECT count(*) FROM leads WHERE (SELECT created_at::date) = '2026-10-01'",
    "SELECT count(*) FROM leads WHERE created_at IS DISTINCT FROM '2026-10-01'",
    "SELECT count(*) FROM leads WHERE created_at IS NOT DISTINCT FROM '2026-10-01 00:00'",
    "SELECT created_at::date AS created_at FROM leads WHERE created_at > '2026-10-01' ORDER BY 1",
    "SELECT count(*) FROM leads WHERE (created_at, nome) > ('2026-10-01', 'A')",
    "SELECT coalesce(last_interaction_at, '2026-01-01') FROM leads ORDER BY id",
    "SELECT CASE WHEN origem = 'meta' THEN created_at ELSE '2026-01-01' END FROM leads ORDER BY id",
    "SELECT greatest(created_at, '2026-10-05') FROM leads ORDER BY id",
    "SELECT 'total ' || count(*) * 2, count(*) || ' de ' || count(*) + 1, 'n=' || count(*) / 2 || ' de ' || count(*) FROM leads",
    "SELECT origem || ': ' || count(*) * 100 / 5 || '%' FROM leads GROUP BY origem ORDER BY origem",
    "SELECT count(*) FROM leads WHERE 'google-' || 2 * 3 = 'google-6' AND origem || length(nome) + 1 > 'a'",
    "SELECT 1 + 2 || 'x', 7 % 4 || 'y', 2 * 3 || '' || 4 - 1",
    "SELECT metadata -> 'extra' -> 'aa' -> 1 - 1 FROM leads ORDER BY id",
    "SELECT -2 ^ 2, - 2 ^ 2 ^ 2, 10 - 2 ^ 2, -(2 ^ 2) FROM leads",
    "SELECT created_at || '', 'em ' || created_at::date FROM leads ORDER BY id",
    "SELECT count(*) FROM leads WHERE created_at::date IN ('2026-10-01', '2026-11-02')",
    "SELECT created_at::date FROM leads UNION SELECT date_trunc('day', created_at)::date FROM leads ORDER BY 1",
    "SELECT greatest(created_at, created_at::date), coalesce(created_at::date, created_at) FROM leads ORDER BY id",
    "SELECT CASE WHEN origem = 'meta' THEN created_at::date ELSE created_at END FROM leads ORDER BY id",
    // Booleans, lists, numbers as texts.
    "SELECT count(*) FROM chat_sessions WHERE is_active = 'true'",
    "SELECT count(*) FROM chat_sessions WHERE is_active <> 'f'",
    "SELECT is_active || '', is_active::text, concat(is_active, '!') FROM chat_sessions ORDER BY id",
    "SELECT coalesce(is_active, 'f') FROM chat_sessions ORDER BY id",
    "SELECT json_build_object('a', is_active, 'b', total_messages > 5, 'c', NULL::boolean) FROM chat_sessions ORDER BY id",
    "SELECT jsonb_build_array(interesse, localizacao -> 'uf', NOT (origem = 'meta'), 'x') FROM leads ORDER BY id",
    "SELECT json_build_object('a', json_build_array(is_active)) ->> 'a' IS NULL FROM chat_sessions ORDER BY id",
    "SELECT count(*) FROM leads WHERE 'true'",
    "SELECT count(*) FROM leads WHERE NOT 'f' AND ('t' OR origem = 'meta')",
    "SELECT count(*) FILTER (WHERE 'no'), count(CASE WHEN 'yes' THEN 1 END) FROM leads JOIN chat_sessions ON 'on'",
    "SELECT count(*) FROM leads WHERE id = '00000000000000000000000000000001'",
    "SELECT id = '00000000000000000000000000000001'::uuid, id = uuid '{00000000-0000-0000-0000-000000000001}' FROM leads ORDER BY id",
    "SELECT upper(id::text)::uuid = id FROM leads ORDER BY id",
    "SELECT is_active AND total_messages > 2, total_messages > 3 FROM chat_sessions ORDER BY id",
    "SELECT count(*) FROM leads WHERE interesse = '{}'",
    "SELECT count(*) FROM leads WHERE interesse <> '{}'",
    "SELECT extract(year FROM created_at) || '/' || extract(month FROM created_at), extract(day FROM created_at)::text FROM leads ORDER BY id",
    "SELECT floor(score_qualificacao / 2)::text, ceil(2.1)::text, floor(2.7::float8)::text FROM leads ORDER BY id",
    "SELECT score_qualificacao::text, total_messages::text || '!' FROM leads, chat_sessions ORDER BY leads.id, chat_sessions.id",
    "SELECT count(*) FROM leads WHERE score_qualificacao = '40' OR score_qualificacao > '50.5'",
    "SELECT count(*) FROM chat_sessions HAVING count(*) > '5'",
    "SELECT length(nome) > '5', char_length(nome) <= '10', octet_length(nome) = '5', strpos(nome, 'é') IN ('2', '3') FROM leads ORDER BY id",
    "SELECT position('m' IN nome) = '3', '5' < length(nome), length(nome) BETWEEN '5' AND '12', -length(nome) > '-6' FROM leads ORDER BY id",
    "SELECT floor(score_qualificacao / 10) = '5', ceil(score_qualificacao / 10) > '4.5', sign(score_qualificacao) = '1' FROM leads ORDER BY id",
    "SELECT to_char(created_at, 'MM')::int = '11', (created_at::date - date '2026-09-30') > '9' FROM leads ORDER BY id",
    "SELECT is_active::int = '1' FROM chat_sessions ORDER BY id",
    "SELECT CASE length(nome) WHEN '10' THEN 'a' WHEN '5' THEN 'b' END, nullif(length(nome), '10') FROM leads ORDER BY id",
    "SELECT coalesce(length(nome), 0) > '5', coalesce(length(nome), '0'), length(nome) + 1 = '6' FROM leads ORDER BY id",
    "SELECT origem, max(length(nome)) FROM leads GROUP BY origem HAVING max(length(nome)) > '5' ORDER BY origem",
    "SELECT count(*) FROM leads WHERE CASE WHEN origem = 'meta' THEN 1 ELSE 0 END = '1'",
    "SELECT count(*) FROM eventos_raw WHERE jsonb_array_length(dados -> 'interesse') = '2'",
    "SELECT 10 < '9', 5 = '5', 2.5 > '10', 1 = ANY(ARRAY[1, 2]), nome ~ 'S', 5 IS DISTINCT FROM '5' FROM leads ORDER BY id",
    "SELECT count(*) FROM (SELECT length(nome) AS n FROM leads UNION ALL SELECT 1) AS x WHERE n > '9'",
    "SELECT coalesce(0, score_qualificacao) / 7, CASE WHEN origem = 'meta' THEN 1 ELSE score_qualificacao END / 2 FROM leads ORDER BY id",
    "SELECT 2.5 || 'x', concat(-2.5, 'y'), 0.5::text FROM leads",
    "SELECT x / 2 FROM (SELECT 3 AS x UNION ALL SELECT 2.5) AS t ORDER BY 1",
    "SELECT 1 + created_at::date = '2026-10-02' FROM leads ORDER BY id",
    "SELECT 1 /* a /* nested */ b */",
    // Patterns.
    "SELECT count(*) FROM leads WHERE nome ~ 'S[[:alpha:]]+$'",
    "SELECT count(*) FROM leads WHERE nome ~ '^[[:upper:]]+$'",
    "SELECT count(*) FROM leads WHERE nome ~ '^[[:alnum:] ]+$'",
    "SELECT count(*) FROM leads WHERE nome ~ '^\\w+ \\w+$'",
    // Lists.
    "SELECT nome, unnest(interesse) FROM leads ORDER BY id, 2",
    "SELECT nome AS id, unnest(interesse) AS value FROM leads ORDER BY id, value",
    // Casts.
    "SELECT CAST(score_qualificacao AS integer), score_qualificacao::int, CAST(2.5 AS integer), CAST('7' AS int) FROM leads ORDER BY id",
    "SELECT (2.5::float8)::int, (3.5::float8)::int, 2.5::numeric::int, (-2.5::numeric)::int",
    "SELECT CAST(created_at AS text), CAST(is_active AS text) FROM leads, chat_sessions ORDER BY leads.id, chat_sessions.id",
    // What JSON and lists have, and NULL ones.
    "SELECT metadata -> 'interesses' ? 'casa', metadata -> 'extra' -> 'aa' ? 'x', metadata -> 'ativo' ? 'talvez' FROM leads ORDER BY id",
    "SELECT metadata ? 'extra', metadata -> 'extra' ? 'a', metadata -> 'nota' ? '7' FROM leads ORDER BY id",
    "SELECT count(*) FROM leads WHERE NOT (metadata -> 'extra' ? 'b')",
    "SELECT count(*) FROM (SELECT CASE WHEN origem = 'google' THEN interesse END AS i FROM leads) AS x WHERE NOT ('casa' = ANY(i))",
    "SELECT count(*) FROM (SELECT CASE WHEN origem = 'google' THEN interesse END AS i FROM leads) AS x WHERE 'casa' <> ALL(i)",
    "SELECT 'casa' = ANY(CASE WHEN origem = 'google' THEN interesse END) FROM leads ORDER BY id",
    "SELECT jsonb_typeof(metadata -> 'nota'), jsonb_typeof(metadata -> 'ativo'), jsonb_typeof(metadata -> 'extra') FROM leads ORDER BY id",
    "SELECT jsonb_typeof(metadata), jsonb_typeof(metadata -> 'extra' -> 'a'), jsonb_typeof(metadata -> 'peso') FROM leads ORDER BY id",
    // Numbers.
    "SELECT round(score_qualificacao, -1), round(2.345, 2), round(-1250, -2), round(2.5), round(-2.5), round(1.005, 2) FROM leads ORDER BY id",
    "SELECT round(15, -(1 + 1)), round(score_qualificacao + 0.449, 1) FROM leads ORDER BY id",
    "SELECT round(2.5::float8), round(3.5::float8), round(valor + 0.5) FROM eventos_raw ORDER BY id",
    "SELECT round(extract(second FROM t)), round(date_part('second', t)), extract(second FROM t)::int FROM (SELECT timestamptz '2026-10-01 12:00:02.5Z' AS t) AS x",
    "SELECT 85.5 % 10, 10 % 0.5, 1 % 0.1, -7.5 % 2, mod(7.5, 2), 7 % -4, (score_qualificacao + 0.5) % 10 FROM leads ORDER BY id",
    "SELECT round(total_messages / 2.0), (total_messages / 2.0)::int, count(*) FROM chat_sessions GROUP BY 1, 2 ORDER BY 1",
    "SELECT round(score_qualificacao / 10) * 10, round(score_qualificacao / 2), (score_qualificacao / 2)::int * 2 FROM leads ORDER BY id",
    "SELECT round((dados ->> 'score_qualificacao')::numeric / 2) FROM eventos_raw WHERE tipo_evento = 'lead' ORDER BY entidade_id",
    "SELECT round(5 / 2.0), (25.0 / 10)::int, cast(5 / 2.0 AS bigint), round(5 / 2::float8), (5 / 2::float8)::int, round(-5 / 2.0)",
    "SELECT round(valor / 2), (valor / 2)::int FROM eventos_raw ORDER BY id",
    "SELECT round(power(2, -1) * 5), round(2 ^ -1 * 5), round(power(2.0, -1) * 5), round(floor(5) / 2), round(floor(5.0) / 2), round(sqrt(25) / 2)",
    "SELECT 0.1 + 0.2 = 0.3, 0.3 - 0.1 = 0.2, 0.3 / 0.1 = 3, 0.1::float8 + 0.2::float8 = 0.3::float8, 2 / 3.0 * 3",
    "WITH t AS (SELECT 0.1 AS n UNION ALL SELECT 0.2) SELECT sum(n) = 0.3, avg(n) = 0.15, sum(n) - 0.3 = 0, floor(sum(n) / 0.1) FROM t HAVING sum(n) = 0.3",
    "WITH t AS (SELECT 0.1 AS n UNION ALL SELECT 0.2 UNION ALL SELECT NULL UNION ALL SELECT 0.7) SELECT n, sum(n) OVER (ORDER BY n ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) = 0.3 FROM t ORDER BY n",
    "SELECT origem, sum(score_qualificacao), avg(score_qualificacao), sum(DISTINCT score_qualificacao * 0.1) FROM leads GROUP BY origem ORDER BY origem",
    "WITH t AS (SELECT score_qualificacao AS s FROM leads UNION ALL SELECT NULL) SELECT s / 20, (SELECT sum(s) / 2 FROM t) FROM t ORDER BY s",
    "WITH t AS (SELECT id, created_at AS em FROM leads UNION ALL SELECT id, NULL FROM leads) SELECT count(*) FROM t WHERE em < '2026-10-01 12:00'",
    "SELECT score_qualificacao * 0.1 = 1.5, score_qualificacao * 0.1, score_qualificacao + 0.1 FROM leads ORDER BY id",
    "SELECT round(1.255 * 100) / 100, round((score_qualificacao - 12) * 1.005, 2) FROM leads ORDER BY id",
    "SELECT count(*) FROM leads WHERE random() < 0 OR random() >= 1",
    // Letters' case.
    "SELECT nome LIKE '%são%', nome LIKE 'Jos%', nome LIKE 'jos%', nome LIKE 'Á%', nome NOT LIKE 'z%' FROM leads ORDER BY id",
    "SELECT count(*) FROM leads WHERE nome ILIKE 'áurea' AND nome NOT LIKE 'áurea'",
    "SELECT 'a\\b' LIKE 'a' || '\\\\b', 'a%b' LIKE 'a\\%' || 'b', 'axb' LIKE 'a\\%' || 'b'",
    // Columns beside aggregates.
    "SELECT nome, leads.origem, count(*) FROM leads GROUP BY id ORDER BY id",
    "SELECT l.nome, l.id || '', count(c.id) FROM leads l LEFT JOIN chat_sessions c ON c.lead_id = l.id::text GROUP BY l.id ORDER BY l.id",
    "SELECT janela_fim, total, max(soma_valor) FROM eventos_agregados GROUP BY janela_inicio, evento, categoria ORDER BY janela_inicio, evento",
    "SELECT upper(origem) AS o, upper(leads.origem) || '!', count(*) FROM leads GROUP BY o ORDER BY o",
    "SELECT date_trunc('day', leads.created_at), count(*) FROM leads GROUP BY date_trunc('day', created_at) ORDER BY 1",
    "SELECT created_at::date, date(created_at), count(*) FROM leads GROUP BY CAST(created_at AS date) ORDER BY 1",
    "SELECT origem, sum(count(*)) OVER (), rank() OVER (ORDER BY count(*) DESC) FROM leads GROUP BY origem ORDER BY origem",
    "SELECT lower(origem), count(*) FROM leads GROUP BY origem HAVING count(*) > 1 ORDER BY max(score_qualificacao), origem",
    "SELECT origem, (SELECT count(*) FROM leads AS b WHERE b.origem = leads.origem) FROM leads GROUP BY origem ORDER BY origem",
    "SELECT max(score_qualificacao) AS nome, 1 AS um, now() IS NULL FROM leads GROUP BY origem ORDER BY nome",
    "SELECT x.a, x.b, count(*) FROM (SELECT origem AS a, score_qualificacao AS b FROM leads) AS x GROUP BY b, a ORDER BY b",
    "SELECT * FROM (SELECT origem FROM leads) AS x GROUP BY origem ORDER BY 1",
    "SELECT (SELECT max(c.id || l.origem) FROM chat_sessions c WHERE c.total_messages > 5) FROM leads l ORDER BY l.id",
    "SELECT i || '!', count(*) FROM leads, unnest(interesse) AS i GROUP BY i ORDER BY 1",
    // Queries in the place of a value.
    "SELECT (SELECT b.origem FROM leads AS b WHERE b.id = leads.id) FROM leads ORDER BY id",
    "SELECT count(*) FROM chat_sessions WHERE total_messages > (SELECT total_messages FROM chat_sessions WHERE started_at = '2026-10-03T12:00:00Z')",
    "WITH m AS (SELECT avg(score_qualificacao) AS m FROM leads) SELECT count(*) FROM leads WHERE score_qualificacao > (SELECT m FROM m)",
    "SELECT (SELECT interesse FROM leads WHERE score_qualificacao = 85), (SELECT nome FROM leads WHERE false), (SELECT 2 UNION SELECT 2)",
    "SELECT json_build_object('a', (SELECT json_build_object('b', origem) FROM leads WHERE score_qualificacao = 85))",
    "SELECT json_build_object('a', (SELECT CASE WHEN origem = 'google' THEN json_build_object('b', origem) END FROM leads WHERE score_qualificacao = 85))",
    "SELECT count(*) FROM leads WHERE (origem, score_qualificacao) = (SELECT origem, score_qualificacao FROM leads WHERE score_qualificacao = 85)",
    "SELECT count(*) FROM leads WHERE id IN ((SELECT id FROM leads WHERE origem = 'google'))",
    "SELECT count(*) FROM leads WHERE origem <> ALL(SELECT origem FROM leads WHERE score_qualificacao > 50)",
    "SELECT (SELECT created_at FROM leads WHERE score_qualificacao = 85) < '2026-10-01', (SELECT is_active FROM chat_sessions WHERE total_messages = 1)",
    // Sets.
    "SELECT 1 UNION SELECT 2 INTERSECT SELECT 2 ORDER BY 1",
    "SELECT id FROM leads WHERE origem = 'google' UNION SELECT id FROM leads WHERE score_qualificacao > 30 INTERSECT SELECT id FROM leads WHERE origem = 'meta' EXCEPT SELECT id FROM leads WHERE score_qualificacao = 85 ORDER BY id",
    "(SELECT id FROM leads ORDER BY id DESC LIMIT 2) UNION ALL (SELECT id FROM leads ORDER BY id LIMIT 1) ORDER BY id",
    "SELECT 1 UNION (SELECT 2 UNION ALL SELECT 2) ORDER BY 1",
    "SELECT count(*) FROM (SELECT 1 EXCEPT (SELECT 2 INTERSECT SELECT 1)) AS x",
    "(SELECT count(*) FROM leads)",
    "WITH RECURSIVE t(n) AS ((SELECT 1) UNION ALL (SELECT n + 1 FROM t WHERE n < 5)) SELECT n FROM t ORDER BY n",
    // Elements of JSON.
    "SELECT i, i = '1', length(i) FROM leads, jsonb_array_elements_text(metadata -> 'extra' -> 'aa') AS i ORDER BY 1",
    "SELECT count(*) FROM jsonb_array_elements_text('[85, true, \"85\", null, {\"b\": 1, \"aa\": 2}]') AS i WHERE i IN ('85', 'true', '{\"b\": 1, \"aa\": 2}')",
    "SELECT string_agg(i::text, '|' ORDER BY length(i::text)) FROM jsonb_array_elements('[10, true, \"x\", [1, 2]]') AS i",
    "SELECT i #>> '{}', count(*) FROM jsonb_array_elements('[\"b\", \"a\", 1, null, \"b\"]') AS i GROUP BY i ORDER BY 1",
    "SELECT i ->> 'a' FROM jsonb_array_elements('[{\"a\": 1}, {\"a\": true}]') AS i ORDER BY 1",
    "SELECT x FROM (SELECT jsonb_array_elements_text('[85, 9]') AS x) AS t WHERE x > '9' OR x = '85'",
    "SELECT jsonb_array_elements_text(metadata -> 'extra' -> 'aa') = 'x' FROM leads",
    // Lists taken apart behind windows.
    "WITH t AS (SELECT *, row_number() OVER (ORDER BY created_at) AS n, count(*) OVER () AS todos FROM leads) SELECT n, todos, unnest(interesse) FROM t ORDER BY n, 3",
    "SELECT unnest(interesse) AS i, count(*), rank() OVER (ORDER BY count(*) DESC) FROM leads GROUP BY 1 ORDER BY 1",
];

/// What Postgres answers or refuses and the embedded store refuses: an answer would be another.
const REFUSED: &[&str] = &[
    "WITH a AS (SELECT 1 FROM b), b AS (SELECT 1) SELECT * FROM a",
    "WITH b AS (SELECT 1 AS x) SELECT * FROM (WITH a AS (SELECT x FROM b), b AS (SELECT 2 AS x) SELECT x FROM a) AS t",
    "SELECT count(*) FROM leads WHERE origem",
    "SELECT count(*) FROM leads WHERE score_qualificacao",
    "SELECT count(*) FROM leads WHERE NOT metadata ->> 'ativo'",
    "SELECT count(*) FROM leads WHERE 'talvez'",
    "SELECT origem FROM leads GROUP BY origem HAVING count(*)",
    "SELECT count(*) FROM leads WHERE created_at >= '2026-11'",
    "SELECT count(*) FROM leads WHERE id = 'x'",
    "SELECT count(*) FROM leads WHERE id = 'x'::uuid",
    "SELECT jsonb_typeof(metadata ->> 'nota') FROM leads",
    "SELECT count(*) FROM leads WHERE strftime('%H', created_at) >= 18",
    "SELECT count(*) FROM leads WHERE strftime('%w', created_at) IN (0, 6)",
    "SELECT count(*) FROM leads WHERE datetime(created_at) IN (SELECT created_at::timestamp FROM leads)",
    "SELECT nullif(created_at::date, created_at) FROM leads",
    "SELECT max(interesse) FROM leads",
    "SELECT id FROM leads ORDER BY interesse",
    "SELECT 1 / 0",
    "SELECT 1 % 0",
    "SELECT count(*) / (SELECT count(*) FROM leads WHERE id IS NULL) FROM leads",
    "SELECT substring(telefone from '\\d+') FROM leads",
    "SELECT count(*) FROM leads WHERE created_at > '2026-10-1'",
    "SELECT count(*) FROM leads WHERE created_at > '20261001'",
    "SELECT count(*) FROM leads WHERE created_at > 'Oct 1 2026'",
    "SELECT count(*) FROM leads WHERE created_at > 'yesterday'",
    "SELECT count(*) FROM leads WHERE created_at IN (SELECT created_at::timestamp FROM leads)",
    "SELECT count(*) FROM leads WHERE created_at = ANY(SELECT created_at::date FROM leads)",
    "SELECT created_at::date FROM leads UNION SELECT date_trunc('day', created_at) FROM leads",
    "SELECT metadata ->> 'nota' > 3 FROM leads",
    "SELECT (metadata ->> 'nota') + 1 FROM leads",
    "SELECT sum(metadata ->> 'nota') FROM leads",
    "WITH x AS (SELECT metadata ->> 'nota' AS n FROM leads) SELECT count(*) FROM x WHERE n > 3",
    "SELECT nome + 1 FROM leads",
    "SELECT count(*) FROM chat_sessions WHERE is_active = 'talvez'",
    "SELECT (sum(score_qualificacao) / 7)::text FROM leads",
    "SELECT 'média ' || avg(score_qualificacao) FROM leads",
    "SELECT metadata || '{\"a\": 1}' FROM leads",
    "SELECT count(*) FROM leads WHERE interesse = '{casa}'",
    "SELECT count(*) FROM leads WHERE metadata = '{\"a\": 1}'",
    "SELECT interesse::text FROM leads",
    "SELECT count(*) FROM chat_sessions WHERE total_messages = '1.5'",
    "SELECT count(*) FROM leads WHERE length(nome) = '1.5'",
    "SELECT count(*) FROM leads WHERE length(nome) = 'abc'",
    "SELECT 5 = 'abc'",
    "SELECT count(*) FROM leads WHERE length(nome) IN (SELECT '5')",
    "WITH x AS (SELECT '5' AS n) SELECT count(*) FROM leads, x WHERE length(nome) = n",
    "SELECT count(*) FROM leads WHERE id > 5",
    "SELECT count(*) FROM leads WHERE created_at > 5",
    "SELECT count(*) FROM leads WHERE created_at::date IN (1, 2)",
    "SELECT count(*) FROM leads WHERE interesse > 5",
    "SELECT count(*) FROM leads WHERE 5 = ANY(interesse)",
    "SELECT count(*) FROM leads WHERE to_char(created_at, 'MM') = 11",
    "SELECT count(*) FROM leads WHERE left(nome, 1) = 1",
    "SELECT CASE WHEN origem = 'meta' THEN 1 ELSE 'x' END FROM leads",
    "SELECT count(*) FROM leads WHERE interesse ? 'casa'",
    "SELECT count(*) FROM leads WHERE metadata -> 'nota' > 5",
    "SELECT count(*) FROM leads WHERE metadata -> 'nota' = 7",
    "SELECT count(*) FROM leads WHERE metadata -> 'nota' > metadata -> 'peso'",
    "SELECT count(*) FROM leads WHERE metadata -> 'nota' IN (1, 7)",
    "SELECT count(*) FROM leads WHERE metadata -> 'nota' IN (SELECT total_messages FROM chat_sessions)",
    "SELECT count(*) FROM leads WHERE metadata -> 'nota' = metadata ->> 'nota'",
    "SELECT count(*) FROM leads WHERE metadata -> 'ativo' BETWEEN 1 AND 2",
    "SELECT count(*) FROM leads WHERE metadata ->> 'ativo' = true",
    "SELECT count(*) FROM leads WHERE coalesce(metadata ->> 'nota', 0) IS NULL",
    "SELECT sum(metadata -> 'nota') FROM leads",
    "SELECT max(metadata -> 'nota') FROM leads",
    "SELECT (metadata -> 'nota') * 2 FROM leads",
    "SELECT metadata -> 'nota' + 1 FROM leads",
    "SELECT dados - 'nome' FROM eventos_raw",
    "SELECT id FROM leads ORDER BY metadata -> 'nota' DESC",
    "SELECT metadata -> 'nota' AS nota, id FROM leads ORDER BY nota",
    "SELECT id, metadata -> 'nota' FROM leads ORDER BY 2",
    "SELECT 5.5 % 0",
    "SELECT mod(5.5, 0)",
    "SELECT origem, nome, count(*) FROM leads GROUP BY origem",
    "SELECT nome, count(*) FROM leads",
    "SELECT upper(nome) || max(origem) FROM leads",
    "SELECT leads.*, count(*) FROM leads GROUP BY origem",
    "SELECT *, count(*) FROM leads",
    "SELECT total, count(*) FROM eventos_agregados GROUP BY janela_inicio, evento",
    "SELECT nome FROM (SELECT * FROM leads) AS x GROUP BY id",
    "SELECT date_trunc('day', created_at), count(*) FROM leads GROUP BY date_trunc('month', created_at)",
    "SELECT origem FROM leads GROUP BY origem HAVING nome > 'a'",
    "SELECT origem FROM leads GROUP BY origem ORDER BY nome",
    "SELECT count(*), sum(total_messages) OVER () FROM chat_sessions",
    "SELECT origem, (SELECT count(*) FROM chat_sessions AS c WHERE c.lead_id = leads.nome) FROM leads GROUP BY origem",
    "SELECT 1 UNION SELECT versao + count(*) FROM leads",
    "SELECT sum(total_messages) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW) / 2 FROM chat_sessions",
    "SELECT nome, (SELECT c.total_messages FROM chat_sessions AS c) FROM leads",
    "SELECT count(*) FROM leads WHERE id = (SELECT id FROM leads WHERE origem = 'google')",
    "SELECT count(*) FROM leads WHERE (origem, nome) = (SELECT origem, nome FROM leads)",
    "SELECT (SELECT max(l.score_qualificacao) FROM chat_sessions AS c) FROM leads AS l",
    "SELECT (SELECT unnest(interesse)) FROM leads",
    "SELECT count(*) FROM leads, jsonb_array_elements_text(metadata -> 'extra' -> 'aa') AS i WHERE i > 80",
    "SELECT count(*) FROM leads CROSS JOIN LATERAL jsonb_array_elements_text(metadata -> 'extra' -> 'aa') AS x(i) WHERE x.i IN (1, 2)",
    "SELECT count(*) FROM leads, unnest(interesse) AS i WHERE i > 80",
    "SELECT i FROM leads, jsonb_array_elements(metadata -> 'extra') AS i",
    "SELECT jsonb_typeof(e.value) FROM leads, json_each(metadata) AS e",
    "SELECT interesse, unnest(interesse), count(*) FROM leads GROUP BY interesse",
    "SELECT l.id, unnest(l.interesse) AS i, count(c.id) FROM leads l LEFT JOIN chat_sessions c ON c.lead_id = l.id::text GROUP BY l.id",
    "SELECT * FROM leads, unnest(interesse) AS i",
    "SELECT *, unnest(interesse) FROM leads",
    "SELECT nome, (SELECT max(score_qualificacao)) FROM leads",
    "SELECT nome, (SELECT count(l.id) FROM chat_sessions LIMIT 1) FROM leads l",
    "SELECT unnest(interesse), count(*) OVER () FROM leads",
    "SELECT unnest(interesse) FROM leads ORDER BY row_number() OVER (ORDER BY id)",
];

#[tokio::test]
async fn the_embedded_store_answers_as_postgres_or_refuses() {
    let ((_one, embedded), (_other, postgres)) = (filled::<Embedded>().await, filled::<Postgres>().await);
    let mut wrong = Vec::new();
    for sql in ANSWERED {
        match (postgres.query(sql, LIMITS).await, embedded.query(sql, LIMITS).await) {
            (Ok(a), Ok(b)) if plain(&json!(a.rows)) == plain(&json!(b.rows)) => {}
            (Ok(a), Ok(b)) => {
                wrong.push(format!("{sql}\n   {}\n   embedded: {}", json!(a.rows), json!(b.rows)));
            }
            (a, b) => {
                wrong.push(format!(
                    "{sql}\n   {:?}\n   embedded: {:?}",
                    a.map(|a| a.rows),
                    b.map(|b| b.rows)
                ));
            }
        }
    }
    for sql in REFUSED {
        match embedded.query(sql, LIMITS).await {
            Err(fault) if fault.kind == FaultKind::Invalid => {}
            outcome => wrong.push(format!("{sql}\n   not refused: {:?}", outcome.map(|answer| answer.rows))),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
