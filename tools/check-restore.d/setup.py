"""A pipeline of its own on the real services: what it holds, how it is lost, and how it comes back."""

import collections
import contextlib
import itertools
import json
import os
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import psycopg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

# When a row or document was written is another instant after a replay, and all that may be.
WRITTEN = "processado_em"
PATIENCE = 180


class Failure(Exception):
    """Something that a restore must not do."""


def run(command, env, check=True):
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise Failure(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class Session:
    """MCP over stdin and stdout of `sluice serve`, which drains meanwhile."""

    def __init__(self, binary, env, log):
        self.server = subprocess.Popen(
            [binary, "serve", "--tools", "all"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            encoding="utf-8", env=env)
        self.ids = itertools.count(1)
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "check", "version": "1"}}
        self.ask("initialize", hello)
        self.send({"method": "notifications/initialized"})

    def send(self, message):
        self.server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.server.stdin.flush()

    def ask(self, method, params):
        wanted = next(self.ids)
        self.send({"id": wanted, "method": method, "params": params})
        for line in self.server.stdout:
            message = json.loads(line)
            if message.get("id") == wanted:
                if "error" in message:
                    raise Failure(f"{method}: {message['error']['message']}")
                return message["result"]
        raise Failure(f"{method}: the server ended")

    def call(self, tool, **arguments):
        result = self.ask("tools/call", {"name": tool, "arguments": arguments})
        if result.get("isError"):
            raise Failure(f"{tool}: {result['content'][0]['text']}")
        return result["structuredContent"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.stdin.close()
        self.server.wait(timeout=60)


class Setup:
    def __init__(self, binary, name, folder):
        self.binary, self.name, self.folder = binary, name, folder
        self.admin_url = os.environ["DATABASE_ADMIN_URL"]
        self.elasticsearch = os.environ["ELASTICSEARCH_URL"]
        self.brokers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
        self.database_url = os.environ["DATABASE_URL"].rsplit("/", 1)[0] + f"/{name}"
        self.prefix = f"{name}-"
        self.topics = [name, f"{name}.dlq"]
        self.log = open(folder / "sluice.log", "a")  # as long as the process lives
        self.source = None
        self.env = {
            "PATH": os.environ["PATH"], "SLUICE_ENV_FILE": "/dev/null", "SLUICE_DATA_DIR": str(folder / "data"),
            "KAFKA_BOOTSTRAP_SERVERS": self.brokers, "KAFKA_TOPIC": name, "KAFKA_DEAD_LETTER_TOPIC": f"{name}.dlq",
            "SLUICE_GROUP_PREFIX": name, "DATABASE_URL": self.database_url, "ELASTICSEARCH_URL": self.elasticsearch,
            "ELASTICSEARCH_INDEX_PREFIX": self.prefix,
        }

    # --- the source -------------------------------------------------------------------------------------------

    def serve_source(self, seed, leads, broken=0):
        """A sample project in the place of the one before: other rows under the same keys, and some that are gone."""
        port = 0
        if self.source:
            port = urllib.parse.urlsplit(self.env["SUPABASE_URL"]).port
            self.stop_source()
        self.source = subprocess.Popen(
            [self.binary, "sample", "--port", str(port), "--seed", str(seed), "--leads", str(leads), "--sessions", "60",
             "--broken", str(broken)],
            stdout=subprocess.PIPE, stderr=self.log, text=True, env={"PATH": os.environ["PATH"]})
        for line in itertools.islice(self.source.stdout, 2):
            key, _, value = line.strip().partition("=")
            self.env[key] = value

    def stop_source(self):
        if self.source:
            self.source.terminate()
            self.source.wait()

    # --- what is done by hand ---------------------------------------------------------------------------------

    def sluice(self, *arguments, check=True):
        return run([self.binary, *arguments], self.env, check)

    def serving(self):
        return Session(self.binary, self.env, self.log)

    def make_database(self):
        run(["psql", "-qX", self.admin_url, "-c", f"create database {self.name} owner sluice"], os.environ)

    def drop_database(self):
        run(["psql", "-qX", self.admin_url, "-c", f"drop database if exists {self.name} with (force)"], os.environ)

    def dump(self, file):
        run(["pg_dump", "--format=custom", f"--file={file}", self.database_url], os.environ)

    def restore(self, file):
        run(["pg_restore", "--exit-on-error", f"--dbname={self.database_url}", file], os.environ)

    def drop_indices(self):
        for index in self.request("GET", f"/{self.prefix}*/_alias"):
            self.request("DELETE", f"/{index}")

    def drop_templates(self):
        found = self.request("GET", f"/_index_template/sluice-{self.prefix}*", missing={"index_templates": []})
        for template in found["index_templates"]:
            self.request("DELETE", f"/_index_template/{template['name']}")

    def drop_topics(self):
        client = AdminClient({"bootstrap.servers": self.brokers})
        for removed in client.delete_topics(self.topics).values():
            removed.exception(60)
        deadline = time.monotonic() + PATIENCE
        while set(self.topics) & set(client.list_topics(timeout=30).topics):
            if time.monotonic() > deadline:
                raise Failure("the broker keeps the topics that were deleted")
            time.sleep(0.1)

    def clean_up(self):
        self.stop_source()
        for step in (self.drop_database, self.drop_indices, self.drop_templates, self.drop_topics):
            with contextlib.suppress(Exception):
                step()
        self.log.close()

    # --- what there is ----------------------------------------------------------------------------------------

    def request(self, method, path, body=None, missing=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.elasticsearch + path, data, {"content-type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            if error.code == 404 and missing is not None:
                return missing
            raise Failure(f"{method} {path}: {error.read().decode()}") from error

    def rows(self):
        """Every row of every table, as JSON text."""
        with psycopg.connect(self.database_url) as connection:
            names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").fetchall()
            return {name: [row for (row,) in connection.execute(f'SELECT to_jsonb(t) FROM "{name}" t')] for (name,) in names}

    def documents(self):
        """Every document of every index with its version, those of removed rows too, which the aliases hide."""
        found = {}
        for index, properties in self.request("GET", f"/{self.prefix}*/_alias").items():
            self.request("POST", f"/{index}/_refresh")
            page = self.request("POST", f"/{index}/_search?scroll=1m", {"size": 5000, "version": True, "sort": ["_doc"]})
            documents = []
            while page["hits"]["hits"]:
                documents += [{"_id": hit["_id"], "_version": hit["_version"], **hit["_source"]} for hit in page["hits"]["hits"]]
                page = self.request("POST", "/_search/scroll", {"scroll": "1m", "scroll_id": page["_scroll_id"]})
            for alias in properties["aliases"]:
                found.setdefault(alias.removeprefix(self.prefix), []).extend(documents)
        return found


def difference(before, after, without=()):
    """What one list of rows has and the other has not; columns of `without` aside."""
    def counted(rows):
        return collections.Counter(
            json.dumps({k: v for k, v in row.items() if k not in without}, sort_keys=True) for row in rows)

    lost, new = counted(before) - counted(after), counted(after) - counted(before)
    return list(lost.elements()), list(new.elements())
