"""What a team would write in a day: confluent-kafka, orjson, COPY into a temporary table and ON CONFLICT, parallel_bulk."""

import json
import os
import sys
import time
from datetime import datetime, timezone

import orjson
import psycopg
from elasticsearch import Elasticsearch, OrjsonSerializer
from elasticsearch.helpers import parallel_bulk

from machine import Topic
from processes import peak_mib

BATCH = 5_000
EVENTS = ("id", "tipo_evento", "usuario", "evento", "valor", "timestamp", "categoria", "metadata", "dados",
          "entidade_id", "versao", "particao", "posicao")


def text(value):
    return orjson.dumps(value).decode()


def cell(value):
    return text(value) if isinstance(value, dict) else value


def into_postgres(topic):
    """Events once, and the newest version of each lead, in one transaction a batch."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        columns = [row[0] for row in connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'leads'::regclass AND attnum > 0 AND NOT attisdropped "
            "AND attname NOT IN ('metadata', 'versao', 'evento_id', 'processado_em')")]
        leads = columns + ["metadata", "versao", "evento_id"]
        quoted = lambda names: ", ".join(f'"{name}"' for name in names)
        connection.execute("CREATE TEMP TABLE new_events (LIKE eventos_raw INCLUDING DEFAULTS)")
        connection.execute("CREATE TEMP TABLE new_leads (LIKE leads INCLUDING DEFAULTS)")
        connection.commit()
        for batch in topic.batches(BATCH):
            events = [(orjson.loads(message.value()), message) for message in batch]
            newest = {}
            with connection.cursor() as cursor:
                with cursor.copy(f"COPY new_events ({quoted(EVENTS)}) FROM STDIN") as copy:
                    for event, message in events:
                        entity = event["entidade"]
                        copy.write_row((
                            event["id"], event["tipo_evento"], event["usuario"], event["evento"], event["valor"],
                            event["timestamp"], event["categoria"], text(event["metadata"]), text(event["dados"]),
                            entity["id"], entity["versao"], message.partition(), message.offset()))
                        known = newest.get(entity["id"])
                        if known is None or known["entidade"]["versao"] <= entity["versao"]:
                            newest[entity["id"]] = event
                with cursor.copy(f"COPY new_leads ({quoted(leads)}) FROM STDIN") as copy:
                    for event in newest.values():
                        row = event["dados"]
                        copy.write_row([cell(row.get(name)) for name in columns]
                                       + [text(event["metadata"]), event["entidade"]["versao"], event["id"]])
                cursor.execute(f"INSERT INTO eventos_raw ({quoted(EVENTS)}) SELECT {quoted(EVENTS)} FROM new_events "
                               "ON CONFLICT (id) DO NOTHING")
                cursor.execute(
                    f"INSERT INTO leads AS t ({quoted(leads)}) SELECT {quoted(leads)} FROM new_leads ON CONFLICT (id) DO UPDATE SET "
                    + ", ".join(f'"{name}" = excluded."{name}"' for name in leads if name != "id")
                    + " WHERE t.versao < excluded.versao")
                cursor.execute("TRUNCATE new_events, new_leads")
            connection.commit()


def into_elasticsearch(topic):
    client = Elasticsearch(os.environ["ELASTICSEARCH_URL"], request_timeout=60, serializer=OrjsonSerializer())
    prefix = os.environ["ELASTICSEARCH_INDEX_PREFIX"]

    def actions():
        for batch in topic.batches(BATCH):
            for message in batch:
                event = orjson.loads(message.value())
                now = datetime.now(timezone.utc).isoformat()
                yield {"_op_type": "create", "_index": f"{prefix}eventos", "_id": event["id"],
                       "_source": event | {"processado_em": now}}
                yield {"_op_type": "index", "_index": f"{prefix}leads", "_id": event["entidade"]["id"],
                       "version": event["entidade"]["versao"], "version_type": "external_gte",
                       "_source": event["dados"] | {"processado_em": now}}

    for ok, result in parallel_bulk(client, actions(), thread_count=2, chunk_size=2_000, queue_size=4, raise_on_error=False):
        if not ok and next(iter(result.values()))["status"] != 409:
            raise SystemExit(result)


def main():
    sink, events = sys.argv[1], int(sys.argv[2])
    topic = Topic(os.environ["KAFKA_TOPIC"])
    assert topic.total == events, (topic.total, events)
    began = time.monotonic()
    {"Postgres": into_postgres, "Elasticsearch": into_elasticsearch}[sink](topic)
    print(json.dumps({"events": events, "seconds": time.monotonic() - began,
                      "peak_mib": peak_mib()}))


if __name__ == "__main__":
    main()
