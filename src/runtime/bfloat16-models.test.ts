/** Precision bf16 end to end: near float32, half the weights, native all through; refused where there is no instruction for it. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { elementCount, Tensor, UnsupportedError } from "../base/index.ts";
import { build } from "../compile.ts";
import { detectCpu } from "../native/index.ts";
import { type GraphDescription, makeModel, type NodeDescription } from "../onnx/index.ts";
import { Engine } from "./engine.ts";

const folder = mkdtempSync(join(tmpdir(), "sinter-bfloat16-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const skip = detectCpu().features.has("avx512bf16") ? false : "this processor has no AVX512-BF16";

const noise = (dims: readonly number[], seed: number, scale = 1): Tensor =>
  new Tensor("float32", Float32Array.from({ length: elementCount(dims) }, (_, i) => Math.sin(seed * 12.9898 + i * 78.233) * scale), dims);
const node = (op: string, inputs: string, output: string, attributes?: NodeDescription["attributes"]): NodeDescription => ({ op, inputs: inputs.split(" "), outputs: [output], ...(attributes ? { attributes } : {}) });

/** @returns the cosine of the results of both precisions, and the sizes of their engines */
async function compare(name: string, given: GraphDescription, feeds: Readonly<Record<string, Tensor>>): Promise<{ cosine: number; bytes: number[] }> {
  const results: Float32Array[] = [];
  const bytes: number[] = [];
  for (const precision of ["fp32", "bf16"] as const) {
    const output = join(folder, `${name}-${precision}.engine`);
    await build(makeModel({ opset: 21, ...given }), { output, level: 0, precision });
    using engine = await Engine.load(output);
    assert.equal(engine.metadata.precision, precision);
    assert.equal(engine.hasReferenceSteps, false);
    using context = engine.createContext();
    results.push(Float32Array.from((context.runSync(feeds)["y"] as Tensor).data as Float32Array));
    bytes.push(statSync(output).size);
  }
  const [a, b] = results as [Float32Array, Float32Array];
  const dot = (x: Float32Array, y: Float32Array): number => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
  return { cosine: dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b)), bytes };
}

test("a transformer's blocks: normalisation, products, residual streams", { skip }, async () => {
  const width = 96;
  const block = (x: string, i: number, y: string): NodeDescription[] => [
    node("LayerNormalization", `${x} g b`, `n${i}`), node("MatMul", `n${i} u${i}`, `h${i}`), node("Gelu", `h${i}`, `a${i}`), node("MatMul", `a${i} d${i}`, `o${i}`), node("Add", `o${i} ${x}`, y),
  ];
  const { cosine, bytes } = await compare("blocks", {
    inputs: [{ name: "x", type: "float32", dims: [1, 7, width] }], outputs: [{ name: "y", type: "float32" }],
    initializers: {
      g: noise([width], 1, 0.5), b: noise([width], 2), w: noise([width, width], 3, 0.1),
      ...Object.fromEntries([0, 1].flatMap((i) => [[`u${i}`, noise([width, 4 * width], 4 + i, 0.1)], [`d${i}`, noise([4 * width, width], 6 + i, 0.1)]])),
    },
    nodes: [node("MatMul", "x w", "e"), ...block("e", 0, "f"), ...block("f", 1, "z"), node("LayerNormalization", "z g b", "y")],
  }, { x: noise([1, 7, width], 9) });
  assert.ok(cosine > 0.9995, `cosine ${cosine}`);
  assert.ok(bytes[1]! < 0.6 * bytes[0]!, `engines of ${bytes} bytes`);
});

test("convolutions with residuals and odd channels", { skip }, async () => {
  const { cosine } = await compare("image", {
    inputs: [{ name: "x", type: "float32", dims: [1, 3, 15, 15] }], outputs: [{ name: "y", type: "float32" }],
    initializers: { w1: noise([33, 3, 3, 3], 1), w2: noise([33, 33, 3, 3], 2, 0.1), w3: noise([64, 33, 1, 1], 3, 0.2), w4: noise([64, 64, 1, 1], 4, 0.2) },
    nodes: [
      node("Conv", "x w1", "a", { pads: [1, 1, 1, 1] }), node("Relu", "a", "b"), node("Conv", "b w2", "c", { pads: [1, 1, 1, 1] }), node("Add", "c b", "d"), node("Relu", "d", "e"),
      node("MaxPool", "e", "p", { kernel_shape: [2, 2], strides: [2, 2] }), node("Conv", "p w3", "f"), node("Relu", "f", "g"), node("Conv", "g w4", "h"), node("Add", "h g", "y"),
    ],
  }, { x: noise([1, 3, 15, 15], 7) });
  assert.ok(cosine > 0.9995, `cosine ${cosine}`);
});

test("a processor without AVX512-BF16 is told what it can do instead", async () => {
  const model = makeModel({ opset: 21, inputs: [{ name: "x", type: "float32", dims: [2] }], outputs: [{ name: "y", type: "float32" }], nodes: [node("Relu", "x", "y")] });
  await assert.rejects(
    build(model, { output: join(folder, "refused.engine"), precision: "bf16", env: { SINTER_CPU: "avx2" } }),
    (error: unknown) => error instanceof UnsupportedError && /AVX512-BF16/.test(error.message) && /--precision fp32/.test(error.message),
  );
});
