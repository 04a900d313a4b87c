/** The reference pages are what the code says. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { commandReference, errorReference, operatorReference } from "./reference.ts";

function docsFolder(): string | undefined {
  for (let folder = dirname(fileURLToPath(import.meta.url)); folder !== dirname(folder); folder = dirname(folder)) {
    if (existsSync(join(folder, "package.json"))) return existsSync(join(folder, "docs")) ? join(folder, "docs") : undefined;
  }
  return undefined;
}

const docs = docsFolder();

for (const [name, expected] of [["CLI.md", commandReference], ["ERRORS.md", errorReference], ["OPERATORS.md", operatorReference]] as const) {
  test(`docs/${name} is up to date; otherwise: node scripts/docs.mjs`, { skip: docs === undefined && "the documents are not beside the build" }, () => {
    assert.equal(readFileSync(join(docs!, name), "utf8"), expected());
  });
}
