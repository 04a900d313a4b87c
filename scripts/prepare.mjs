// What `npm start` and `npm test` do first on a fresh clone: install the pinned dependencies when they are missing or
// older than the lock file, then build when a source is newer than the last build.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));

function run(command, args) {
  const result = spawnSync(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
  if (result.status !== 0) process.exit(result.status ?? 1);
}

const modifiedAt = (path) => (existsSync(path) ? statSync(path).mtimeMs : 0);

function newestSource(folder) {
  let newest = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    newest = Math.max(newest, entry.isDirectory() ? newestSource(path) : modifiedAt(path));
  }
  return newest;
}

function install() {
  const installed = modifiedAt(join(root, "node_modules/.package-lock.json"));
  if (installed > 0 && installed >= modifiedAt(join(root, "package-lock.json"))) return;
  console.log("Installing dependencies…");
  run("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
}

export function build() {
  rmSync(join(root, "dist"), { recursive: true, force: true });
  run(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", join(root, "tsconfig.json")]);
}

export function prepare() {
  install();
  const built = modifiedAt(join(root, "dist/index.js"));
  if (built < Math.max(newestSource(join(root, "src")), modifiedAt(join(root, "tsconfig.json")))) {
    console.log("Building…");
    build();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) build();
