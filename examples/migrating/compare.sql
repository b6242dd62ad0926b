-- What a database holds of leads, chat sessions and events, a line a day, in an order that both systems share. Run it on both and
-- compare what comes out (docs/migrating.md). Instants count in UTC, numbers without their trailing zeros, and of several
-- rows with one id the newest, because the old system may have written a row more than once.
\set ON_ERROR_STOP on
\pset format unaligned
\pset tuples_only on
\pset null ''
SET TIME ZONE 'UTC';
SET datestyle = 'ISO';
SET extra_float_digits = 0;

SELECT 'leads', created_at::date, count(*), md5(string_agg(md5(ROW(
    id::text, nome, lower(email), telefone, nome_empresa, nome_projeto, trim_scale(score_qualificacao::numeric), status_lead, origem,
    utm_source, utm_medium, utm_campaign, created_at::timestamptz)::text), '' ORDER BY id::text COLLATE "C"))
FROM (SELECT DISTINCT ON (id) * FROM leads ORDER BY id, updated_at DESC NULLS LAST) AS newest
GROUP BY 2 ORDER BY 2;

SELECT 'chat_sessions', started_at::date, count(*), md5(string_agg(md5(ROW(
    id::text, lead_id::text, total_messages::bigint, trim_scale(duration_seconds::numeric), intencao_detectada, nivel_interesse,
    started_at::timestamptz, ended_at::timestamptz, is_active::boolean)::text), '' ORDER BY id::text COLLATE "C"))
FROM (SELECT DISTINCT ON (id) * FROM chat_sessions ORDER BY id, total_messages DESC NULLS LAST, ended_at DESC NULLS LAST) AS newest
GROUP BY 2 ORDER BY 2;

-- One event of a row and a status is compared, however often each system wrote it.
SELECT 'eventos_raw', "timestamp"::date, categoria COLLATE "C", evento COLLATE "C", count(*), md5(string_agg(one, '' ORDER BY one COLLATE "C"))
FROM (SELECT DISTINCT "timestamp", categoria, evento,
        md5(ROW(usuario, valor::numeric, "timestamp"::timestamptz)::text) AS one
    FROM eventos_raw) AS each
GROUP BY 2, 3, 4 ORDER BY 2, 3, 4;
