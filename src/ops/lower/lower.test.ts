import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBfloat16Bits, fromFloat16Bits, newArray, type NumericArray, Tensor } from "../../base/index.ts";
import { type Axis, axisIndex, type Buffer, castTo, interpretLoop, loadElement, type Node, scalarTypeOf } from "../../ir/index.ts";
import { evaluateNode } from "../../reference/index.ts";
import { opKey } from "../contract.ts";
import { inferNode } from "../infer/index.ts";
import { buildCase, OPERATOR_CASES } from "./cases.ts";
import { lowerings } from "./index.ts";

function randomizer(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return ((state >>> 8) & 0xffff) / 32768 - 1;
  };
}

function lowered(node: Node, tensors: readonly (Tensor | undefined)[]): Tensor {
  const lowering = lowerings.get(opKey(node));
  assert.ok(lowering, `no lowering for ${opKey(node)}`);
  assert.ok(lowering.supports?.(node) ?? true, `${node.op} is not supported`);
  const result = node.outputs[0]!;
  const axes: Axis[] = result.dims!.map((extent, i) => ({ name: `a${i}`, extent }));
  const arrays = new Map<Buffer, NumericArray>();
  const buffers = tensors.map((tensor, i): Buffer => ({ name: `x${i}`, dtype: tensor?.type ?? "float32", dims: tensor?.dims ?? [] }));
  tensors.forEach((tensor, i) => { if (tensor) arrays.set(buffers[i]!, tensor.data as NumericArray); });
  const output: Buffer = { name: "y", dtype: result.dtype!, dims: result.dims! };
  const array = newArray(result.dtype!, result.dims!.reduce<number>((a, b) => a * Number(b), 1)) as NumericArray;
  arrays.set(output, array);
  const value = lowering.element(node, 0, axes.map(axisIndex), (input, index) => loadElement(buffers[input]!, index));
  interpretLoop({ kind: "loop", name: node.op, axes, outputs: [{ buffer: output, value: castTo(scalarTypeOf(output.dtype), value) }] }, { bindings: new Map(), arrays });
  return new Tensor(result.dtype!, array, result.dims!.map(Number));
}

function numbers(tensor: Tensor): number[] {
  const decode = tensor.type === "float16" ? fromFloat16Bits : tensor.type === "bfloat16" ? fromBfloat16Bits : (x: number): number => x;
  return Array.from(tensor.data as ArrayLike<number | bigint>, (item) => decode(Number(item)));
}

for (const [at, operator] of OPERATOR_CASES.entries()) {
  const title = `${operator.op} ${operator.inputs.map((operand) => (operand ? `${operand.dtype}[${operand.dims}]` : "-")).join(" ")} ${JSON.stringify(operator.attributes ?? {})}`;
  test(`lowering of ${title} agrees with the reference`, () => {
    const { node, tensors } = buildCase(operator, randomizer(at + 1));
    inferNode(node);
    const expected = evaluateNode(node, tensors)[0] as Tensor;
    const got = lowered(node, tensors);
    assert.deepEqual(got.dims, expected.dims);
    assert.equal(got.type, expected.type);
    const want = numbers(expected);
    numbers(got).forEach((value, i) => {
      const tolerance = 1e-5 * Math.max(1, Math.abs(want[i]!)) * (expected.type === "float16" || expected.type === "bfloat16" ? 1000 : 1);
      assert.ok(Object.is(value, want[i]) || Math.abs(value - want[i]!) <= tolerance || value === want[i], `element ${i}: got ${value}, expected ${want[i]}`);
    });
  });
}
