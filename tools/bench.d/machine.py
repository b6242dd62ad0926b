"""The servers a comparison runs on: databases, indices and topics of its own, and the CPU time they take."""

import os
import urllib.request
from urllib.parse import urlsplit

import psycopg
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

TICKS = os.sysconf("SC_CLK_TCK")
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
    base = os.environ["ELASTICSEARCH_URL"]
    with urllib.request.urlopen(f"{base}/_cat/indices/{name}-*?h=index&expand_wildcards=all") as answer:
        indices = answer.read().decode().split()
    for index in indices:
        urllib.request.urlopen(urllib.request.Request(f"{base}/{index}", method="DELETE")).close()


class Servers:
    """Whatever listens on the ports of the three servers, with its children."""

    def __init__(self):
        hosts = [BROKERS.split(",")[0]] + [
            "{0.hostname}:{0.port}".format(urlsplit(os.environ[name])) for name in ("DATABASE_URL", "ELASTICSEARCH_URL")]
        inodes = listening({int(host.rsplit(":", 1)[1]) for host in hosts})
        self.roots = [pid for pid in pids() if inodes & sockets(pid)]

    def cpu_seconds(self):
        """Of the servers and all their children, ended ones included."""
        stats = {pid: stat for pid in pids() if (stat := stat_of(pid))}
        family = {pid for pid in stats if pid in self.roots or int(stats[pid][1]) in self.roots}
        ticks = sum(int(stats[pid][11]) + int(stats[pid][12]) for pid in family)
        ticks += sum(int(stats[pid][13]) + int(stats[pid][14]) for pid in self.roots if pid in stats)
        return ticks / TICKS


def peak_mib():
    """The most this process ever had resident."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1024


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def stat_of(pid):
    """The fields of /proc/PID/stat after the program's name, which may hold anything."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(") ", 1)[1].split()
    except OSError:
        return None


def listening(ports):
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as file:
            for line in list(file)[1:]:
                columns = line.split()
                if columns[3] == "0A" and int(columns[1].rsplit(":", 1)[1], 16) in ports:
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


class TopicCopy:
    def __init__(self, source, target):
        self.source, self.target = source, target
        self.count = self.bytes = 0

    def make(self):
        topic = Topic(self.source)
        client = AdminClient({"bootstrap.servers": BROKERS})
        partitions = len(client.list_topics(self.source, timeout=30).topics[self.source].partitions)
        for made in client.create_topics([NewTopic(self.target, partitions, 1)]).values():
            made.result(30)
        producer = Producer({"bootstrap.servers": BROKERS, "linger.ms": 20, "compression.type": "zstd"})
        for batch in topic.batches(5_000):
            for message in batch:
                self.count += 1
                self.bytes += len(message.value())
                producer.produce(self.target, message.value(), message.key(), message.partition(),
                                 headers=message.headers())
            producer.flush()

    @staticmethod
    def remove(*topics):
        client = AdminClient({"bootstrap.servers": BROKERS})
        for removed in client.delete_topics(list(topics)).values():
            removed.exception(30)
