#!/usr/bin/env python3
"""Speaks MCP to sluice by hand, with nothing but Python: one JSON message a line, each way.

    examples/stdio.py [path of sluice] [arguments of sluice serve...]

Shows the older handshake; a client of the 2026-07-28 revision sends no initialize, but its revision with each request.
"""

import itertools
import json
import subprocess
import sys


class Session:
    def __init__(self, command):
        self.server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
        self.ids = itertools.count(1)

    def send(self, message):
        self.server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.server.stdin.flush()

    def ask(self, method, params):
        wanted = next(self.ids)
        self.send({"id": wanted, "method": method, "params": params})
        # Answers come in any order, with notifications between them; this script asks one thing at a time.
        for line in self.server.stdout:
            message = json.loads(line)
            if message.get("method") == "notifications/progress":
                print("   …", message["params"]["message"])
            if message.get("id") == wanted:
                if "error" in message:
                    sys.exit(f"{method}: {message['error']['message']}")
                return message["result"]
        sys.exit("the server ended; what it said is above")

    def call(self, tool, **arguments):
        params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": tool}}
        result = self.ask("tools/call", params)
        print(f"{tool}: {result['content'][0]['text']}\n")
        return result.get("structuredContent")

    def close(self):
        # The end of its input tells the server to finish what it does and leave.
        self.server.stdin.close()
        self.server.wait(timeout=30)


def main():
    command = [sys.argv[1] if len(sys.argv) > 1 else "sluice", "serve", *sys.argv[2:]]
    session = Session(command)
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "stdio.py", "version": "1"}}
    agreed = session.ask("initialize", hello)
    session.send({"method": "notifications/initialized"})
    print(f"{agreed['serverInfo']['name']} {agreed['serverInfo']['version']} speaks {agreed['protocolVersion']}\n")

    for tool in session.ask("tools/list", {})["tools"]:
        print(f"  {tool['name']:34} {tool['title']}")
    print()
    sync = session.call("sync_leads_from_supabase", hours_ago=720, limit=100)
    while sync and sync["state"] in ("running", "draining"):
        sync = session.call("get_sync", sync_id=sync["sync_id"], wait=True)
    session.call("get_pipeline_status")
    session.close()


if __name__ == "__main__":
    main()
