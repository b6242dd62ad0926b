"""Drains a topic by Spark's Structured Streaming, as a team that knows it would: everything but the last step stays in the
JVM, batches are bounded, and a batch that comes twice changes nothing.

Postgres: rows go by JDBC, rewritten into multi-row statements, into unlogged staging tables, and from there by
ON CONFLICT in one transaction. Elasticsearch: each partition sends bulk bodies of the events' own bytes.
"""

import json
import os
import sys
import tempfile
import time

import psycopg
from elasticsearch import Elasticsearch
from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as f

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from processes import family_cpu_seconds  # noqa: E402  # next to this folder, not in this environment

# Smaller batches pay Spark's fixed price more often, larger ones need more memory. What is asked for is shared among the
# partitions and rounded down, and a last batch of ten rows takes more than a second: so this divides no round number.
BATCH = 35_000
HEAP = "1g"
# As many actions as the plain consumer's, of about the floors' size in bytes.
BULK_ACTIONS = 4_000

EVENT = ("id string, tipo_evento string, usuario string, evento string, valor double, timestamp string, categoria string, "
         "entidade struct<id:string,versao:bigint>, metadata string, dados string")
EVENTS = ("id", "tipo_evento", "usuario", "evento", "valor", "timestamp", "categoria", "metadata", "dados",
          "entidade_id", "versao", "particao", "posicao")


def quoted(names):
    return ", ".join(f'"{name}"' for name in names)


def session():
    return (SparkSession.builder.master("local[2]").appName("bench")
            .config("spark.driver.extraClassPath", os.environ["SPARK_JARS"])
            .config("spark.driver.memory", HEAP)
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.ui.enabled", "false")
            .config("spark.sql.shuffle.partitions", "2")
            .config("spark.sql.session.timeZone", "UTC")
            .config("spark.ui.showConsoleProgress", "false")
            .config("spark.log.level", "ERROR")
            .getOrCreate())


class Postgres:
    def __init__(self):
        self.url = os.environ["DATABASE_URL"]
        with psycopg.connect(self.url) as connection:
            types = dict(connection.execute(
                "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'leads'::regclass "
                "AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('metadata', 'versao', 'evento_id', 'processado_em')"))
            for table in ("eventos_raw", "leads"):
                connection.execute(f"CREATE UNLOGGED TABLE IF NOT EXISTS staged_{table} (LIKE {table} INCLUDING DEFAULTS)")
        # The server reads each value as its column's type; lists are the one thing that a string can't say.
        self.row = ", ".join(f"`{name}` {'array<string>' if kind.endswith('[]') else 'string'}" for name, kind in types.items())
        self.columns = list(types)
        name = self.url.rsplit("@", 1)
        self.jdbc = f"jdbc:postgresql://{name[1]}?reWriteBatchedInserts=true&stringtype=unspecified"
        self.user = name[0].rsplit("/", 1)[1].split(":")[0]

    def stage(self, frame, table):
        (frame.write.format("jdbc").option("url", self.jdbc).option("user", self.user)
         .option("driver", "org.postgresql.Driver").option("dbtable", f"staged_{table}")
         .option("batchsize", 10_000).option("isolationLevel", "READ_COMMITTED").mode("append").save())

    def write(self, batch, _):
        leads = self.columns + ["metadata", "versao", "evento_id"]
        with psycopg.connect(self.url) as connection:
            # Empties what a batch that failed half way left.
            connection.execute("TRUNCATE staged_eventos_raw, staged_leads")
        batch.persist()
        self.stage(batch.select(*(name for name in EVENTS)), "eventos_raw")
        newest = Window.partitionBy("entidade_id").orderBy(f.desc("versao"), f.desc("posicao"))
        latest = batch.withColumn("place", f.row_number().over(newest)).where("place = 1")
        row = latest.select("metadata", "versao", f.col("id").alias("evento_id"), f.from_json("dados", self.row).alias("row"))
        self.stage(row.select("row.*", "metadata", "versao", "evento_id"), "leads")
        batch.unpersist()
        with psycopg.connect(self.url) as connection:
            connection.execute(f"INSERT INTO eventos_raw ({quoted(EVENTS)}) SELECT {quoted(EVENTS)} FROM staged_eventos_raw "
                               "ON CONFLICT (id) DO NOTHING")
            connection.execute(
                f"INSERT INTO leads AS t ({quoted(leads)}) SELECT {quoted(leads)} FROM staged_leads ON CONFLICT (id) DO UPDATE SET "
                + ", ".join(f'"{name}" = excluded."{name}"' for name in leads if name != "id")
                + " WHERE t.versao < excluded.versao")


def send(prefix, url):
    """The writer of one partition, in a process of its own: it has text to put together, and nothing to parse."""
    def write(rows):
        client = Elasticsearch(url, request_timeout=60)
        actions = []

        def flush():
            answer = client.bulk(operations=actions, filter_path="items.*.status")
            statuses = {next(iter(item.values()))["status"] for item in answer.get("items", [])}
            if statuses - {200, 201, 409}:
                raise RuntimeError(f"bulk: {statuses}")
            actions.clear()

        now = time.strftime('"processado_em":"%Y-%m-%dT%H:%M:%SZ"}', time.gmtime())
        for row in rows:
            # A lead's id may hold anything that a JSON string may.
            lead = json.dumps(row.entidade_id)
            actions.append(f'{{"create":{{"_index":"{prefix}eventos","_id":"{row.id}"}}}}')
            actions.append(f"{row.value[:-1]},{now}")
            actions.append(f'{{"index":{{"_index":"{prefix}leads","_id":{lead},"version":{row.versao},'
                           '"version_type":"external_gte"}}')
            actions.append(f"{row.dados[:-1]},{now}")
            if len(actions) >= 2 * BULK_ACTIONS:
                flush()
        if actions:
            flush()
        client.close()
    return write


class Search:
    def write(self, batch, _):
        rows = batch.select("id", "entidade_id", "versao", "value", "dados")
        rows.foreachPartition(send(os.environ["ELASTICSEARCH_INDEX_PREFIX"], os.environ["ELASTICSEARCH_URL"]))


def drain(spark, sink, checkpoint):
    source = (spark.readStream.format("kafka")
              .option("kafka.bootstrap.servers", os.environ["KAFKA_BOOTSTRAP_SERVERS"])
              .option("subscribe", os.environ["KAFKA_TOPIC"]).option("startingOffsets", "earliest")
              .option("maxOffsetsPerTrigger", BATCH).load())
    text = source.select(f.col("value").cast("string"), "partition", "offset")
    event = text.select("value", "partition", "offset", f.from_json("value", EVENT).alias("event"))
    events = event.select(
        "value", "event.*", f.col("event.entidade.id").alias("entidade_id"), f.col("event.entidade.versao").alias("versao"),
        f.col("partition").alias("particao"), f.col("offset").alias("posicao"))
    query = (events.writeStream.foreachBatch(sink.write).option("checkpointLocation", checkpoint)
             .trigger(availableNow=True).start())
    query.awaitTermination()
    return [(batch["numInputRows"], batch["durationMs"]["triggerExecution"] / 1000)
            for batch in query.recentProgress if batch["numInputRows"]]


def main():
    name, events = sys.argv[1], int(sys.argv[2])
    # Its workers are to find what this one has.
    os.environ |= {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    asked = time.monotonic()
    spark = session()
    sink = {"Postgres": Postgres, "Elasticsearch": Search}[name]()
    print("begun", flush=True)
    began, start_cpu = time.monotonic(), family_cpu_seconds(os.getpid())
    with tempfile.TemporaryDirectory() as checkpoint:
        batches = drain(spark, sink, checkpoint)
        seconds, cpu = time.monotonic() - began, family_cpu_seconds(os.getpid()) - start_cpu
    if sum(rows for rows, _ in batches) != events:
        raise SystemExit(f"{batches} are not {events} events")
    print(json.dumps({"events": events, "seconds": seconds, "cpu": cpu, "batches": batches,
                      "start": {"seconds": began - asked, "cpu": start_cpu}}), flush=True)
    spark.stop()


if __name__ == "__main__":
    main()
