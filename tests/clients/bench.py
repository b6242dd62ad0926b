"""Measures MCP calls: bench.py CALLS CLIENTS SECONDS URL PID COMMAND...

tools/list in tokens, a call that does nothing over stdio and HTTP, and CLIENTS clients at once for SECONDS over HTTP,
with the server's memory before and after. PID is the HTTP server's.
"""

import asyncio
import json
import os
import sys
import time

import tiktoken
from mcp import Client, StdioServerParameters


def percentile(sorted_values, part):
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * part))]


def row(name, value):
    print(f"{name:48} {value}")


def resident_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


async def timed(client):
    """A whole way through the server that ends at one look-up: the sync of an id that nobody has."""
    began = time.perf_counter()
    result = await client.call_tool("get_sync", {"sync_id": "00000000-0000-7000-8000-000000000000"})
    details = (result.meta or {}).get("sluice/error", {})
    if details.get("kind") != "not_found":
        sys.exit(f"error: get_sync: {result.content[0].text}")
    return (time.perf_counter() - began) * 1000


def report(name, milliseconds):
    milliseconds.sort()
    fifty, ninety_nine = percentile(milliseconds, 0.5), percentile(milliseconds, 0.99)
    row(name, f"p50 {fifty:.2f} ms, p99 {ninety_nine:.2f} ms ({len(milliseconds)} calls)")


def tokens(text):
    try:
        return f"{len(tiktoken.get_encoding('o200k_base').encode(text))} tokens (tiktoken o200k_base)"
    except Exception:  # noqa: BLE001: its vocabulary comes from the network, which may not be there in many ways
        return f"about {len(text) // 4} tokens (characters / 4)"


def size(tools):
    listed = [tool.model_dump(by_alias=True, exclude_none=True, mode="json") for tool in tools]
    # Clients commonly hand a model these three; output schemas and annotations are for themselves.
    shown = [{key: tool.get(key) for key in ("name", "description", "inputSchema")} for tool in listed]
    row(f"tools/list, {len(tools)} tools", tokens(json.dumps(listed, ensure_ascii=False, separators=(",", ":"))))
    row("of that, what models are shown", tokens(json.dumps(shown, ensure_ascii=False, separators=(",", ":"))))


async def one_of_many(url, until, milliseconds):
    async with Client(url) as client:
        while time.perf_counter() < until:
            milliseconds.append(await timed(client))


async def main(calls, clients, seconds, url, pid, *command):
    stdio = StdioServerParameters(command=command[0], args=list(command[1:]), env=dict(os.environ))
    for name, server in (("stdio", stdio), ("HTTP", url)):
        async with Client(server) as client:
            if name == "stdio":
                size((await client.list_tools()).tools)
            await timed(client)
            report(f"a no-op call over {name}", [await timed(client) for _ in range(int(calls))])
    before, milliseconds = resident_mib(pid), []
    began = time.perf_counter()
    crowd = (one_of_many(url, began + float(seconds), milliseconds) for _ in range(int(clients)))
    await asyncio.gather(*crowd)
    took = time.perf_counter() - began
    report(f"the same, {clients} clients at once over HTTP", milliseconds)
    row("", f"{len(milliseconds) / took:.0f} calls/s for {took:.0f} s; these clients share one Python process")
    row("memory of the server, before and after", f"{before:.0f} MiB, {resident_mib(pid):.0f} MiB")


asyncio.run(main(*sys.argv[1:]))
