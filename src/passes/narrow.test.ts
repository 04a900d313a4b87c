/** What precision bf16 makes of small graphs, and what the plan makes of that. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Graph, printKernel } from "../ir/index.ts";
import { importModel, makeModel, type NodeDescription } from "../onnx/index.ts";
import { inferTypes } from "../ops/index.ts";
import { evaluateNode } from "../reference/index.ts";
import { PROCESSOR_KERNELS, schedule } from "../schedule/index.ts";
import { numbered } from "./pass-case.ts";
import { runPasses } from "./index.ts";

const node = (op: string, inputs: string, output: string, attributes?: NodeDescription["attributes"]): NodeDescription => ({ op, inputs: inputs.split(" "), outputs: [output], ...(attributes ? { attributes } : {}) });

/** Each constant is given by its dims. */
function narrowed(nodes: readonly NodeDescription[], x: readonly number[], constants: Readonly<Record<string, readonly number[]>>): { graph: Graph; steps: string[] } {
  const { graph } = importModel(makeModel({
    opset: 21, nodes: [...nodes], inputs: [{ name: "x", type: "float32", dims: x }], outputs: [{ name: "y", type: "float32" }],
    initializers: Object.fromEntries(Object.entries(constants).map(([name, dims], i) => [name, numbered(dims, i + 1)])),
  }));
  inferTypes(graph);
  runPasses(graph, { evaluate: evaluateNode, narrow: { type: "bfloat16", attention: false, everywhere: false } });
  const steps = schedule(graph, { ...PROCESSOR_KERNELS, bfloat16: true }).steps.map((step) => (step.kind === "kernel" ? printKernel(step.kernel) : step.kind));
  return { graph, steps };
}

const opsOf = (graph: Graph): string[] => graph.nodes.map(({ op }) => op);

describe("precision bf16", () => {
  it("keeps a small last product in float32, and stores what the products before it read in bfloat16", () => {
    const { graph, steps } = narrowed(
      [node("MatMul", "x w1", "a"), node("Relu", "a", "b"), node("MatMul", "b w2", "c"), node("Relu", "c", "d"), node("MatMul", "d w3", "y")],
      [4, 128], { w1: [128, 512], w2: [512, 128], w3: [128, 8] },
    );
    assert.deepEqual(opsOf(graph), ["Cast", "MatMul", "Cast", "Relu", "Cast", "MatMul", "Cast", "Relu", "MatMul"]);
    assert.equal(graph.nodes.at(-1)!.inputs[1]!.dtype, "float32");
    assert.equal(steps.length, 4);
    assert.match(steps[1]!, /a b0:bfloat16.* b b1:bfloat16.* out b2:bfloat16/);
    assert.match(steps[2]!, /a b0:bfloat16.* out b2:float32/);
  });

  it("writes a residual stream in float32 and in bfloat16 from one kernel", () => {
    const { steps } = narrowed(
      [node("MatMul", "x w1", "a"), node("Add", "a x", "b"), node("MatMul", "b w2", "c"), node("Add", "c b", "d"), node("MatMul", "d w3", "e"), node("MatMul", "e w4", "y")],
      [4, 64], { w1: [64, 64], w2: [64, 64], w3: [64, 512], w4: [512, 512] },
    );
    assert.match(steps[1]!, /^matmul .* out b2:float32\[4, 64\] and b3:bfloat16\[4, 64\]/);
    assert.deepEqual(steps.map((step) => step.split(" ")[0]), ["loop", "matmul", "matmul", "matmul", "matmul"]);
  });

  it("stores images once, and leaves depthwise convolutions and the first one, which reads channels-first, as they are", () => {
    const { graph, steps } = narrowed([
      node("Conv", "x w1", "a"), node("Relu", "a", "b"), node("Conv", "b w2", "c"), node("Add", "c b", "d"), node("Relu", "d", "e"),
      node("Conv", "e w3", "f", { group: 32, pads: [1, 1, 1, 1] }), node("Relu", "f", "g"), node("Conv", "g w4", "h"), node("GlobalAveragePool", "h", "y"),
    ], [1, 3, 8, 8], { w1: [32, 3, 1, 1], w2: [32, 32, 1, 1], w3: [32, 1, 3, 3], w4: [4096, 32, 1, 1] });
    const convolutions = graph.nodes.filter(({ op }) => op === "Conv").map(({ inputs }) => inputs[1]!.dtype);
    assert.deepEqual(convolutions, ["float32", "bfloat16", "float32", "bfloat16"]);
    assert.match(steps[0]!, /^conv .* out b2:bfloat16/);
    assert.match(steps[1]!, /^matmul .* a b0:bfloat16.* out b2:float32.* b0\[/);
  });
});
