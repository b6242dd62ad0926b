"""What a small measurement runs in: a database, indices, a topic and a sample project, gone when it is over."""

import os
import subprocess
import time
import uuid

from machine import drop_database, drop_indices, fresh_database, remove_groups, remove_topics
from runs import output_of


def timing(what, unit, values):
    return {"what": what, "unit": unit, "values": list(values)}


class Setup:
    """A setup of sluice on the real services, migrated."""

    def __init__(self, binary, run):
        self.binary = binary
        self.name = f"{run}_{uuid.uuid4().hex[:6]}"
        base, _ = os.environ["DATABASE_URL"].rsplit("/", 1)
        self.env = os.environ | {
            "KAFKA_TOPIC": self.name,
            "DATABASE_URL": f"{base}/{self.name}",
            "ELASTICSEARCH_INDEX_PREFIX": f"{self.name}-",
            "SLUICE_GROUP_PREFIX": self.name,
            "SLUICE_LOG": "error",
            # Nothing is read from there, unless a sample project is put in its place.
            "SUPABASE_URL": "http://127.0.0.1:9",
            "SUPABASE_KEY": "sb_secret_sample",
        }

    def __enter__(self):
        fresh_database(self.name)
        self.run("migrate")
        return self

    def __exit__(self, *_):
        drop_database(self.name)
        drop_indices(self.name)
        remove_topics(self.name)
        remove_groups(self.name)

    def run(self, *arguments):
        return output_of([self.binary, *arguments], self.env)

    def append(self, events):
        """Appends so many generated events, which go into no project's topic."""
        generated = {"SUPABASE_URL": "", "SUPABASE_KEY": "", "SLUICE_SAMPLE": "true"}
        return output_of([self.binary, "bench", "append", "--events", str(events)], self.env | generated)

    def seconds(self, *arguments):
        """How long a command takes, its start included."""
        began = time.monotonic()
        self.run(*arguments)
        return time.monotonic() - began

    def sample(self, leads, seed):
        return Sample(self, leads, seed)


class Sample:
    """A project with so many leads, other ones for each seed; the setup reads from it meanwhile."""

    def __init__(self, setup, leads, seed):
        self.setup = setup
        self.command = [setup.binary, "sample", "--port", "0", "--leads", str(leads), "--sessions", "0", "--seed", str(seed)]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, env=self.setup.env, stdout=subprocess.PIPE, text=True)
        # Printed once it answers.
        told = dict(self.process.stdout.readline().strip().split("=", 1) for _ in range(2))
        self.url = told["SUPABASE_URL"]
        self.setup.env |= told
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
