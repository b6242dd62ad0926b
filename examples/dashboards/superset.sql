-- Datasets for Apache Superset (or any tool that reads SQL), over the tables that sluice keeps in PostgreSQL.
-- Times are UTC; days are those of São Paulo: write your own zone's name, as SLUICE_TIMEZONE has it. Each statement stands
-- for itself.

-- Leads a day, by status: a time series chart on dia, series status_lead.
SELECT date_trunc('day', created_at AT TIME ZONE 'America/Sao_Paulo') AS dia, coalesce(status_lead, '(sem status)') AS status_lead, count(*) AS leads
FROM leads
GROUP BY 1, 2
ORDER BY 1, 2;

-- Where qualified leads come from: a bar chart on origem.
SELECT coalesce(origem, '(sem origem)') AS origem,
       count(*) AS leads,
       count(*) FILTER (WHERE score_qualificacao >= 50) AS qualificados,
       round(100.0 * count(*) FILTER (WHERE score_qualificacao >= 50) / count(*), 1) AS taxa
FROM leads
GROUP BY 1
ORDER BY qualificados DESC;

-- Events every five minutes, without reading the events: sluice keeps these sums with each batch it writes.
SELECT janela_inicio, categoria, evento, total, soma_valor / nullif(total, 0) AS valor_medio
FROM eventos_agregados
WHERE janela_inicio >= now() - interval '1 day'
ORDER BY janela_inicio;

-- What is asked most: a table.
SELECT pergunta, count(*) AS vezes
FROM chat_sessions, unnest(perguntas_feitas) AS pergunta
GROUP BY 1
ORDER BY vezes DESC
LIMIT 50;

-- How a lead came to its status: a table filtered by entidade_id.
SELECT entidade_id, "timestamp", evento, valor, metadata ->> 'origem' AS origem
FROM eventos_raw
WHERE tipo_evento = 'lead'
ORDER BY entidade_id, versao;

-- From chat to lead: sessions that belong to a lead, and how those leads score.
SELECT coalesce(s.nivel_interesse, '(desconhecido)') AS nivel_interesse,
       count(*) AS sessoes,
       count(l.id) AS com_lead,
       round(avg(l.score_qualificacao), 1) AS score_medio
FROM chat_sessions s
LEFT JOIN leads l ON l.id::text = s.lead_id
GROUP BY 1
ORDER BY sessoes DESC;
