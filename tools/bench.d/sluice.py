"""Runs one step of `sluice bench` and tells its figures as JSON."""

import json
import re
import subprocess
import sys

binary, step, events = sys.argv[1:]
told = subprocess.run([binary, "bench", step, "--events", events], check=True, stdout=subprocess.PIPE, text=True).stdout
rate, count = re.search(r"drained into .*?\s(\d+) events/s \((\d+) in", told).groups()
peak = re.search(r"peak memory of this process\s+(\d+) MiB", told)
# The seconds that it tells are rounded to tenths, the rate is not.
print(json.dumps({"events": int(count), "seconds": int(count) / int(rate), "peak_mib": int(peak[1])}))
