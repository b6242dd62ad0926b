"""Drives sluice with the official Python SDK: lists the tools, runs a sync and follows it, asks how everything is.

client.py legacy|modern stdio COMMAND ARGUMENT...
client.py legacy|modern http|sse URL
"""

import asyncio
import os
import sys

from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client

MODERN = "2026-07-28"
TOOLS = {"sync_leads_from_supabase", "get_sync", "get_pipeline_status", "check_kafka_lag"}
PATIENCE_SECONDS = 90


class Wrong(Exception):
    """The server did not do what it promises."""


def check(holds, what):
    if not holds:
        raise Wrong(what)


async def answer(client, tool, arguments):
    result = await client.call_tool(tool, arguments)
    check(not result.is_error, f"{tool}: {result.content}")
    check(result.content and result.content[0].text, f"{tool} has no text")
    return result.structured_content


async def drive(client, era):
    revision = client.protocol_version
    check((revision >= MODERN) == (era == "modern"), f"{revision} was agreed on, which is not {era}")
    check(client.server_info.name == "sluice", f"{client.server_info} answered")

    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    check(TOOLS <= tools.keys(), f"missing: {TOOLS - tools.keys()}")
    check(all(tool.output_schema for tool in tools.values()), "a tool has no output schema")

    progress = []

    async def saw(step, total, message):
        progress.append(step)

    started = await client.call_tool(
        "sync_leads_from_supabase", {"limit": 40, "hours_ago": 720, "wait": False}, progress_callback=saw
    )
    check(not started.is_error, f"the sync was refused: {started.content}")
    sync = started.structured_content
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    # Each call waits for the sync itself.
    while sync["state"] in ("running", "draining"):
        check(asyncio.get_running_loop().time() < deadline, f"the sync is still {sync['state']}")
        sync = await answer(client, "get_sync", {"sync_id": sync["sync_id"], "wait": True})
    check(sync["state"] == "done" and sync["rows_read"] > 0, f"the sync ended as {sync}")
    check(progress == sorted(progress), f"progress went back: {progress}")

    status = await answer(client, "get_pipeline_status", {})
    check(status["healthy"], f"not healthy: {status['problems']}")
    check(any(s["sync_id"] == sync["sync_id"] for s in status["recent_syncs"]), "the sync is not among the recent ones")
    lag = await answer(client, "check_kafka_lag", {})
    check(lag["total"] == 0, f"{lag['total']} records are left")

    refused = await client.call_tool("get_sync", {"sync_id": "x"})
    check(refused.is_error and "sync_id" in refused.content[0].text, f"a bad argument gave {refused}")
    check(refused.structured_content is None, "an error has structured content")
    print(f"python, {revision}: {len(tools)} tools, {sync['rows_read']} rows read, {sync['appended']} new")


async def main(era, transport, *target):
    match transport:
        case "stdio":
            server = StdioServerParameters(command=target[0], args=list(target[1:]), env=dict(os.environ))
        case "http":
            server = target[0]
        case "sse":
            server = sse_client(target[0])
        case _:
            sys.exit(__doc__)
    async with Client(server, mode="legacy" if era == "legacy" else "auto") as client:
        await drive(client, era)


try:
    asyncio.run(main(*sys.argv[1:]))
except* Wrong as group:
    for wrong in group.exceptions:
        print(f"error: {wrong}", file=sys.stderr)
    sys.exit(1)
