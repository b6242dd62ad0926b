"""Drains one topic by several programs in turn, on the same servers, and tells how fast each was.

A cell is a program and a sink; "new" fills an empty sink, "again" brings the same events once more. Every round visits
every cell, each round in another order, since machines drift. Floors write the very rows or documents that sluice
wrote, without reading or thinking. Run by tools/bench, which makes the environment.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import uuid
from dataclasses import dataclass, field

import floors
from machine import Servers, TopicCopy, fresh_database, drop_database, drop_indices

CONSUMER = os.path.join(os.path.dirname(__file__), "consumer.py")


@dataclass
class Run:
    events: int
    seconds: float
    cpu: float
    peak_mib: float
    server_cpu: float

    @property
    def rate(self):
        return self.events / self.seconds


@dataclass
class Cell:
    program: str
    sink: str
    kind: str
    runs: list = field(default_factory=list)


def measured(command, env, servers):
    """Runs a program that prints "… (N in S s)" or {"seconds": S}; with it, what it and the servers used."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    served = servers.cpu_seconds()
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{out}\n{err[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    report = json.loads(out.splitlines()[-1])
    return Run(report["events"], report["seconds"], cpu, report["peak_mib"], servers.cpu_seconds() - served)


class Bench:
    def __init__(self, options):
        self.options = options
        self.run = f"bench{uuid.uuid4().hex[:8]}"
        self.servers = Servers()
        self.made = []
        self.topics = {}
        self.cells = {}

    def env(self, name, topic):
        base, _ = os.environ["DATABASE_URL"].rsplit("/", 1)
        # A group of its own each time: what another run committed is no business of this one.
        return os.environ | {
            "KAFKA_TOPIC": topic,
            "DATABASE_URL": f"{base}/{name}",
            "ELASTICSEARCH_INDEX_PREFIX": f"{name}-",
            "SLUICE_GROUP_PREFIX": f"{name}-{uuid.uuid4().hex[:6]}",
            "SLUICE_LOG": "error",
            # Nothing is read from there.
            "SUPABASE_URL": "http://127.0.0.1:9",
            "SUPABASE_KEY": "sb_secret_sample",
        }

    def fresh(self):
        name = f"{self.run}_{len(self.made)}"
        fresh_database(name)
        self.made.append(name)
        return name

    def drop(self, name):
        drop_database(name)
        drop_indices(name)
        self.made.remove(name)

    def fill(self, label, binary):
        """A topic with the events as this binary writes them, and a copy of it, for the second delivery."""
        topic = f"{self.run}-{label}"
        name = self.fresh()
        subprocess.run(
            [binary, "bench", "append", "--events", str(self.options.events)],
            env=self.env(name, topic), check=True, stdout=subprocess.DEVNULL)
        self.drop(name)
        copy = TopicCopy(topic, f"{topic}-again")
        copy.make()
        self.topics[label] = (topic, copy.target, copy.bytes / copy.count)

    def note(self, program, sink, kind, run):
        cell = self.cells.setdefault((program, sink, kind), Cell(program, sink, kind))
        cell.runs.append(run)
        print(
            f"{program:<22} {sink:<14} {kind:<6} {run.rate:>8.0f} events/s   {run.cpu:>6.1f} s CPU"
            f"   servers {run.server_cpu:>6.1f} s   {run.peak_mib:>5.0f} MiB", file=sys.stderr, flush=True)

    def sluice(self, label, binary, sink):
        step = {"Postgres": "store", "Elasticsearch": "index", "both": "both"}[sink]
        name = self.fresh()
        for kind, topic in zip(("new", "again"), self.topics[label][:2]):
            run = measured(
                [sys.executable, os.path.join(os.path.dirname(__file__), "sluice.py"), binary, step, str(self.options.events)],
                self.env(name, topic), self.servers)
            self.note(label, sink, kind, run)
        self.drop(name)

    def consumer(self, label, binary, sink):
        name = self.fresh()
        subprocess.run([binary, "migrate"], env=self.env(name, self.topics[label][0]), check=True, stdout=subprocess.DEVNULL)
        for kind, topic in zip(("new", "again"), self.topics[label][:2]):
            run = measured(
                [sys.executable, CONSUMER, sink, str(self.options.events)], self.env(name, topic), self.servers)
            self.note("Python consumer", sink, kind, run)
        self.drop(name)

    def floor(self, sink, connections):
        name = self.fresh()
        topic = next(iter(self.topics.values()))[0]
        env = self.env(name, topic)
        subprocess.run([self.first, "migrate"], env=env, check=True, stdout=subprocess.DEVNULL)
        label = "floor: COPY" if sink == "Postgres" else f"floor: bulk × {connections}"
        for kind in ("new", "again") if sink == "Elasticsearch" else ("new",):
            run = measured(
                [sys.executable, floors.__file__, sink, str(connections), self.captured, name, str(self.options.events)],
                env, self.servers)
            self.note(label, sink, kind, run)
        self.drop(name)

    def capture(self, label, binary):
        """What sluice makes of the topic, as the floors write it."""
        self.first = binary
        self.captured = os.path.join(self.options.folder, "captured")
        os.makedirs(self.captured, exist_ok=True)
        name = self.fresh()
        env = self.env(name, self.topics[label][0])
        for step in ("store", "index"):
            subprocess.run([binary, "bench", step, "--events", str(self.options.events)], env=env, check=True,
                           stdout=subprocess.DEVNULL)
        floors.capture(env["DATABASE_URL"], name, self.captured)
        self.drop(name)

    def measure(self):
        binaries = dict(pair.split("=", 1) for pair in self.options.binary)
        for label, binary in binaries.items():
            self.fill(label, binary)
        label, binary = next(iter(binaries.items()))
        self.capture(label, binary)
        sinks = self.options.sinks.split(",")
        jobs = [lambda s=s, l=l, b=b: self.sluice(l, b, s) for s in sinks for l, b in binaries.items()]
        if not self.options.no_peers:
            jobs += [lambda s=s: self.consumer(label, binary, s) for s in sinks if s != "both"]
            jobs += [lambda: self.floor("Postgres", 1)] if "Postgres" in sinks else []
            jobs += [lambda n=n: self.floor("Elasticsearch", n) for n in (1, 2)] if "Elasticsearch" in sinks else []
        for number in range(self.options.rounds):
            print(f"round {number + 1} of {self.options.rounds}", file=sys.stderr, flush=True)
            random.Random(number).shuffle(jobs)
            for job in jobs:
                job()
        self.tell()

    def tell(self):
        size = next(iter(self.topics.values()))[2]
        print(f"{self.options.events} events of {size:.0f} bytes, {self.options.rounds} rounds; "
              "medians, and in brackets the least and the most\n")
        print("| program | sink | | events/s | µs CPU an event | servers' µs an event | MiB |\n|---|---|---|---|---|---|---|")
        for cell in sorted(self.cells.values(), key=lambda c: (c.sink, c.kind != "new", c.program)):
            rates = [run.rate for run in cell.runs]
            micros = lambda value: statistics.median(value(run) / run.events * 1e6 for run in cell.runs)
            print(f"| {cell.program} | {cell.sink} | {cell.kind} | {statistics.median(rates):,.0f} ({min(rates):,.0f} – {max(rates):,.0f}) "
                  f"| {micros(lambda run: run.cpu):.0f} | {micros(lambda run: run.server_cpu):.0f} "
                  f"| {max(run.peak_mib for run in cell.runs):.0f} |")

    def clean_up(self):
        for name in list(self.made):
            self.drop(name)
        for topic, copy, _ in self.topics.values():
            TopicCopy.remove(topic, copy)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sinks", default="Postgres,Elasticsearch,both")
    parser.add_argument("--no-peers", action="store_true", help="only sluice")
    parser.add_argument("--folder", required=True)
    bench = Bench(parser.parse_args())
    try:
        bench.measure()
    finally:
        bench.clean_up()


if __name__ == "__main__":
    main()
