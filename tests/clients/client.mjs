// Drives sluice with the official TypeScript SDK: lists the tools, runs a sync and follows it, asks how everything is.
//
// client.mjs legacy|modern stdio COMMAND ARGUMENT...
// client.mjs legacy|modern http|sse URL

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// The SDK is wherever the suites were installed.
const require = createRequire(`${process.env.SLUICE_SUITES}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { Client, StreamableHTTPClientTransport, SSEClientTransport } = await load("@modelcontextprotocol/client");
const { StdioClientTransport } = await load("@modelcontextprotocol/client/stdio");

const MODERN = "2026-07-28";
const TOOLS = ["sync_leads_from_supabase", "get_sync", "get_pipeline_status", "check_kafka_lag"];
const PATIENCE_MS = 90_000;

const check = (holds, what) => {
  if (!holds) throw new Error(what);
};

const transports = {
  stdio: (command, ...args) => new StdioClientTransport({ command, args, env: process.env, stderr: "inherit" }),
  http: (url) => new StreamableHTTPClientTransport(new URL(url)),
  sse: (url) => new SSEClientTransport(new URL(url)),
};

async function drive(client, era) {
  const revision = client.getNegotiatedProtocolVersion();
  check((revision >= MODERN) === (era === "modern"), `${revision} was agreed on, which is not ${era}`);
  check(client.getServerVersion()?.name === "sluice", `${JSON.stringify(client.getServerVersion())} answered`);

  const { tools } = await client.listTools();
  const names = tools.map((tool) => tool.name);
  check(TOOLS.every((name) => names.includes(name)), `tools are missing: ${names}`);
  check(tools.every((tool) => tool.outputSchema), "a tool has no output schema");

  // The client checks every answer against the tool's output schema.
  const answer = async (name, args, options) => {
    const result = await client.callTool({ name, arguments: args }, options);
    check(!result.isError, `${name}: ${JSON.stringify(result.content)}`);
    check(result.content[0]?.text, `${name} has no text`);
    return result.structuredContent;
  };

  const progress = [];
  const onprogress = (step) => progress.push(step.progress);
  let sync = await answer("sync_leads_from_supabase", { limit: 40, hours_ago: 720, wait: false }, { onprogress });
  const deadline = Date.now() + PATIENCE_MS;
  // Each call waits for the sync itself.
  while (["running", "draining"].includes(sync.state)) {
    check(Date.now() < deadline, `the sync is still ${sync.state}`);
    sync = await answer("get_sync", { sync_id: sync.sync_id, wait: true });
  }
  check(sync.state === "done" && sync.rows_read > 0, `the sync ended as ${JSON.stringify(sync)}`);
  check(progress.every((step, at) => at === 0 || step > progress[at - 1]), `progress went back: ${progress}`);

  const status = await answer("get_pipeline_status", {});
  // What lies before the window was never read, and that is told.
  check(status.problems.every((problem) => problem.includes("read by no sync")), `not healthy: ${status.problems}`);
  check(status.recent_syncs.some((recent) => recent.sync_id === sync.sync_id), "the sync is not among the recent ones");
  const lag = await answer("check_kafka_lag", {});
  check(lag.total === 0, `${lag.total} records are left`);

  const refused = await client.callTool({ name: "get_sync", arguments: { sync_id: "x" } });
  check(refused.isError && refused.content[0].text.includes("sync_id"), `a bad argument gave ${JSON.stringify(refused)}`);
  // The first TypeScript SDK, which many clients still have, holds this against the output schema even for an error.
  check(refused.structuredContent === undefined, "an error has structured content");
  console.log(`typescript, ${revision}: ${tools.length} tools, ${sync.rows_read} rows read, ${sync.appended} new`);
}

const [era, transport, ...target] = process.argv.slice(2);
const client = new Client(
  { name: "sluice-verification", version: "1" },
  { versionNegotiation: { mode: era === "modern" ? { pin: MODERN } : "legacy" } },
);
try {
  await client.connect(transports[transport](...target));
  await drive(client, era);
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
} finally {
  await client.close();
}
