"""What /proc says of processes: CPU time and memory, of one or of a whole family. Needs nothing installed."""

import os
import threading

TICKS = os.sysconf("SC_CLK_TCK")


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def stat_of(pid):
    """The fields of /proc/PID/stat after the program's name, which may hold anything."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(") ", 1)[1].split()
    except OSError:
        return None


def family(*roots):
    """The stats of these processes and of everything below them."""
    stats = {pid: stat for pid in pids() if (stat := stat_of(pid))}
    found = {pid for pid in roots if pid in stats}
    while more := {pid for pid, stat in stats.items() if int(stat[1]) in found} - found:
        found |= more
    return {pid: stats[pid] for pid in found}


def family_cpu_seconds(*roots):
    """Ended children included, once their parents have looked."""
    return sum(int(field) for stat in family(*roots).values() for field in stat[11:15]) / TICKS


def memory_kib(pid, member):
    try:
        with open(f"/proc/{pid}/{'smaps_rollup' if member == 'Pss' else 'status'}") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(f"{member}:")), 0)
    except OSError:
        return 0


def peak_mib():
    """The most this process ever had resident."""
    return memory_kib(os.getpid(), "VmHWM") / 1024


def family_mib(*roots):
    """Resident now; memory that several of them share, such as Postgres' buffers, counts once."""
    return sum(memory_kib(pid, "Pss") or memory_kib(pid, "VmRSS") for pid in family(*roots)) / 1024


class PeakOfFamily(threading.Thread):
    """Looks a few times a second at how much a process and all below it have resident."""

    def __init__(self, root):
        super().__init__(daemon=True)
        self.root = root
        self.mib = 0
        self.over = threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.3):
            self.mib = max(self.mib, family_mib(self.root))

    def end(self):
        self.over.set()
        self.join()
        return self.mib
