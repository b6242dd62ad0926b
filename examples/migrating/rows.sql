-- The rows of one day, to see which differ: psql -v table=leads -v column=created_at -v day=2026-11-20 -f rows.sql
\set ON_ERROR_STOP on
\pset format unaligned
\pset tuples_only on
SET TIME ZONE 'UTC';
SET datestyle = 'ISO';

SELECT to_jsonb(newest) - '{dados,metadata,versao,evento_id,processado_em,updated_at,last_interaction_at}'::text[]
FROM (SELECT DISTINCT ON (id) * FROM :"table" WHERE (:"column")::date = :'day' ORDER BY id, processado_em DESC) AS newest
ORDER BY id::text COLLATE "C";
