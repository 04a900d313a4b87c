/** Models of others: ONNX's own tests, graphs of real exporters, trained models. What is absent here is named as skipped. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { SinterError } from "../base/index.ts";
import { type Graph, subgraphsOf } from "../ir/index.ts";
import { importModel } from "./index.ts";
import { ML_OPERATORS, SCHEMAS } from "./schema.ts";

const root = join(import.meta.dirname, ...(import.meta.dirname.includes(".cache") ? ["..", "..", ".."] : ["..", ".."]));
const shared = join(root, "..", "shared");
const unpacked = join(root, ".cache", "conformance");
const archive = join(shared, "conformance", "onnx-tests.tar.xz");
const skipWithout = (path: string): { skip: string | false } => ({ skip: existsSync(path) ? false : `${path} is absent` });

const onnxFiles = (folder: string): string[] => readdirSync(folder).filter((name) => name.endsWith(".onnx")).map((name) => join(folder, name));

/** Unpacks beside and renames, so that two runs at once do not meet. */
function unpack(): void {
  if (existsSync(unpacked)) return;
  const made = `${unpacked}.${process.pid}`;
  mkdirSync(made, { recursive: true });
  execFileSync("tar", ["-xJf", archive, "-C", made]);
  try {
    renameSync(made, unpacked);
  } catch (error) {
    rmSync(made, { recursive: true });
    if (!existsSync(unpacked)) throw error;
  }
}

function modelFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith("model.onnx")).map((name) => join(folder, name)).sort();
}

/** Every node stands after what it reads, and is an operator of ai.onnx, or one of those taken of ai.onnx.ml. */
function assertCanonical(graph: Graph, file: string): void {
  const made = new Set(graph.nodes);
  const seen = new Set<unknown>();
  for (const node of graph.nodes) {
    const isKnown = node.domain === "ai.onnx.ml" ? ML_OPERATORS.has(node.op) : node.domain === "" && SCHEMAS.has(node.op);
    assert.ok(isKnown, `${file}: ${node.domain} ${node.op}`);
    for (const input of node.inputs) if (input?.producer && made.has(input.producer)) assert.ok(seen.has(input.producer), `${file}: ${node.name} reads ${input.name} too early`);
    for (const subgraph of subgraphsOf(node)) assertCanonical(subgraph, file);
    seen.add(node);
  }
}

const REFUSED_DOMAINS = /"ai\.onnx\.(ml|preview|preview\.training)"/;

test("ONNX's own tests are imported, other domains refused by name", skipWithout(archive), () => {
  unpack();
  const files = modelFiles(unpacked);
  assert.ok(files.length > 1600, `${files.length} models`);
  let refused = 0;
  for (const file of files) {
    try {
      const model = importModel(file);
      assertCanonical(model.graph, file);
      model.close();
    } catch (error) {
      assert.ok(error instanceof SinterError && error.code === "unknown-operator" && REFUSED_DOMAINS.test(error.message), `${file}: ${String(error)}`);
      refused++;
    }
  }
  assert.equal(refused, 15);
});

test("graphs without their weights name what is missing", skipWithout(join(shared, "models")), () => {
  for (const file of onnxFiles(join(shared, "models"))) {
    assert.throws(() => importModel(file), (error: unknown) => error instanceof SinterError && error.code === "external-data" && /missing beside the model/.test(error.message), file);
  }
});

test("a graph with its weights", skipWithout(join(shared, "models")), () => {
  const folder = join(root, ".cache", `weights-${process.pid}`);
  try {
    execFileSync(process.execPath, [join(shared, "models", "make-weights.mjs"), folder, join(shared, "models", "mobilenet_v3_large-ts.onnx")]);
    const model = importModel(join(folder, "mobilenet_v3_large-ts.onnx"));
    assertCanonical(model.graph, "mobilenet_v3_large-ts.onnx");
    assert.equal(model.graph.nodes.filter((node) => node.op === "Conv").length, 62);
    model.close();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

for (const folder of [join(shared, "trained"), join(root, "node_modules", "@gutenye", "ocr-models", "assets")]) {
  test(`trained models of ${folder.slice(root.length + 1) || folder}`, skipWithout(folder), () => {
    const files = onnxFiles(folder);
    assert.ok(files.length > 0);
    for (const file of files) {
      const model = importModel(file);
      assertCanonical(model.graph, file);
      assert.ok(model.graph.nodes.length > 20);
      model.close();
    }
  });
}
