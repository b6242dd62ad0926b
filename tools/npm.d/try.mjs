// Speaks MCP to the installed package over stdio, as a client would: initialize, and an end.
// Arguments: the version to be told, how to end it (stdin, or a signal's name), and the command.
import { spawn } from "node:child_process";
import readline from "node:readline";

const [version, end, command, ...rest] = process.argv.slice(2);
const server = spawn(command, rest, { stdio: ["pipe", "pipe", "inherit"] });
const ended = new Promise((resolve) => server.on("exit", (code, signal) => resolve(signal ?? code)));
const lines = readline.createInterface({ input: server.stdout })[Symbol.asyncIterator]();

const params = { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "npm-try", version: "1" } };
server.stdin.write(JSON.stringify({ jsonrpc: "2.0", id: 1, method: "initialize", params }) + "\n");
const { value } = await lines.next();
const told = JSON.parse(value ?? "null")?.result?.serverInfo;
if (told?.name !== "sluice" || told.version !== version) throw new Error(`initialize was answered with ${value}`);
if (end === "stdin") server.stdin.end();
else server.kill(end);
const code = await ended;
// The program leaves nothing behind that would keep its output open.
for await (const line of { [Symbol.asyncIterator]: () => lines }) throw new Error(`after the end it said ${line}`);
if (code !== 0) throw new Error(`the server ended with ${code} after ${end}`);
