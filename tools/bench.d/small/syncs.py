"""How long a sync takes: a few changed rows until they can be queried, and a first one beside its two halves.

The halves are what no sync can do without: the pages read by a client that does nothing with them, and the events
appended by `sluice bench append`. That client asks with gzip and without, as a server may compress or not; sluice itself
always asks with it, and the sample project's pages come as they are either way, since they say which rows they are.
"""

import http.client
import json
import re
import time
import zlib
from urllib.parse import quote, urlsplit

from small.setup import Setup, timing

TIMES = 5
FIRST = 30_000
FIRST_TIMES = 3
PAGE = 1_000


def measure(binary, run, _):
    for rows in (1, 1_000):
        yield timing(f"`sync leads --wait` of {rows:,} changed row{'s' if rows > 1 else ''}, start-up included", "ms",
                     [seconds * 1000 for seconds in changed(binary, run, rows)])
    yield from first_sync(binary, run)


def changed(binary, run, rows):
    with Setup(binary, run) as setup:
        for seed in range(1, TIMES + 1):
            with setup.sample(rows, seed):
                yield setup.seconds("sync", "leads", "--wait")


def first_sync(binary, run):
    whole, plain, packed, appended, ratios = [], [], [], [], []
    for seed in range(1, FIRST_TIMES + 1):
        with Setup(binary, run) as setup, setup.sample(FIRST, seed) as sample:
            seconds, compressed = read_all(sample, "gzip")
            packed += [seconds] if compressed else []
            plain.append(read_all(sample, "identity")[0])
            whole.append(setup.seconds("sync", "leads", "--full"))
        appended.append(append(binary, run))
        ratios.append(whole[-1] / (plain[-1] + appended[-1]))
    yield timing(f"first `sync leads --full` of {FIRST:,} rows until they are in the topic, start-up included", "s", whole)
    yield timing("the same rows, their pages read by a bare client", "s", plain)
    if packed:
        yield timing("the same rows, their pages read by a bare client, gzip", "s", packed)
    yield timing("as many events appended by `sluice bench append`", "s", appended)
    yield timing("that first sync against reading and appending, one after the other", "×", ratios)


def append(binary, run):
    with Setup(binary, run) as setup:
        told = setup.run("bench", "append", "--events", str(FIRST))
        return FIRST / int(re.search(r"appended to the topic\s+(\d+) events/s", told)[1])


def read_all(sample, encoding):
    """Every page, in the order of the key; how long that took, and whether it came compressed."""
    server = urlsplit(sample.url)
    connection = http.client.HTTPConnection(server.hostname, server.port)
    headers = {"apikey": sample.setup.env["SUPABASE_KEY"], "Accept-Encoding": encoding}
    began, last, rows = time.monotonic(), None, 0
    while True:
        after = f"&id=gt.{quote(last)}" if last else ""
        connection.request("GET", f"/rest/v1/leads?select=*&order=id.asc&limit={PAGE}{after}", headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status not in (200, 206):
            raise SystemExit(f"the sample answered {answer.status}: {body[:300]}")
        compressed = answer.headers.get("Content-Encoding") == "gzip"
        page = json.loads(zlib.decompress(body, 31) if compressed else body)
        rows += len(page)
        if len(page) < PAGE:
            break
        last = page[-1]["id"]
    connection.close()
    if rows != FIRST:
        raise SystemExit(f"{rows} rows were read, of {FIRST}")
    return time.monotonic() - began, compressed
