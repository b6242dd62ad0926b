"""How long a sync takes: a few changed rows until they can be queried, and a first one beside its two halves.

The halves are what no sync can do without: the pages read by a client that does nothing with them, and the events
appended by `sluice bench append`. The sample project's pages are never compressed, since they say which rows they are; what
gzip costs and saves is seen through a proxy that compresses them, beside the same proxy when it does not.
"""

import http.client
import json
import re
import time
from urllib.parse import urlencode, urlsplit

from small.proxy import Proxy
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
    whole, plain, appended, ratios = [], [], [], []
    for seed in range(1, FIRST_TIMES + 1):
        with Setup(binary, run) as setup, setup.sample(FIRST, seed) as sample:
            plain.append(read_all(sample))
            whole.append(setup.seconds("sync", "leads", "--full"))
        appended.append(append(binary, run))
        ratios.append(whole[-1] / (plain[-1] + appended[-1]))
    yield timing(f"first `sync leads --full` of {FIRST:,} rows until they are in the topic, start-up included", "s", whole)
    yield timing("the same rows, their pages read by a bare client", "s", plain)
    yield timing("as many events appended by `sluice bench append`", "s", appended)
    yield timing("that first sync against reading and appending, one after the other", "×", ratios)
    bare = [through_proxy(binary, run, seed, compressing=False) for seed in range(1, FIRST_TIMES + 1)]
    packed = [through_proxy(binary, run, seed, compressing=True) for seed in range(1, FIRST_TIMES + 1)]
    yield timing("that first sync through a proxy that passes pages on as they are", "s", [seconds for seconds, _ in bare])
    yield timing("the same through one that compresses them (gzip)", "s", [seconds for seconds, _ in packed])
    yield timing("what it sends of what the other one sends", "%",
                 [there / here * 100 for (_, there), (_, here) in zip(packed, bare)])


def through_proxy(binary, run, seed, compressing):
    with Setup(binary, run) as setup, setup.sample(FIRST, seed) as sample, Proxy(sample.url, compressing) as proxy:
        setup.env["SUPABASE_URL"] = proxy.url
        return setup.seconds("sync", "leads", "--full"), proxy.sent


def append(binary, run):
    with Setup(binary, run) as setup:
        told = setup.append(FIRST)
        return FIRST / int(re.search(r"appended to the topic\s+(\d+) events/s", told)[1])


def read_all(sample):
    """How long it takes to read the very pages that a first sync asks for: rows that tell when they were changed in that
    order, then the others in the order of the key."""
    server = urlsplit(sample.url)
    connection = http.client.HTTPConnection(server.hostname, server.port)
    headers = {"apikey": sample.setup.env["SUPABASE_KEY"], "Accept-Encoding": "identity"}

    def read(order, condition, further):
        after, rows = "", 0
        while True:
            asked = {"select": "*", "order": order, "limit": PAGE, "and": f"({condition},{after}id.not.is.null)"}
            connection.request("GET", f"/rest/v1/leads?{urlencode(asked)}", headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status not in (200, 206):
                raise SystemExit(f"the sample answered {answer.status}: {body[:300]}")
            page = json.loads(body)
            rows += len(page)
            if len(page) < PAGE:
                return rows
            after = further(page[-1]) + ","

    def changed_later(row):
        changed, key = row["updated_at"], row["id"]
        return f'or(updated_at.gt."{changed}",and(updated_at.eq."{changed}",id.gt."{key}"))'

    began = time.monotonic()
    rows = read("updated_at.asc,id.asc", "updated_at.not.is.null", changed_later)
    rows += read("id.asc", "updated_at.is.null", lambda row: f'id.gt."{row["id"]}"')
    taken = time.monotonic() - began
    connection.close()
    if rows != FIRST:
        raise SystemExit(f"{rows} rows were read, of {FIRST}")
    return taken
