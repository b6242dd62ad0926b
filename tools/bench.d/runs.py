"""What one run of one program came to, and the file that all of them are kept in."""

import json
import os
import resource
import signal
import subprocess
import tempfile
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


def output_of(command, env):
    """What a command prints, which is no part of what is measured; its log is shown only where it fails."""
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr[-3000:]}")
    return done.stdout


def measured(command, env, servers, cell, whole_family=False):
    """Runs a program that prints {"events": N, "seconds": S, …} when all is in; with it, what it and the servers used.

    One whose start is no part of the measurement prints "begun" after it, and tells its own CPU time since; where its clock
    ran for a share of the events only, the servers' time since then is that share's, too.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = ended = servers.cpu_seconds()
    report = None
    with tempfile.TemporaryFile("w+") as err:
        # In a group of its own, so that it can be ended with all below it.
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=err, text=True, start_new_session=True)
        peak = PeakOfFamily(process.pid) if whole_family else None
        try:
            for line in process.stdout:
                if line == "begun\n":
                    began = servers.cpu_seconds()
                elif line.startswith("{"):
                    ended, report = servers.cpu_seconds(), json.loads(line)
            process.wait()
        finally:
            family_peak = peak.end() if peak else 0
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode != 0 or report is None:
            err.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{err.read()[-6000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    share = report.pop("share", 1)
    return Run(
        *cell, events=report.pop("events"), seconds=report.pop("seconds"), cpu=report.pop("cpu", cpu),
        peak_mib=max(report.pop("peak_mib", 0), family_peak),
        server_cpu={name: (seconds - began[name]) / share for name, seconds in ended.items()},
        server_mib=servers.resident_mib(), besides=report)


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
