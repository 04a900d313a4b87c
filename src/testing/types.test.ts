/** Types that kernels do not compute in: their operators run on the reference, and the engine is built all the same. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type DType, newArray, Tensor } from "../base/index.ts";
import { importModel, makeModel } from "../onnx/index.ts";
import { interpret } from "../reference/index.ts";
import { runOnEngine } from "./engine-executor.ts";

const cases: readonly [op: string, dtypes: readonly DType[], attributes?: Record<string, number>][] = [
  ["Exp", ["float64"]], ["Tanh", ["float64"]], ["Erf", ["float64"]], ["Softmax", ["float64"]], ["ReduceLogSumExp", ["float64"]],
  ["ReduceL2", ["float64", "int32", "int64", "uint32", "uint64"]],
  ["Pow", ["float64", "int32", "int64"]],
  ["LRN", ["float64"], { size: 3 }],
  ["GlobalLpPool", ["float64"]],
];

for (const [op, dtypes, attributes] of cases) {
  test(`${op} of ${dtypes.join(", ")}`, async () => {
    for (const dtype of dtypes) {
      const inputs = op === "Pow" ? ["x", "x"] : ["x"];
      const model = makeModel({ opset: 22, inputs: [{ name: "x", type: dtype, dims: [2, 4, 3, 3] }], outputs: [{ name: "y", type: dtype }], nodes: [{ op, inputs, outputs: ["y"], ...(attributes ? { attributes } : {}) }] });
      const { graph } = importModel(model);
      const data = newArray(dtype, 72);
      for (let i = 0; i < 72; i++) data[i] = typeof data[0] === "bigint" ? BigInt(1 + (i % 4)) : 1 + (i % 4);
      const x = new Tensor(dtype, data, [2, 4, 3, 3]);
      const expected = interpret(graph, { x })[0] as Tensor;
      const actual = (await runOnEngine(graph, new Map([[graph.inputs[0]!, x]]), model)).outputs[0] as Tensor;
      assert.deepEqual([actual.type, actual.dims], [dtype, expected.dims]);
      Array.from(expected.data as Float64Array).forEach((item, i) => {
        const [a, b] = [Number((actual.data as Float64Array)[i]), Number(item)];
        assert.ok(Math.abs(a - b) <= 1e-12 * Math.abs(b), `${dtype}, item ${i} is ${a}, expected ${b}`);
      });
    }
  });
}
