"""Drains a topic by Kafka Connect with Debezium's JDBC sink, two tasks, into a table of events with typed columns.

The connector has nothing that would keep the newest version of each lead beside the events, nor JSON columns: it writes one
table, of the event's fields and the lead's. Batches are as large as the others', and rewritten into multi-row statements.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from urllib.parse import urlsplit

import psycopg
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from machine import BROKERS, Topic  # noqa: E402  # in the folder above
from processes import family_cpu_seconds, memory_kib  # noqa: E402

TABLE = "eventos_connect"
BATCH = 5_000
# As Kafka's own script starts it.
HEAP = ("-Xms256M", "-Xmx2G")
START_TIMEOUT, DRAIN_TIMEOUT = 180, 900

TEXT, LATER = ("string", "text"), ("string", "timestamptz")
EVENT = {"id": ("string", "uuid PRIMARY KEY"), "tipo_evento": TEXT, "usuario": TEXT, "evento": TEXT,
         "valor": ("double", "float8"), "timestamp": LATER, "categoria": TEXT}
ENTITY = {"id": TEXT, "versao": ("int64", "bigint")}
ROW = {name: TEXT for name in ("nome", "email", "telefone", "nome_empresa", "nome_projeto", "status_lead", "origem",
                               "utm_source", "utm_medium", "utm_campaign")} | {
    name: LATER for name in ("created_at", "updated_at", "last_interaction_at")} | {"score_qualificacao": ("double", "numeric")}
PLACE = {name: TEXT for name in ("cidade", "uf", "pais")}


def struct(columns, optional, **nested):
    fields = [{"field": name, "type": kind, "optional": optional} for name, (kind, _) in columns.items()]
    return {"type": "struct", "optional": optional, "fields": fields + [{"field": name} | inner for name, inner in nested.items()]}


SCHEMA = struct(EVENT, False, entidade=struct(ENTITY, False), dados=struct(ROW, True, localizacao=struct(PLACE, True)))
COLUMNS = EVENT | {f"entidade_{name}": column for name, column in ENTITY.items()} | {
    f"dados_{name}": column for name, column in ROW.items()} | {f"dados_localizacao_{name}": column for name, column in PLACE.items()}


def properties(path, settings):
    with open(path, "w", encoding="utf-8") as file:
        for name, value in settings.items():
            file.write(f"{name}={value}\n")
    return path


def started(folder, name):
    """The worker, in standalone mode as one process has one."""
    at = urlsplit(os.environ["DATABASE_URL"])
    worker = properties(f"{folder}/worker.properties", {
        "bootstrap.servers": BROKERS, "listeners": "http://127.0.0.1:0", "offset.storage.file.filename": f"{folder}/offsets",
        # What is committed is what tells that all is in.
        "offset.flush.interval.ms": 250,
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schema.content": json.dumps(SCHEMA),
        "consumer.max.poll.records": BATCH, "consumer.fetch.min.bytes": 1 << 20, "consumer.fetch.max.wait.ms": 100,
    })
    connector = properties(f"{folder}/connector.properties", {
        "name": name, "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector", "tasks.max": 2,
        "topics": os.environ["KAFKA_TOPIC"], "consumer.override.auto.offset.reset": "earliest",
        "connection.url": f"jdbc:postgresql://{at.hostname}:{at.port}{at.path}?reWriteBatchedInserts=true&stringtype=unspecified",
        "connection.username": at.username, "connection.password": at.password or "",
        "insert.mode": "upsert", "primary.key.mode": "record_value", "primary.key.fields": "id",
        "collection.name.format": TABLE, "schema.evolution": "none", "batch.size": BATCH,
        "transforms": "flat", "transforms.flat.type": "org.apache.kafka.connect.transforms.Flatten$Value",
        "transforms.flat.delimiter": "_",
    })
    logging = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "services.d", "log4j2.properties")
    with open(f"{folder}/log", "w", encoding="utf-8") as log:
        return subprocess.Popen(
            ["java", *HEAP, f"-Dlog4j2.configurationFile={logging}", "-cp", os.environ["CONNECT_JARS"],
             "org.apache.kafka.connect.cli.ConnectStandalone", worker, connector], stdout=log, stderr=subprocess.STDOUT)


def awaited(condition, worker, folder, what, timeout, pause):
    deadline = time.monotonic() + timeout
    while not condition():
        # A task that failed is not started again.
        if worker.poll() is not None or "Task is being killed" in log_of(folder) or time.monotonic() > deadline:
            worker.terminate()
            worker.wait()
            wrong = [line for line in log_of(folder).splitlines()
                     if re.search(r"ERROR|^(Caused by: )?[\w.$]+(Exception|Error)\b", line)]
            raise SystemExit("\n".join([f"Kafka Connect: no {what}", *wrong[-20:]]))
        time.sleep(pause)


def log_of(folder):
    with open(f"{folder}/log", encoding="utf-8") as file:
        return file.read()


def drain(folder, events, connection, topic):
    name = os.environ["SLUICE_GROUP_PREFIX"]
    admin = AdminClient({"bootstrap.servers": BROKERS})
    since = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()[0]
    written = f"FROM {TABLE} WHERE xmin::text::bigint >= {since}"

    def all_committed():
        group = f"connect-{name}"
        offsets = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(30)
        return sum(max(place.offset, 0) for place in offsets.topic_partitions if place.topic == topic) == events

    def rows():
        return connection.execute(f"SELECT count(*) {written}").fetchone()[0]

    asked = time.monotonic()
    worker = started(folder, name)
    try:
        awaited(lambda: connection.execute(f"SELECT EXISTS (SELECT {written})").fetchone()[0], worker, folder,
                "first row", START_TIMEOUT, 0.05)
        # What the first look finds was written before the clock ran.
        print("begun", flush=True)
        began, start_cpu = time.monotonic(), family_cpu_seconds(worker.pid)
        found = rows()
        awaited(all_committed, worker, folder, "end", DRAIN_TIMEOUT, 0.1)
        seconds, cpu = time.monotonic() - began, family_cpu_seconds(worker.pid) - start_cpu
        if rows() != events:
            raise SystemExit(f"{rows()} rows were written, of {events}")
        if found > events / 2:
            raise SystemExit(f"{found} of {events} rows were there at the first look: too few events to measure")
        share = (events - found) / events
        return {"events": events, "seconds": seconds / share, "cpu": cpu / share, "share": share,
                "peak_mib": memory_kib(worker.pid, "VmHWM") / 1024,
                "start": {"seconds": began - asked, "cpu": start_cpu}}
    finally:
        worker.terminate()
        worker.wait()


def main():
    events, topic = int(sys.argv[2]), os.environ["KAFKA_TOPIC"]
    held = Topic(topic)
    assert held.total == events, (held.total, events)
    held.consumer.close()
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection, tempfile.TemporaryDirectory() as folder:
        columns = ", ".join(f'"{name}" {kind}' for name, (_, kind) in COLUMNS.items())
        connection.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} ({columns})")
        print(json.dumps(drain(folder, events, connection, topic)), flush=True)


if __name__ == "__main__":
    main()
