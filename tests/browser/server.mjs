// A sluice that serves HTTP, and small things that every part of this suite needs.

import { once } from "node:events";
import fs from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.SLUICE_SUITES}/`);
export const AXE = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const REVISION = "2026-07-28";
const PATIENCE_MS = 60_000;

export function check(holds, what) {
  if (!holds) throw new Error(what);
}

export async function eventually(what, holds) {
  const until = Date.now() + PATIENCE_MS;
  while (!(await holds())) {
    check(Date.now() < until, `${what}: nothing came within ${PATIENCE_MS / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export class Server {
  constructor(run, env, token) {
    Object.assign(this, { run, token, env: { ...env, SLUICE_TOOLS: "all", SLUICE_LOG: "warn,sluice=info", SLUICE_LANGUAGE: "en" }, address: "127.0.0.1:0" });
  }

  /** Starts, where it stood before if it has. */
  async start() {
    this.child = this.run(["serve", "--http", this.address], this.env);
    let log = "";
    this.child.stderr.on("data", (data) => (log += data));
    const address = () => log.match(/serving MCP over HTTP.*"address":"([^"]*)"/)?.[1];
    await eventually("the server serves", () => {
      check(this.child.exitCode === null, `the server ended: ${log}`);
      return address();
    });
    this.address = address();
    this.url = `http://${this.address}/`;
  }

  async stop() {
    this.child.kill();
    await once(this.child, "exit");
  }

  async ask(method, params, capabilities = {}) {
    const meta = {
      "io.modelcontextprotocol/protocolVersion": REVISION,
      "io.modelcontextprotocol/clientInfo": { name: "browser-suite", version: "1" },
      "io.modelcontextprotocol/clientCapabilities": capabilities,
    };
    const headers = { accept: "application/json, text/event-stream", "content-type": "application/json", "mcp-protocol-version": REVISION, "mcp-method": method };
    if (params.name ?? params.uri) headers["mcp-name"] = params.name ?? params.uri;
    if (this.token) headers.authorization = `Bearer ${this.token}`;
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params: { ...params, _meta: meta } });
    const response = await fetch(`${this.url}mcp`, { method: "POST", headers, body });
    const text = await response.text();
    const answer = JSON.parse(text.startsWith("{") ? text : text.match(/^data: ?(\{.*"id":1.*)$/m)[1]);
    check(answer.result, `${method}: ${text}`);
    return answer.result;
  }

  /** A tool's answer, which must be no error. */
  async call(name, args) {
    const result = await this.ask("tools/call", { name, arguments: args });
    check(result.isError !== true, `${name}: ${JSON.stringify(result.content)}`);
    return result.structuredContent;
  }
}
