"""Two workers, one killed half way: how long until the other has drained everything, and what it takes when idle."""

import os
import signal
import subprocess
import time

from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

from machine import BROKERS
from processes import family_cpu_seconds, memory_kib
from small.setup import Setup, timing

TIMES = 3
EVENTS = 40_000
IDLE_SECONDS = 30
TIMEOUT = 180
# As sluice has it unless it is set.
SESSION_TIMEOUT = int(os.environ.get("KAFKA_SESSION_TIMEOUT_SECONDS", "10"))


def measure(binary, run, _):
    waits, idle, resident = [], [], []
    for _ in range(TIMES):
        with Setup(binary, run) as setup:
            setup.append(EVENTS)
            waited, cpu, mib = killed(setup)
            waits.append(waited)
            idle.append(cpu)
            resident.append(mib)
    yield timing(f"one of two workers killed half way through {EVENTS:,} events, until the other has drained all into both sinks "
                 f"(session timeout {SESSION_TIMEOUT} s)", "s", waits)
    yield timing(f"an idle worker on both sinks after that, over {IDLE_SECONDS} s, of one core", "%", idle)
    yield timing("the same worker, resident at the end", "MiB", resident)


def killed(setup):
    progress = Progress(setup.name)
    workers = [subprocess.Popen([setup.binary, "worker"], env=setup.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
               for _ in range(2)]
    try:
        # Of both sinks together: twice the events.
        progress.await_drained(EVENTS, workers)
        workers[0].kill()
        began = time.monotonic()
        workers[0].wait()
        progress.await_drained(2 * EVENTS, workers[1:])
        waited = time.monotonic() - began
        return waited, idle_percent(workers[1]), memory_kib(workers[1].pid, "VmRSS") / 1024
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
                worker.wait()


def idle_percent(worker):
    """Nothing is awaited here: how long it is looked at is what is measured."""
    before, began = family_cpu_seconds(worker.pid), time.monotonic()
    time.sleep(IDLE_SECONDS)
    return (family_cpu_seconds(worker.pid) - before) / (time.monotonic() - began) * 100


class Progress:
    """How far the groups of a setup have committed."""

    def __init__(self, prefix):
        self.prefix = f"{prefix}."
        self.topic = prefix
        self.admin = AdminClient({"bootstrap.servers": BROKERS})

    def drained(self):
        listed = self.admin.list_consumer_groups().result(30).valid
        committed = 0
        for group in (group.group_id for group in listed if group.group_id.startswith(self.prefix)):
            offsets = self.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(30)
            committed += sum(max(place.offset, 0) for place in offsets.topic_partitions if place.topic == self.topic)
        return committed

    def await_drained(self, events, workers):
        deadline = time.monotonic() + TIMEOUT
        while (drained := self.drained()) < events:
            if time.monotonic() > deadline or any(worker.poll() is not None for worker in workers):
                raise SystemExit(f"the workers drained {drained} events, of {events}")
            time.sleep(0.05)
