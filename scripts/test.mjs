// `npm test`: prepares, then runs every test file with node's test runner, each file in a process of its own.
// Arguments filter by path, for example `npm test -- schedule`.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { prepare, root } from "./prepare.mjs";

function testFiles(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return testFiles(path);
    return entry.name.endsWith(".test.js") ? [path] : [];
  });
}

prepare();
const shared = join(root, "../shared");
if (!existsSync(shared)) console.log("The folder ../shared is absent: tests that need its models and data say that they are skipped.");
const wanted = process.argv.slice(2);
const files = testFiles(join(root, "dist")).filter((file) => wanted.length === 0 || wanted.some((part) => file.includes(part))).sort();
const result = spawnSync(process.execPath, ["--test", "--test-reporter=spec", "--test-concurrency=2", ...files], { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
process.exit(result.status ?? 1);
