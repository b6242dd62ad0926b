-- What the questions of people and assistants need; every one of them costs little, since a new row lands at the end of
-- the first and an update that leaves the column alone touches neither of the others.

CREATE INDEX eventos_raw_ingerido_em ON eventos_raw (ingerido_em);
CREATE INDEX leads_email ON leads (lower(email));
CREATE INDEX chat_sessions_lead_id ON chat_sessions (lead_id);
