#!/usr/bin/env node
// Starts the program that npm installed for this machine's kind: the package of that name is an optional dependency.
"use strict";
const { spawn } = require("node:child_process");
const { constants } = require("node:os");
const { name, optionalDependencies } = require("./package.json");

const kind = `${process.platform}-${process.arch}`;
const wanted = `${name}-${kind}`;

function refuse(reason) {
  console.error(`error: ${reason}`);
  process.exit(1);
}

function program() {
  try {
    return require.resolve(`${wanted}/sluice`);
  } catch {
    const kinds = Object.keys(optionalDependencies).map((other) => other.slice(name.length + 1));
    refuse(
      kinds.includes(kind)
        ? `${wanted} is not installed; install ${name} again without --omit=optional ` +
            "(a Linux without glibc, such as Alpine, has no package: run the container instead)"
        : `there is no sluice for ${kind}, only for ${kinds.join(", ")}; run the container instead, on Windows also in WSL`,
    );
  }
}

const child = spawn(program(), process.argv.slice(2), { stdio: "inherit" });
// A terminal tells the whole group, a client or a supervisor only this process.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => child.kill(signal));
}
child.on("error", (error) => refuse(`${wanted} could not be started: ${error.message}`));
child.on("exit", (code, signal) => {
  // What the loader of a Linux exits with when a library is missing; it has named it above.
  if (code === 127) console.error("sluice needs the system's OpenSSL 3 and zlib: on Debian and Ubuntu, apt-get install libssl3 zlib1g");
  process.exit(signal ? 128 + constants.signals[signal] : code);
});
