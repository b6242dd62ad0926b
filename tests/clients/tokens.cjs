// Says how many tokens sluice's words are to a model: tools/list, and what typical calls answer.
//
// tokens.cjs COMMAND ARGUMENT...    starts the server and calls its tools over stdio

const { spawn } = require("node:child_process");
const { createRequire } = require("node:module");
const readline = require("node:readline");

// A tokenizer that brings its vocabulary along; others fetch theirs.
const { countTokens } = createRequire(`${process.env.SLUICE_SUITES}/`)("gpt-tokenizer/encoding/o200k_base");

/** A server over stdio. */
function connect(command, args) {
  const server = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
  const waiting = new Map();
  server.on("exit", (code) => waiting.forEach(({ reject }) => reject(new Error(`the server ended with ${code}`))));
  let last = 0;
  readline.createInterface({ input: server.stdout }).on("line", (line) => {
    const { id, result, error } = JSON.parse(line);
    const { resolve, reject } = waiting.get(id) ?? {};
    waiting.delete(id);
    if (error) reject?.(new Error(error.message));
    else resolve?.(result);
  });
  const send = (message) => server.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
  return {
    tell: (method) => send({ method }),
    ask: (method, params) =>
      new Promise((resolve, reject) => {
        waiting.set(++last, { resolve, reject });
        send({ id: last, method, params });
      }),
    close: () => server.stdin.end(),
  };
}

const COLUMNS = "nome, email, telefone, origem, status_lead, score_qualificacao, updated_at";
const question = (sql) => ["query_store", { sql }];

/** Calls as an assistant makes them; some take ids from answers before. */
const CALLS = [
  ["sync_leads_from_supabase", { hours_ago: 720, limit: 1000 }],
  ["sync_chat_sessions_from_supabase", { hours_ago: 720, limit: 1000 }],
  ["get_sync", ({ sync_id }) => ({ sync_id })],
  ["list_syncs", {}],
  ["get_supabase_dashboard", {}],
  ["get_pipeline_status", {}],
  ["check_kafka_lag", {}],
  ["get_engine_metrics", {}],
  ["run_doctor", {}],
  ["query_raw_events", {}],
  ["query_raw_events", { limit: 5, include_dados: true }],
  ["get_lead", ({ entidade_id }) => ({ id: entidade_id })],
  question("SELECT count(*) AS leads FROM leads"),
  question("SELECT origem, count(*) AS n FROM leads GROUP BY origem ORDER BY n DESC"),
  question(`SELECT ${COLUMNS} FROM leads ORDER BY updated_at DESC LIMIT 20`),
  question(`SELECT ${COLUMNS} FROM leads ORDER BY updated_at DESC LIMIT 100`),
  ["search_elasticsearch", { index: "eventos", query: "valor:>50" }],
  ["search_elasticsearch", { index: "leads", query: "score_qualificacao:>=50", count_by: ["origem", "status_lead"] }],
  ["search_elasticsearch", { index: "leads", limit: 3, detail: "detailed" }],
  ["lead_report", { group_by: ["origem"] }],
  ["lead_report", { period: "last_14_days", group_by: ["day"] }],
  ["get_lead", ({ entidade_id }) => ({ id: entidade_id, history: true })],
  ["query_raw_events", { changed: "status_lead", period: "this_week" }],
  ["list_dead_letters", { detailed: true }],
  ["pause_sink", ({ sink }) => ({ sink })],
  ["resume_sink", ({ sink }) => ({ sink })],
  ["schedule_sync", { table: "leads", every_seconds: 900 }],
];

/** Keeps the first string of each name. */
function remember(value, seen) {
  for (const [name, member] of Object.entries(value ?? {})) {
    if (typeof member === "string") seen[name] ??= member;
    else if (typeof member === "object") remember(member, seen);
  }
}

const WIDTH = 74;
const row = (name, ...values) =>
  console.log([name.padEnd(WIDTH), ...values.map((value) => String(value).padStart(10))].join(" "));

async function main([command, ...args]) {
  const server = connect(command, args);
  const clientInfo = { name: "tokens", version: "1" };
  await server.ask("initialize", { protocolVersion: "2025-11-25", capabilities: {}, clientInfo });
  server.tell("notifications/initialized");

  const { tools } = await server.ask("tools/list");
  // Clients commonly hand a model these three; output schemas and annotations are for themselves.
  const shown = tools.map(({ name, description, inputSchema }) => ({ name, description, inputSchema }));
  row("in tokens (o200k_base)");
  row(`tools/list, ${tools.length} tools`, countTokens(JSON.stringify(tools)));
  row("of that, what models are shown", countTokens(JSON.stringify(shown)));

  row("answers", "text", "structured");
  const seen = {};
  for (const [name, given] of CALLS) {
    const args = typeof given === "function" ? given(seen) : given;
    const call = `${name} ${JSON.stringify(args)}`;
    const { content, structuredContent, isError } = await server.ask("tools/call", { name, arguments: args });
    const text = content.map((block) => block.text ?? "").join("");
    if (isError) throw new Error(`${call}: ${text}`);
    remember(structuredContent, seen);
    const told = call.length > WIDTH ? `${call.slice(0, WIDTH - 1)}…` : call;
    row(told, countTokens(text), countTokens(JSON.stringify(structuredContent)));
  }
  server.close();
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`error: ${error.message}`);
  process.exit(1);
});
