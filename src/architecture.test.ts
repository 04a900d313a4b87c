/** The table of who may import whom, and that the tree keeps to it: by doors, without a cycle. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const BOTH_HALVES = ["base", "ir", "native", "engine", "program", "reference"];

/** Rooms each room may import, beside itself. Files directly under src know several rooms; they are listed by name. */
const TABLE: Readonly<Record<string, readonly string[]>> = {
  base: [],
  ir: ["base"],
  native: ["base"],
  reference: ["base", "ir"],
  engine: ["base", "ir", "native"],
  program: ["base", "native"],
  runtime: [...BOTH_HALVES],
  data: ["base", "reference"],
  onnx: ["base", "ir"],
  ops: ["base", "ir", "onnx"],
  passes: ["base", "ir", "ops", "onnx", "reference"],
  quantize: ["base", "data", "passes", "reference"],
  schedule: ["base", "ir", "ops"],
  codegen: ["base", "ir"],
  tune: ["base", "ir", "native", "codegen"],
  link: ["base", "ir", "schedule", "engine"],
  "targets.ts": ["base", "codegen", "engine", "ir", "native", "schedule", "tune"],
  "compile.ts": ["base", "engine", "ir", "link", "native", "onnx", "ops", "passes", "reference", "schedule", "targets.ts", "tune", "version.ts"],
  "calibrate.ts": ["base", "compile.ts", "data", "passes", "quantize", "runtime", "schedule", "version.ts"],
  "probe.ts": ["base", "calibrate.ts", "compile.ts", "data", "ir", "native", "onnx"],
  "mixed-precision.ts": ["base", "compile.ts", "data", "passes", "probe.ts", "quantize", "runtime", "version.ts"],
  "layer-noise.ts": ["base", "compile.ts", "passes", "quantize", "runtime"],
  trust: ["base"],
  repository: ["base"],
  backends: ["base", "native", "engine", "runtime", "trust", "repository"],
  server: ["base", "native", "program", "repository", "backends"],
  "compile-child.ts": ["base", "compile.ts", "ir", "native", "onnx", "repository", "schedule", "version.ts"],
  load: ["base", "server"],
  "serve.ts": ["base", "native", "program", "trust", "repository", "backends", "server", "version.ts"],
  "index.ts": ["base", "calibrate.ts", "compile.ts", "data", "layer-noise.ts", "mixed-precision.ts", "passes", "quantize", "reference", "runtime", "schedule", "version.ts"],
  "version.ts": [],
  cli: [...BOTH_HALVES, "calibrate.ts", "data", "layer-noise.ts", "mixed-precision.ts", "quantize", "onnx", "ops", "passes", "schedule", "codegen", "tune", "runtime", "trust", "server", "serve.ts", "load", "compile.ts", "version.ts"],
  demo: ["base", "runtime", "trust", "compile.ts", "serve.ts", "cli", "index.ts", "version.ts"],
  testing: [...BOTH_HALVES, "onnx", "ops", "passes", "schedule", "codegen", "tune", "runtime", "compile.ts"],
};

const here = dirname(fileURLToPath(import.meta.url));
const source = [join(here, "../src"), join(here, "../../src")].find((folder) => existsSync(folder)) ?? here;
const available = source !== here;

function sourceFiles(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return sourceFiles(path);
    return entry.name.endsWith(".ts") && !/(\.test|^testing)\.ts$/.test(entry.name) ? [path] : [];
  });
}

/** Files a file imports; without those it only takes types from, if asked: a part may name the type of its whole. */
function importsOf(file: string, withTypes = true): string[] {
  const text = readFileSync(file, "utf8");
  const found = [...text.matchAll(/^(?:import|export)\b(\s+type\b)?[^;]*?\bfrom\s+"(\.[^"]+)"/gms)].filter((match) => withTypes || !match[1]).map((match) => match[2]!);
  return found.map((target) => normalize(join(dirname(file), target)));
}

const roomOf = (file: string): string => relative(source, file).split("/")[0]!;

test("rooms import only what the table allows, through the other room's door", { skip: !available && "the sources are not beside the build" }, () => {
  const wrong: string[] = [];
  for (const file of sourceFiles(source)) {
    const room = roomOf(file);
    for (const target of importsOf(file)) {
      const other = roomOf(target);
      if (other === room) continue;
      const where = `${relative(source, file)} imports ${relative(source, target)}`;
      if (!(TABLE[room] ?? []).includes(other)) wrong.push(`${where}: "${room}" may not import "${other}"`);
      else if (!other.endsWith(".ts") && !/\/(index|contract)\.ts$/.test(target)) wrong.push(`${where}: not through the door`);
    }
  }
  assert.deepEqual(wrong, []);
});

test("no import cycles", { skip: !available && "the sources are not beside the build" }, () => {
  const state = new Map<string, "open" | "done">();
  const cycles: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    if (state.get(file) === "done") return;
    if (state.get(file) === "open") {
      cycles.push([...path.slice(path.indexOf(file)), file].map((item) => relative(source, item)).join(" > "));
      return;
    }
    state.set(file, "open");
    for (const target of importsOf(file, false)) if (existsSync(target)) visit(target, [...path, file]);
    state.set(file, "done");
  };
  for (const file of sourceFiles(source)) visit(file, []);
  assert.deepEqual(cycles, []);
});
