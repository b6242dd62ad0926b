"""The least that the servers must do: the very rows and documents that sluice wrote, with nothing before them.

Documents are written in two ways: "bulk" writes each once, as it came to be; "replayed bulk" sends the very bodies that
sluice sent, which hold every version of a lead that a batch ended with. "COPY and bulk" does both at once, as two sinks do.
"""

import http.client
import json
import os
import queue
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import psycopg

from processes import peak_mib

TABLES = ("eventos_raw", "leads", "eventos_agregados")
BODY = 5 << 20


def capture(database_url, name, folder):
    with psycopg.connect(database_url) as connection:
        for table in TABLES:
            with open(f"{folder}/{table}", "wb") as file, connection.cursor() as cursor:
                with cursor.copy(f"COPY {table} TO STDOUT (FORMAT binary)") as copy:
                    for data in copy:
                        file.write(data)
    for number, body in enumerate(bodies(name)):
        with open(f"{folder}/bulk-{number:05}", "wb") as file:
            file.write(body)


def bodies(name):
    """Bulk bodies of all documents, with their versions, for indices whose names begin with PREFIX-."""
    body, size = [], 0
    for index in ("eventos", "leads"):
        for hit in documents(f"{name}-{index}"):
            if index == "eventos":
                action = {"create": {"_index": f"PREFIX-{index}", "_id": hit["_id"]}}
            else:
                action = {"index": {"_index": f"PREFIX-{index}", "_id": hit["_id"], "version": hit["_version"],
                                    "version_type": "external_gte"}}
            lines = json.dumps(action) + "\n" + json.dumps(hit["_source"], ensure_ascii=False, separators=(",", ":")) + "\n"
            body.append(lines.encode())
            size += len(body[-1])
            if size >= BODY:
                yield b"".join(body)
                body, size = [], 0
    yield b"".join(body)


def asked(path, body):
    request = urllib.request.Request(
        f"{os.environ['ELASTICSEARCH_URL']}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def documents(index):
    urllib.request.urlopen(urllib.request.Request(
        f"{os.environ['ELASTICSEARCH_URL']}/{index}/_refresh", method="POST")).close()
    page = asked(f"/{index}/_search?scroll=5m", {"size": 5000, "version": True, "sort": ["_doc"]})
    while page["hits"]["hits"]:
        yield from page["hits"]["hits"]
        page = asked("/_search/scroll", {"scroll": "5m", "scroll_id": page["_scroll_id"]})


def into_postgres(folder, connections):
    """Each table by one COPY; of two connections the events have one to themselves."""
    shares = [TABLES] if connections == 1 else [TABLES[:1], TABLES[1:]]
    in_parallel([lambda tables=tables: copy_tables(folder, tables) for tables in shares])


def copy_tables(folder, tables):
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection, connection.cursor() as cursor:
        for table in tables:
            with open(f"{folder}/{table}", "rb") as file, cursor.copy(f"COPY {table} FROM STDIN (FORMAT binary)") as copy:
                while data := file.read(1 << 18):
                    copy.write(data)


def in_parallel(works):
    with ThreadPoolExecutor(len(works)) as pool:
        for done in [pool.submit(work) for work in works]:
            done.result()


def into_elasticsearch(folder, name, connections, bodies):
    work = queue.SimpleQueue()
    for file in sorted(entry for entry in os.listdir(folder) if entry.startswith(f"{bodies}-")):
        work.put(file)
    server = urlsplit(os.environ["ELASTICSEARCH_URL"])
    faults = []

    def send():
        connection = http.client.HTTPConnection(server.hostname, server.port)
        while not faults:
            try:
                file = work.get_nowait()
            except queue.Empty:
                return
            with open(f"{folder}/{file}", "rb") as opened:
                body = opened.read().replace(b'"PREFIX-', b'"' + name.encode() + b"-")
            connection.request("POST", "/_bulk?filter_path=items.*.status", body, {"Content-Type": "application/x-ndjson"})
            answer = connection.getresponse()
            items = json.loads(answer.read()).get("items", [])
            wrong = {next(iter(item.values()))["status"] for item in items} - {200, 201, 409}
            if answer.status != 200 or wrong:
                faults.append((answer.status, wrong))

    in_parallel([send] * connections)
    if faults:
        raise SystemExit(f"bulk: {faults}")


def main():
    floor, connections, folder, name, events = sys.argv[1:]
    began = time.monotonic()
    if floor == "COPY":
        into_postgres(folder, int(connections))
    elif floor == "COPY and bulk":
        in_parallel([lambda: into_postgres(folder, 1), lambda: into_elasticsearch(folder, name, int(connections), "bulk")])
    else:
        into_elasticsearch(folder, name, int(connections), "replayed" if floor == "replayed bulk" else "bulk")
    print(json.dumps({"events": int(events), "seconds": time.monotonic() - began,
                      "peak_mib": peak_mib()}))


if __name__ == "__main__":
    main()
