"""What one run of one program came to, and the file that all of them are kept in."""

import json
import os
import resource
import subprocess
from dataclasses import asdict, dataclass, field

from processes import PeakOfFamily


@dataclass
class Run:
    program: str
    sink: str
    # "new" fills an empty sink, "again" brings the same events once more.
    kind: str
    events: int
    seconds: float
    # Of the program and its children; without the start of those that tell of it apart.
    cpu: float
    peak_mib: float
    # By server.
    server_cpu: dict
    server_mib: dict
    # What the program tells besides: its start, its batches.
    besides: dict = field(default_factory=dict)

    @property
    def rate(self):
        return self.events / self.seconds


def measured(command, env, servers, cell, whole_family=False):
    """Runs a program whose last line is {"events": N, "seconds": S, …}; with it, what it and the servers used."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    served = servers.cpu_seconds()
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = PeakOfFamily(process.pid) if whole_family else None
    out, err = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{out[-3000:]}\n{err[-6000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    report = json.loads(out.splitlines()[-1])
    server_cpu = {name: seconds - served[name] for name, seconds in servers.cpu_seconds().items()}
    return Run(
        *cell, events=report.pop("events"), seconds=report.pop("seconds"), cpu=report.pop("cpu", cpu),
        peak_mib=max(report.pop("peak_mib", 0), peak.end() if peak else 0),
        server_cpu=server_cpu, server_mib=servers.resident_mib(), besides=report)


def save(path, about, runs, small):
    """Into the file at once or not at all: what was measured in half an hour is not lost to a full disk."""
    text = json.dumps({"about": about, "runs": [asdict(run) for run in runs], "small": small}, indent=1, ensure_ascii=False)
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{path}.new", path)


def load(path):
    with open(path, encoding="utf-8") as file:
        kept = json.load(file)
    return kept["about"], [Run(**run) for run in kept["runs"]], kept["small"]
