"""Drives sluice with the official Python SDK: an operator's day, in which every tool, resource and prompt is used.

client.py legacy|modern stdio COMMAND ARGUMENT...
client.py legacy|modern http|sse URL

The source must hold a lead that no event can be made of for each time this runs (`sluice sample --broken`). The SDK
checks every answer against the tool's output schema; this, that its text tells the same facts.
"""

import asyncio
import json
import os
import re
import sys
import uuid

from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client
from mcp_types import ElicitResult, PromptReference, ResourceTemplateReference

MODERN = "2026-07-28"
PATIENCE_SECONDS = 90
UNFINISHED = ("running", "draining")
# Words of the text's own: what stands between facts.
GRAMMAR = {"in", "each", "of", "them", "one", "a", "column", "none"}
# Names that a table of columns and rows does without.
UNTOLD = {"columns", "name", "type"}


class Wrong(Exception):
    """The server did not do what it promises."""


def check(holds, what):
    if not holds:
        raise Wrong(what)


def words(text):
    return set(re.findall(r"\w+", text))


def check_facts(tool, text, content):
    """Some clients show a model only the text, others only structured content: both must have the same facts."""
    told, found = words(text), words(json.dumps(content, ensure_ascii=False))
    check(found <= told | UNTOLD, f"{tool} does not tell {found - told} in its text: {text}")
    # Lists and columns are numbered.
    made_up = {word for word in told - found - GRAMMAR if not (word.isdigit() and int(word) <= 1000)}
    check(not made_up, f"{tool} tells {made_up} in its text only: {text}")


class Desk:
    """A client that remembers what it used, and the user at it, who agrees to whatever is asked."""

    def __init__(self, client):
        self.client = client
        self.used = set()

    async def answer(self, tool, **arguments):
        self.used.add(tool)
        result = await self.client.call_tool(tool, arguments, progress_callback=arguments.pop("progress", None))
        check(not result.is_error, f"{tool}: {result.content}")
        check(result.content and result.content[0].text, f"{tool} has no text")
        check_facts(tool, result.content[0].text, result.structured_content)
        return result.structured_content

    async def until(self, what, holds, tool, **arguments):
        """Calls a tool, which itself waits, until its answer is the one wanted."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while not holds(answer := await self.answer(tool, **arguments)):
            check(asyncio.get_running_loop().time() < deadline, f"{what}: {answer}")
        return answer

    async def content(self, uri):
        read = await self.client.read_resource(uri)
        return json.loads(read.contents[0].text)


async def sync_both(desk):
    progress = []

    async def saw(step, total, message):
        progress.append(step)

    started = await desk.answer(
        "sync_leads_from_supabase", limit=1000, hours_ago=720, wait=False, progress=saw
    )
    sync = await desk.until(
        "the sync", lambda sync: sync["state"] not in UNFINISHED, "get_sync", sync_id=started["sync_id"], wait=True
    )
    check(sync["state"] == "done" and sync["rows_read"] > 0, f"the sync ended as {sync}")
    check(progress == sorted(progress), f"progress went back: {progress}")
    over = await desk.answer("cancel_sync", sync_id=sync["sync_id"])
    check(not over["cancelling"], f"a sync that is done is being cancelled: {over}")
    await desk.until(
        "the sync of sessions", lambda sync: sync["state"] == "done", "sync_chat_sessions_from_supabase", limit=1000
    )
    again = await desk.until(
        "a sync of any table", lambda sync: sync["state"] == "done", "sync_table", table="leads", hours_ago=720, limit=1000,
    )
    check(again["table"] == "leads", f"another table was synced: {again}")
    begun = await desk.answer("reconcile_table", table="chat_sessions", wait=False)
    proof = await desk.until(
        "the proof", lambda sync: sync["state"] not in UNFINISHED, "get_sync", sync_id=begun["sync_id"], wait=True
    )
    check(proof["state"] == "done" and proof["reconcile"]["unexplained"] == 0, f"it ended as {proof}")
    rows = (await desk.answer("query_store", sql="SELECT id FROM leads ORDER BY id LIMIT 1"))["rows"]
    erased = await desk.answer("erase_entity", table="leads", key=rows[0][0], related=True, confirm=True)
    check(erased["complete"] and erased["keys"] == rows[0], f"it was not erased: {erased}")
    listed = await desk.answer("list_syncs", table="leads", limit=100)
    check(any(one["sync_id"] == sync["sync_id"] for one in listed["syncs"]), "the sync is not listed")
    return sync


async def ask_how_it_is(desk, sync):
    status = await desk.answer("get_pipeline_status")
    # What lies before the window was never read, and that is told.
    check(all("read by no sync" in problem for problem in status["problems"]), f"not healthy: {status['problems']}")
    check(any(s["sync_id"] == sync["sync_id"] for s in status["recent_syncs"]), "the sync is not among the recent ones")
    check((await desk.content("sluice://status"))["healthy"] == status["healthy"], "the resource says otherwise")
    dashboard = await desk.answer("get_supabase_dashboard")
    check(dashboard["tables"][0]["total"] >= sync["rows_read"], f"{dashboard['tables'][0]['total']} leads in the source, {sync['rows_read']} read")
    metrics = await desk.answer("get_engine_metrics")
    check(all(sink["state"] == "running" for sink in metrics["sinks"]), f"a sink does not run: {metrics['sinks']}")
    doctor = await desk.answer("run_doctor")
    check(doctor["failed"] == 0, f"the doctor found {doctor['findings'][:2]}")


async def question_the_data(desk):
    events = await desk.answer("query_raw_events", tipo_evento="lead", limit=2)
    check(len(events["events"]) == 2 and events["next_cursor"], f"no page of two: {events}")
    more = await desk.answer("query_raw_events", tipo_evento="lead", limit=2, cursor=events["next_cursor"])
    first, then = ([event["id"] for event in page["events"]] for page in (events, more))
    check(not set(first) & set(then), "the second page repeats the first")
    id = events["events"][0]["entidade_id"]
    lead = await desk.answer("get_lead", id=id)
    check(lead["entity"]["row"]["id"] == id and lead["events"], f"no lead {id}: {lead}")
    check((await desk.content(f"sluice://leads/{id}"))["entity"]["row"]["id"] == id, "the resource is of another lead")
    entity = await desk.answer("get_entity", table="leads", key=id)
    check(entity["entity"] == lead["entity"], "an entity by its key is another than the lead")

    report = await desk.answer("lead_report", period="last_90_days", group_by=["origem"])
    check(sum(group["leads"] for group in report["groups"]) == report["total"]["leads"], f"counted wrong: {report}")

    counted = await desk.answer("query_store", sql="SELECT count(*) AS leads FROM leads")
    stored = int(counted["rows"][0][0])
    exported = await desk.answer("export", table="leads")
    check(exported["complete"] and exported["rows"] == stored, f"{stored} leads in the store, exported {exported}")
    found = await desk.answer("search_elasticsearch", index="leads", count_by=["status_lead"], limit=5)
    check(found["total"] == stored > 0, f"{stored} leads in the store, {found['total']} in the index")
    check(sum(value["count"] for value in found["counts"][0]["values"]) <= stored, f"counted wrong: {found['counts']}")
    columns = (await desk.content("sluice://schema/leads"))["columns"]
    check(any(column["name"] == "score_qualificacao" for column in columns), f"no such column: {columns}")


async def operate(desk):
    event = {"evento": "teste_do_cliente", "id": str(uuid.uuid4()), "valor": 1.5}
    injected = await desk.answer("inject_event", **event)
    await desk.until(
        "the event", lambda found: found["total"] == 1,
        "search_elasticsearch", index="eventos", query=f'id:"{event["id"]}"',
    )
    check(injected["id"] == event["id"], f"another event came: {injected}")

    lag = await desk.answer("check_kafka_lag")
    sinks = [sink["sink"] for sink in lag["sinks"]]
    check(len(sinks) == 2, f"{sinks} are drained into")
    for sink in sinks:
        paused = await desk.answer("pause_sink", sink=sink)
        check(paused["pause"], f"{sink} is not paused: {paused}")
        resumed = await desk.answer("resume_sink", sink=sink)
        check(not resumed.get("pause"), f"{sink} is still paused: {resumed}")
        await desk.answer("restart_service", service=sink)
    await desk.until("the lag", lambda lag: lag["total"] == 0, "check_kafka_lag")

    scheduled = await desk.answer("schedule_sync", table="chat_sessions", every_seconds=600_000)
    check(any(one["table"] == "chat_sessions" for one in scheduled["schedules"]), f"not scheduled: {scheduled}")
    removed = await desk.answer("schedule_sync", table="chat_sessions", every_seconds=0)
    check(removed["outcome"] == "removed", f"not removed: {removed}")

    hot = {"name": "hot", "when": "row", "where": ["score_qualificacao>=80"]}
    tried = await desk.answer("create_alert", **hot, **{"try": True})
    check("would_have_fired" in tried["trial"], f"nothing was tried: {tried}")
    await desk.answer("create_alert", **hot)
    listed = await desk.answer("list_alerts")
    check([one["name"] for one in listed["alerts"]] == ["hot"], f"not listed: {listed}")
    deleted = await desk.answer("delete_alert", name="hot", confirm=True)
    check(deleted["deleted"], f"not deleted: {deleted}")


async def settle_a_dead_letter(desk, asked):
    letters = (await desk.answer("list_dead_letters", limit=1, detailed=True))["letters"]
    check(letters, "no open dead letter")
    id = letters[0]["id"]
    check((await desk.content(f"sluice://dead-letters/{id}"))["id"] == id, "the resource is of another letter")
    replayed = await desk.answer("replay_dead_letters", ids=[id])
    check(replayed["left"][0]["id"] == id, f"a broken row made an event: {replayed}")
    questions = len(asked)
    discarded = await desk.answer("discard_dead_letters", ids=[id])
    check(discarded["discarded"] == [id], f"not discarded: {discarded}")
    check(len(asked) == questions + 1 and "dead letter" in asked[-1], f"the user was asked {asked}")


async def rebuild(desk, asked):
    questions = len(asked)
    await desk.until("the rebuild", lambda rebuilt: rebuilt["done"], "rebuild_index", index="chat_sessions")
    check(len(asked) > questions, "an index was built anew without asking")
    found = await desk.answer("search_elasticsearch", index="chat_sessions", limit=0)
    check(found["total"] > 0, "the new index is empty")


async def use_prompts(desk):
    lead = (await desk.answer("query_raw_events", tipo_evento="lead", limit=1))["events"][0]["entidade_id"]
    for prompt in (await desk.client.list_prompts()).prompts:
        arguments = {"lead_id": lead} if prompt.name == "investigate_lead" else {}
        messages = (await desk.client.get_prompt(prompt.name, arguments)).messages
        check(messages and messages[0].content.text, f"{prompt.name} says nothing")
    for reference, name, typed in (
        (PromptReference(name="investigate_lead"), "lead_id", lead[:8]),
        (ResourceTemplateReference(uri="sluice://leads/{id}"), "id", ""),
        (ResourceTemplateReference(uri="sluice://schema/{table}"), "table", "lea"),
    ):
        completed = await desk.client.complete(reference, {"name": name, "value": typed})
        check(completed.completion.values, f"nothing completes {typed} as {name} of {reference}")
    templates = {template.uri_template for template in (await desk.client.list_resource_templates()).resource_templates}
    check({"sluice://leads/{id}", "sluice://dead-letters/{id}"} <= templates, f"only {templates}")


async def drive(client, era, asked):
    revision = client.protocol_version
    check((revision >= MODERN) == (era == "modern"), f"{revision} was agreed on, which is not {era}")
    check(client.server_info.name == "sluice", f"{client.server_info} answered")
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    check(all(tool.output_schema for tool in tools.values()), "a tool has no output schema")

    desk = Desk(client)
    sync = await sync_both(desk)
    await ask_how_it_is(desk, sync)
    await question_the_data(desk)
    await operate(desk)
    await settle_a_dead_letter(desk, asked)
    await rebuild(desk, asked)
    await use_prompts(desk)
    check(desk.used == tools.keys(), f"not used: {tools.keys() - desk.used}, not listed: {desk.used - tools.keys()}")

    refused = await client.call_tool("get_sync", {"sync_id": "x"})
    check(refused.is_error and "sync_id" in refused.content[0].text, f"a bad argument gave {refused}")
    check(refused.structured_content is None, "an error has structured content")
    print(f"python, {revision}: each of {len(tools)} tools used, {sync['rows_read']} rows read, {sync['appended']} new")


async def main(era, transport, *target):
    asked = []

    async def agree(context, question):
        asked.append(question.message)
        return ElicitResult(action="accept", content={"confirm": True})

    match transport:
        case "stdio":
            server = StdioServerParameters(command=target[0], args=list(target[1:]), env=dict(os.environ))
        case "http":
            server = target[0]
        case "sse":
            server = sse_client(target[0])
        case _:
            sys.exit(__doc__)
    mode = "legacy" if era == "legacy" else "auto"
    async with Client(server, mode=mode, elicitation_callback=agree) as client:
        await drive(client, era, asked)


def told(problem):
    """The problems in what may be groups of groups: task groups wrap whatever fails inside them."""
    if isinstance(problem, BaseExceptionGroup):
        return [text for part in problem.exceptions for text in told(part)]
    return [str(problem)]


try:
    asyncio.run(main(*sys.argv[1:]))
except* Wrong as group:
    for text in told(group):
        print(f"error: {text}", file=sys.stderr)
    sys.exit(1)
