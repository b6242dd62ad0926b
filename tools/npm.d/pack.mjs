// Makes the npm packages: one that starts the program, and one for each kind of machine, which holds it.
// Arguments: the folder to write to, the repository (owner/name), the version, and KIND=BINARY for each kind there is.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

// Linux programs are linked to glibc, and npm passes over them elsewhere.
const KINDS = {
  "linux-x64": { os: ["linux"], cpu: ["x64"], libc: ["glibc"] },
  "linux-arm64": { os: ["linux"], cpu: ["arm64"], libc: ["glibc"] },
  "darwin-x64": { os: ["darwin"], cpu: ["x64"] },
  "darwin-arm64": { os: ["darwin"], cpu: ["arm64"] },
};

const [out, repository, version, ...given] = process.argv.slice(2);
const name = `@${repository.toLowerCase()}`;
const { bin, files, ...common } = JSON.parse(fs.readFileSync("packaging/npm/package.json", "utf8"));
Object.assign(common, { version, repository: { type: "git", url: `git+https://github.com/${repository}.git` } });

function pack(folder, contents, members) {
  fs.mkdirSync(folder, { recursive: true });
  for (const [file, from, mode] of [...contents, ["LICENSE", "LICENSE", 0o644]]) {
    fs.copyFileSync(from, path.join(folder, file));
    fs.chmodSync(path.join(folder, file), mode);
  }
  fs.writeFileSync(path.join(folder, "package.json"), JSON.stringify({ ...common, ...members }, null, 2) + "\n");
  execFileSync("npm", ["pack", "--silent", "--pack-destination", path.resolve(out)], { cwd: folder, stdio: "inherit" });
}

for (const argument of given) {
  const [kind, binary] = argument.split(/=(.*)/s);
  if (!KINDS[kind]) throw new Error(`${kind} is none of ${Object.keys(KINDS).join(", ")}`);
  const members = { name: `${name}-${kind}`, description: `sluice for ${kind}`, files: ["sluice"], ...KINDS[kind] };
  // Somebody who has only this package has the program all the same.
  pack(path.join(out, kind), [["sluice", binary, 0o755]], members);
}
const optionalDependencies = Object.fromEntries(Object.keys(KINDS).map((kind) => [`${name}-${kind}`, version]));
// What the registry of MCP servers looks for, to believe that the package is of the entry's owner.
const mcpName = `io.github.${repository}`;
pack(
  // Its README is filled in by tools/npm.
  path.join(out, "sluice"),
  [["sluice.js", "packaging/npm/sluice.js", 0o755], ["README.md", path.join(out, "README.md"), 0o644]],
  { name, mcpName, bin, files, optionalDependencies },
);
