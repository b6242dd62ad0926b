"""Drains one topic by several programs in turn, on the same servers, and keeps what each took.

Every round visits every cell, each round in another order, since machines drift. Floors write the very rows or documents
that sluice wrote, without reading or thinking. Run by tools/bench, which makes the environment.
"""

import argparse
import os
import random
import re
import signal
import sys
import uuid

import floors
import tell
from embedded import Embedded
from machine import Servers, drop_database, drop_indices, forget_offsets, fresh_database, remove_groups, remove_topics, server_versions
from recorder import Recorder
from runs import measured, output_of, save
from small import measure_small

HERE = os.path.dirname(os.path.abspath(__file__))
FLOORS = [("Postgres", "COPY", 1), ("Postgres", "COPY", 2), ("Elasticsearch", "bulk", 1), ("Elasticsearch", "bulk", 2),
          ("Elasticsearch", "replayed bulk", 2), ("both", "COPY and bulk", 2)]
STEPS = {"Postgres": "store", "Elasticsearch": "index", "both": "both"}


def script(*name):
    return os.path.join(HERE, *name)


class Bench:
    def __init__(self, options):
        self.options = options
        self.run = f"bench{uuid.uuid4().hex[:8]}"
        self.servers = Servers()
        self.made = []
        self.topics = {}
        self.runs = []
        self.small = []

    def env(self, name, topic):
        base, _ = os.environ["DATABASE_URL"].rsplit("/", 1)
        # A group of its own each time: what another run committed is no business of this one.
        return os.environ | {
            "KAFKA_TOPIC": topic,
            "DATABASE_URL": f"{base}/{name}",
            "ELASTICSEARCH_INDEX_PREFIX": f"{name}-",
            "SLUICE_GROUP_PREFIX": f"{name}-{uuid.uuid4().hex[:6]}",
            "SLUICE_LOG": "error",
            # What is drained is generated.
            "SUPABASE_URL": "",
            "SUPABASE_KEY": "",
            "SLUICE_SAMPLE": "true",
        }

    def fresh(self):
        name = f"{self.run}_{len(self.runs)}_{uuid.uuid4().hex[:4]}"
        fresh_database(name)
        self.made.append(name)
        return name

    def migrated(self, topic):
        """A database and indices as sluice makes them, for those who write into them without it."""
        name = self.fresh()
        output_of([self.first, "migrate"], self.env(name, topic))
        return name

    def drop(self, name):
        drop_database(name)
        drop_indices(name)
        self.made.remove(name)

    def fill(self, label, binary):
        """A topic with the events as this binary writes them."""
        topic = f"{self.run}-{label}"
        self.topics[label] = topic
        name = self.fresh()
        told = output_of([binary, "bench", "append", "--events", str(self.options.events)], self.env(name, topic))
        self.bytes = int(re.search(r"an event's envelope\s+(\d+) bytes", told)[1])
        self.drop(name)

    def note(self, run):
        self.runs.append(run)
        served = "   ".join(f"{name} {seconds:.1f} s" for name, seconds in run.server_cpu.items())
        print(
            f"{run.program:<26} {run.sink:<14} {run.kind:<6} {run.rate:>8.0f} events/s   {run.cpu:>6.1f} s CPU"
            f"   {run.peak_mib:>5.0f} MiB   {served}", file=sys.stderr, flush=True)

    def sluice(self, label, binary, sink):
        self.twice(label, [sys.executable, script("sluice.py"), binary, STEPS[sink], str(self.options.events)], label, sink)

    def peer(self, program, command, sink, whole_family):
        """Another program that drains the topic, into what sluice made."""
        self.twice(self.label, [*command, sink, str(self.options.events)], program, sink, whole_family)

    def twice(self, label, command, program, sink, whole_family=False):
        """Into an empty sink, and the same topic into it again."""
        topic = self.topics[label]
        name = self.migrated(topic)
        for kind in ("new", "again"):
            self.note(measured(command, self.env(name, topic), self.servers, (program, sink, kind), whole_family))
            forget_offsets(name)
        self.drop(name)

    def floor(self, sink, floor, connections):
        topic = self.topics[self.label]
        name = self.migrated(topic)
        label = f"floor: {floor} × {connections}"
        command = [sys.executable, floors.__file__, floor, str(connections), self.captured, name, str(self.options.events)]
        for kind in ("new", "again") if sink == "Elasticsearch" else ("new",):
            self.note(measured(command, self.env(name, topic), self.servers, (label, sink, kind)))
        self.drop(name)

    def embedded(self, label, binary):
        with Embedded(self.options.folder, binary, self.options.events) as parts:
            for step in ("store", "index"):
                command = [sys.executable, script("sluice.py"), binary, step, str(self.options.events)]
                run = measured(command, parts.env, self.servers, (label, f"embedded {step}", "new"))
                # What the servers did meanwhile was not for it.
                run.server_cpu = {}
                self.note(run)

    def capture(self, label, binary):
        """What sluice makes of the topic, as the floors write it."""
        self.label, self.first = label, binary
        self.captured = os.path.join(self.options.folder, "captured")
        os.makedirs(self.captured, exist_ok=True)
        name = self.fresh()
        env = self.env(name, self.topics[label])
        with Recorder(env["ELASTICSEARCH_URL"], name, self.captured) as recorder:
            for step in ("store", "index"):
                output_of([binary, "bench", step, "--events", str(self.options.events)], env | {"ELASTICSEARCH_URL": recorder.url})
        floors.capture(env["DATABASE_URL"], name, self.captured)
        self.drop(name)

    def jobs(self, binaries):
        sinks = self.options.sinks.split(",")
        jobs = [lambda s=s, l=l, b=b: self.sluice(l, b, s) for s in sinks for l, b in binaries.items()]
        if not self.options.no_embedded:
            jobs += [lambda l=l, b=b: self.embedded(l, b) for l, b in binaries.items()]
        peers = []
        if not self.options.no_peers:
            peers.append(("Python consumer", [sys.executable, script("consumer.py")], ("Postgres", "Elasticsearch"), False))
            jobs += [lambda s=s, f=f, n=n: self.floor(s, f, n) for s, f, n in FLOORS if s in sinks]
        if self.options.spark:
            peers.append(("Spark", [self.options.spark, script("spark", "consume.py")], ("Postgres", "Elasticsearch"), True))
        if self.options.connect:
            peers.append(("Kafka Connect, events only", [sys.executable, script("connect", "consume.py")], ("Postgres",), False))
        return jobs + [lambda p=program, c=command, s=sink, w=whole: self.peer(p, c, s, w)
                       for program, command, offered, whole in peers for sink in offered if sink in sinks]

    def measure(self):
        binaries = dict(pair.split("=", 1) for pair in self.options.binary)
        for label, binary in binaries.items():
            self.fill(label, binary)
        self.capture(*next(iter(binaries.items())))
        jobs = self.jobs(binaries)
        for number in range(self.options.rounds):
            print(f"round {number + 1} of {self.options.rounds}", file=sys.stderr, flush=True)
            random.Random(number).shuffle(jobs)
            for job in jobs:
                job()
                self.save()
        if not self.options.no_small:
            for timing in measure_small(self.first, self.run, self.options.folder):
                self.small.append(timing)
                print(f"{timing['what']}: {tell.range_of(timing)}", file=sys.stderr, flush=True)
                self.save()

    def save(self):
        about = {"events": self.options.events, "bytes": self.bytes, "rounds": self.options.rounds,
                 "cores": os.cpu_count(), "servers": server_versions()}
        save(os.path.join(self.options.folder, "runs.json"), about, self.runs, self.small)

    def clean_up(self):
        for name in list(self.made):
            self.drop(name)
        remove_topics(*self.topics.values())
        remove_groups(self.run)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sinks", default="Postgres,Elasticsearch,both")
    parser.add_argument("--no-peers", action="store_true", help="without the floors and the Python consumer")
    parser.add_argument("--no-embedded", action="store_true")
    parser.add_argument("--no-small", action="store_true")
    parser.add_argument("--spark", metavar="PYTHON", help="the Python that has pyspark")
    parser.add_argument("--connect", action="store_true")
    parser.add_argument("--folder", required=True)
    bench = Bench(parser.parse_args())
    # Ended from outside, it takes what it made with it as otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended on request"))
    try:
        bench.measure()
    finally:
        bench.clean_up()


if __name__ == "__main__":
    main()
