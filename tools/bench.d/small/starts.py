"""From the start of `sluice serve` to its first answer over stdio, on the embedded parts and on the real services."""

import json
import shutil
import subprocess
import tempfile
import time

from embedded import embedded_env
from processes import memory_kib
from small.setup import Setup, timing

TIMES = 7
INITIALIZE = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
    "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}}


def measure(binary, run, folder):
    data = tempfile.mkdtemp(prefix="serve-", dir=folder)
    try:
        yield from answers(binary, embedded_env(data), "embedded parts")
    finally:
        shutil.rmtree(data)
    with Setup(binary, run) as setup:
        yield from answers(binary, setup.env, "real services")


def answers(binary, env, parts):
    # The first one makes what is not there yet, once in the life of a setup.
    first_answer(binary, env)
    took = [first_answer(binary, env) for _ in range(TIMES)]
    yield timing(f"`serve` on the {parts}: start to the first answer", "ms", [seconds * 1000 for seconds, _ in took])
    yield timing(f"`serve` on the {parts}: resident then", "MiB", [mib for _, mib in took])


def first_answer(binary, env):
    began = time.monotonic()
    server = subprocess.Popen([binary, "serve"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
    server.stdin.write(json.dumps(INITIALIZE) + "\n")
    server.stdin.flush()
    line = server.stdout.readline()
    seconds, mib = time.monotonic() - began, memory_kib(server.pid, "VmRSS") / 1024
    # Ends when nobody asks any more.
    _, err = server.communicate()
    if not line or "result" not in json.loads(line):
        raise SystemExit(f"serve answered {line!r}\n{err[-3000:]}")
    return seconds, mib
