"""The servers a comparison runs on: databases, indices and topics of its own, and the CPU time they take."""

import json
import os
import re
import urllib.request
from urllib.parse import urlsplit

import psycopg
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from processes import family_cpu_seconds, family_mib, pids

BROKERS = os.environ["KAFKA_BOOTSTRAP_SERVERS"]


def admin():
    return psycopg.connect(os.environ["DATABASE_ADMIN_URL"], autocommit=True)


def fresh_database(name):
    owner = urlsplit(os.environ["DATABASE_URL"]).username
    with admin() as connection:
        connection.execute(f'CREATE DATABASE "{name}" OWNER "{owner}"')


def drop_database(name):
    with admin() as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def drop_indices(name):
    """With their templates: each is in the cluster's state, which every change of an index writes."""
    for path, listed in (("", f"indices/{name}-*?h=index&expand_wildcards=all"), ("/_index_template", f"templates/sluice-{name}-*?h=name")):
        with search(f"/_cat/{listed}") as answer:
            found = answer.read().decode().split()
        for one in found:
            search(f"{path}/{one}", "DELETE").close()


def search(path, method="GET"):
    return urllib.request.urlopen(urllib.request.Request(f"{os.environ['ELASTICSEARCH_URL']}{path}", method=method))


def server_versions():
    with admin() as connection:
        postgres = connection.info.server_version // 10_000
    with search("/") as answer:
        elasticsearch = json.load(answer)["version"]["number"]
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "..", "services.d", "kafka", "pom.xml"), encoding="utf-8") as file:
        kafka = re.search(r"<artifactId>kafka_.*?<version>([\d.]+)<", file.read(), re.S)[1]
    return f"Kafka {kafka}, PostgreSQL {postgres}, Elasticsearch {elasticsearch}"


class Servers:
    """Whatever listens on the ports of the three servers, with its children."""

    def __init__(self):
        places = {"Kafka": BROKERS.split(",")[0]} | {
            name: "{0.hostname}:{0.port}".format(urlsplit(os.environ[setting]))
            for name, setting in (("Postgres", "DATABASE_URL"), ("Elasticsearch", "ELASTICSEARCH_URL"))}
        self.roots = {}
        for name, place in places.items():
            inodes = listening(int(place.rsplit(":", 1)[1]))
            self.roots[name] = [pid for pid in pids() if inodes & sockets(pid)]

    def cpu_seconds(self):
        """Of each server, ended children included."""
        return {name: family_cpu_seconds(*roots) for name, roots in self.roots.items()}

    def resident_mib(self):
        return {name: family_mib(*roots) for name, roots in self.roots.items()}


def listening(port):
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as file:
            for line in list(file)[1:]:
                columns = line.split()
                if columns[3] == "0A" and int(columns[1].rsplit(":", 1)[1], 16) == port:
                    inodes.add(columns[9])
    return inodes


def sockets(pid):
    found = set()
    try:
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        pass
    return found


class Topic:
    """Every record of a topic, once, in the partitions' order."""

    def __init__(self, name):
        self.name = name
        self.consumer = Consumer({
            "bootstrap.servers": BROKERS, "group.id": f"{name}-reader-{os.getpid()}", "enable.auto.commit": False,
            "auto.offset.reset": "earliest", "fetch.message.max.bytes": 8 << 20, "queued.max.messages.kbytes": 65536,
        })
        partitions = self.consumer.list_topics(name, timeout=30).topics[name].partitions
        ends = {p: self.consumer.get_watermark_offsets(TopicPartition(name, p), timeout=30) for p in partitions}
        self.total = sum(high - low for low, high in ends.values())
        self.consumer.assign([TopicPartition(name, p, low) for p, (low, _) in ends.items()])

    def batches(self, size):
        left = self.total
        while left > 0:
            batch = self.consumer.consume(min(size, left), timeout=5)
            for message in batch:
                if message.error():
                    raise RuntimeError(message.error())
            left -= len(batch)
            if batch:
                yield batch
        self.consumer.close()


def remove_topics(*topics):
    client = AdminClient({"bootstrap.servers": BROKERS})
    for removed in client.delete_topics([name for topic in topics for name in (topic, f"{topic}.dlq")]).values():
        removed.exception(30)


def remove_groups(prefix):
    """The groups of whatever drained a setup; Connect's have a word before."""
    client = AdminClient({"bootstrap.servers": BROKERS})
    groups = [group.group_id for group in client.list_consumer_groups().result(30).valid
              if group.group_id.removeprefix("connect-").startswith(prefix)]
    for removed in client.delete_consumer_groups(groups).values() if groups else ():
        removed.exception(30)


def forget_offsets(name):
    """Has the store forget how far it was read, so that a topic is delivered into it again."""
    base, _ = os.environ["DATABASE_ADMIN_URL"].rsplit("/", 1)
    with psycopg.connect(f"{base}/{name}") as connection:
        connection.execute("DELETE FROM sluice_offsets")
