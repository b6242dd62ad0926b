"""Runs one step of `sluice bench` and tells its figures as JSON."""

import json
import re
import subprocess
import sys

binary, step, events = sys.argv[1:]
told = subprocess.run([binary, "bench", step, "--events", events], check=True, stdout=subprocess.PIPE, text=True).stdout
count, seconds = re.search(r"drained into .*\((\d+) in ([\d.]+) s\)", told).groups()
peak = re.search(r"peak memory of this process\s+(\d+) MiB", told)
print(json.dumps({"events": int(count), "seconds": float(seconds), "peak_mib": int(peak[1])}))
