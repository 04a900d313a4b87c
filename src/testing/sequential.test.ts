/**
 * Sequential operators: engines agree with the reference, with ties, repeated indices and sizes that change from run to
 * run; kernels agree with the interpreter on memory that ends at an unmapped page.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { type NumericArray, newArray, Tensor, viewArray } from "../base/index.ts";
import { compileSequential, isaOf } from "../codegen/index.ts";
import { build } from "../compile.ts";
import { interpretSequential, sequentialBuffers, type SequentialKernel } from "../ir/index.ts";
import { allocateGuarded, detectCpu } from "../native/index.ts";
import { type GraphDescription, importModel, makeModel, type NodeDescription } from "../onnx/index.ts";
import { interpret } from "../reference/index.ts";
import { Engine } from "../runtime/index.ts";
import { BoundKernel, spanOf } from "../tune/index.ts";
import { planOf } from "./plan-of.ts";
import { floats } from "./small-models.ts";

const folder = mkdtempSync(join(tmpdir(), "sinter-sequential-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const i64 = (...items: number[]): Tensor => new Tensor("int64", items);
/** Few different values, so that many are equal. */
const coarse = (dims: readonly number[], seed: number): Tensor => new Tensor("float32", floats(dims.reduce((a, b) => a * b, 1), seed).map((x) => Math.round(x * 8) / 4), dims);
const integers = (dims: readonly number[], seed: number, from: number, to: number): Tensor => new Tensor("int64", BigInt64Array.from(floats(dims.reduce((a, b) => a * b, 1), seed), (x) => BigInt(Math.floor((x + 0.5) * (to - from)) + from)), dims);

interface Case {
  readonly name: string;
  readonly node: NodeDescription;
  readonly constants?: Readonly<Record<string, Tensor>>;
  /** Feeds of one run after another. */
  readonly runs: readonly Readonly<Record<string, Tensor>>[];
  /** Dims of the inputs as the model states them; those of the first run when absent. */
  readonly dims?: Readonly<Record<string, readonly (number | string)[]>>;
  readonly outputs?: Readonly<Record<string, "int64" | "float32">>;
}

const topK = (axis: number, k: number, attributes = {}): Case => ({
  name: `TopK of axis ${axis}, ${k} of it ${JSON.stringify(attributes)}`, node: { op: "TopK", inputs: ["x", "k"], outputs: ["y", "at"], attributes: { axis, ...attributes } },
  constants: { k: i64(k) }, runs: [1, 2].map((seed) => ({ x: coarse([3, 37, 5], seed) })), outputs: { y: "float32", at: "int64" },
});

const boxes = (seed: number): Tensor => new Tensor("float32", floats(2 * 60 * 4, seed).map((x, i) => (i % 4 < 2 ? x * 2 : x + 1)), [2, 60, 4]);
const suppressed = (attributes = {}, given: readonly string[] = ["most", "limit", "lowest"]): Case => ({
  name: `NonMaxSuppression ${JSON.stringify(attributes)} with ${given.join(", ")}`, node: { op: "NonMaxSuppression", inputs: ["boxes", "scores", ...given], outputs: ["y"], attributes },
  constants: { most: i64(9), limit: new Tensor("float32", [0.3]), lowest: new Tensor("float32", [-0.1]) },
  runs: [1, 2, 3].map((seed) => ({ boxes: boxes(seed), scores: seed === 3 ? new Tensor("float32", new Float32Array(360).fill(-1), [2, 3, 60]) : coarse([2, 3, 60], seed) })), outputs: { y: "int64" },
});

const scattered = (op: string, attributes: NodeDescription["attributes"], indices: readonly number[], updates: readonly number[]): Case => ({
  name: `${op} ${JSON.stringify(attributes)}`, node: { op, inputs: ["x", "indices", "updates"], outputs: ["y"], ...(attributes ? { attributes } : {}) },
  runs: [1, 2].map((seed) => ({ x: coarse([4, 5, 3], seed), indices: integers(indices, seed, -3, 3), updates: coarse(updates, seed + 7) })), outputs: { y: "float32" },
});

const CASES: readonly Case[] = [
  topK(1, 7), topK(1, 37), topK(0, 2, { largest: 0 }), topK(-1, 1), topK(1, 0),
  { ...topK(-1, 3), name: "TopK of a count that comes with the data", constants: {}, runs: [3, 1, 5].map((k, seed) => ({ x: coarse([3, 37, 5], seed), k: i64(k) })) },
  { name: "NonZero", node: { op: "NonZero", inputs: ["x"], outputs: ["y"] }, runs: [[4, 6], [1, 1], [9, 3], [2, 30]].map((dims, seed) => ({ x: coarse(dims, seed + 1) })), dims: { x: ["n", "m"] }, outputs: { y: "int64" } },
  suppressed(), suppressed({ center_point_box: 1 }), suppressed({}, ["most"]), suppressed({}, []),
  scattered("ScatterND", {}, [6, 2], [6, 3]), scattered("ScatterND", { reduction: "add" }, [6, 1], [6, 5, 3]), scattered("ScatterND", { reduction: "max" }, [2, 3, 3], [2, 3]),
  scattered("ScatterElements", { axis: 1 }, [2, 3, 3], [2, 3, 3]), scattered("ScatterElements", { axis: -1, reduction: "mul" }, [4, 5, 2], [4, 5, 2]), scattered("ScatterElements", { axis: 0, reduction: "add" }, [3, 1, 3], [3, 1, 3]),
  ...[{}, { exclusive: 1 }, { reverse: 1 }].map((attributes): Case => ({ name: `CumSum ${JSON.stringify(attributes)}`, node: { op: "CumSum", inputs: ["x", "axis"], outputs: ["y"], attributes }, constants: { axis: new Tensor("int64", [1], []) }, runs: [{ x: coarse([3, 200, 2], 1) }], outputs: { y: "float32" } })),
];

function modelOf({ node, constants, runs, dims, outputs }: Case): Uint8Array {
  const description: Parameters<typeof makeModel>[0] = {
    opset: 18, initializers: constants ?? {}, nodes: [node],
    inputs: Object.entries(runs[0]!).map(([name, tensor]) => ({ name, type: tensor.type, dims: dims?.[name] ?? tensor.dims })),
    outputs: Object.entries(outputs ?? {}).map(([name, type]) => ({ name, type })),
  };
  return makeModel(description);
}

function assertSame(actual: Tensor, expected: Tensor): void {
  assert.deepEqual(actual.dims, expected.dims);
  expected.data.forEach((item, i) => { assert.ok(Math.abs(Number(item) - Number(actual.data[i])) <= 1e-5 * Math.max(1, Math.abs(Number(item))), `item ${i} is ${actual.data[i]}, expected ${item}`); });
}

describe("sequential operators on engines", () => {
  for (const [number, one] of CASES.entries()) {
    it(one.name, async () => {
      const bytes = modelOf(one);
      const path = join(folder, `${number}.engine`);
      await build(bytes, { output: path, level: 0, strict: true });
      using engine = await Engine.load(path, { threads: 2 });
      for (const feeds of [...one.runs, ...one.runs]) {
        const expected = interpret(importModel(bytes).graph, feeds);
        const results = await engine.run(feeds);
        Object.keys(one.outputs!).forEach((name, i) => { assertSame(results[name] as Tensor, expected[i] as Tensor); });
      }
    });
  }

  it("gives sizes that an If's branches decide", async () => {
    const branch = (name: string, nodes: readonly NodeDescription[], output: string): GraphDescription => ({ name, inputs: [], outputs: [{ name: output, type: "int64" }], nodes });
    const bytes = makeModel({
      opset: 18, inputs: [{ name: "x", type: "float32", dims: ["n"] }], outputs: [{ name: "y", type: "int64" }], initializers: { none: new Tensor("int64", [], [1, 0]), zero: new Tensor("float32", [0], []), two: i64(2) },
      nodes: [
        { op: "ReduceMax", inputs: ["x"], outputs: ["most"], attributes: { keepdims: 0 } }, { op: "Greater", inputs: ["most", "zero"], outputs: ["some"] },
        { op: "If", inputs: ["some"], outputs: ["places"], attributes: { then_branch: branch("some", [{ op: "Relu", inputs: ["x"], outputs: ["r"] }, { op: "NonZero", inputs: ["r"], outputs: ["at"] }], "at"), else_branch: branch("none", [{ op: "Identity", inputs: ["none"], outputs: ["nothing"] }], "nothing") } },
        { op: "Mul", inputs: ["places", "two"], outputs: ["y"] },
      ],
    });
    const path = join(folder, "if.engine");
    await build(bytes, { output: path, level: 0, strict: true });
    using engine = await Engine.load(path, { threads: 1 });
    for (const items of [[1, -1, 2, 0, 3], [-1, -2], [5], [-3, 4, 4]]) {
      const x = new Tensor("float32", items);
      assertSame((await engine.run({ x }))["y"] as Tensor, interpret(importModel(bytes).graph, { x })[0] as Tensor);
    }
  });
});

const isas = [detectCpu({}), detectCpu({ SINTER_CPU: "avx2" })].map((cpu) => isaOf(cpu.features)!);

/** Kernels that read nothing but what the model is given. */
function kernelsOf(one: Case): SequentialKernel[] {
  const { plan } = planOf(modelOf(one));
  return plan.steps.flatMap((step) => (step.kind === "kernel" && step.kernel.kind === "sequential" && /^(TopK|NonZero.count|NonMaxSuppression.choose|Scatter|CumSum)/.test(step.kernel.name) ? [step.kernel] : []));
}

function contentsOf(kernel: SequentialKernel, one: Case): Map<Parameters<typeof spanOf>[0], NumericArray> {
  const given = Object.values({ ...one.constants, ...one.runs[0] });
  return new Map([...sequentialBuffers(kernel)].map((buffer) => {
    const array = newArray(buffer.dtype, spanOf(buffer, new Map())) as NumericArray;
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    const source = given.find((tensor) => tensor.bytes.byteLength === bytes.byteLength && !kernel.outputs.includes(buffer));
    if (source) bytes.set(source.bytes);
    return [buffer, array];
  }));
}

describe("sequential kernels in memory that ends at an unmapped page", () => {
  for (const one of CASES.filter(({ dims, constants, runs }) => !dims && !(runs[0]!["k"] && !constants?.["k"]))) {
    it(one.name, () => {
      for (const kernel of kernelsOf(one)) {
        for (const isa of isas) {
          const contents = contentsOf(kernel, one);
          const bound = new BoundKernel(compileSequential(kernel, isa), new Map(), { allocate: (size) => allocateGuarded(size, "end") });
          try {
            const elements = (buffer: Parameters<typeof spanOf>[0]): NumericArray => viewArray(buffer.dtype as "float32", bound.memory(buffer)!.view()) as NumericArray;
            for (const [buffer, array] of contents) if (bound.memory(buffer) && array.length > 0) elements(buffer).set(array as never);
            bound.run(0, bound.tiles);
            interpretSequential(kernel, { bindings: new Map(), arrays: contents });
            for (const buffer of kernel.outputs) if (contents.get(buffer)!.length > 0 && bound.memory(buffer)) assert.deepEqual([...elements(buffer).slice(0, contents.get(buffer)!.length)], [...contents.get(buffer)!]);
          } finally {
            bound.dispose();
          }
        }
      }
    });
  }
});
