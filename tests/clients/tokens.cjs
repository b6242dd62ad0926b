// Reads the answer to tools/list and says how many tokens it is to a model.

const { createRequire } = require("node:module");
const fs = require("node:fs");

// A tokenizer that brings its vocabulary along; others fetch theirs.
const { countTokens } = createRequire(`${process.env.SLUICE_SUITES}/`)("gpt-tokenizer/encoding/o200k_base");
const { tools } = JSON.parse(fs.readFileSync(0, "utf8")).result;
// Clients commonly hand a model these three; output schemas and annotations are for themselves.
const shown = tools.map(({ name, description, inputSchema }) => ({ name, description, inputSchema }));

const row = (name, value) =>
  console.log(`${name.padEnd(44)} ${countTokens(JSON.stringify(value))} tokens (o200k_base)`);
row(`tools/list, ${tools.length} tools`, tools);
row("of that, what models are shown", shown);
