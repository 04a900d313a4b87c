/** Channels-last operators give what channels-first ones give, transposed. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { elementCount, Tensor } from "../base/index.ts";
import { makeNode, Value } from "../ir/index.ts";
import { evaluateNode, type HostValue } from "./index.ts";

function numbered(dims: readonly number[], seed: number): Tensor {
  return new Tensor("float32", Float32Array.from({ length: elementCount(dims) }, (_, i) => Math.sin(i * 7.1 + seed)), dims);
}

/** [N, C, H, W] to [N, H, W, C]. */
function toChannelsLast(tensor: Tensor): Tensor {
  const [n, c, h, w] = tensor.dims as readonly [number, number, number, number];
  const result = Tensor.zeros("float32", [n, h, w, c]);
  const [from, to] = [tensor.data as Float32Array, result.data as Float32Array];
  for (let at = 0; at < from.length; at++) {
    const [x, y, channel, image] = [at % w, Math.floor(at / w) % h, Math.floor(at / (w * h)) % c, Math.floor(at / (w * h * c))];
    to[((image * h + y) * w + x) * c + channel] = from[at]!;
  }
  return result;
}

type Attributes = Readonly<Record<string, number | string | readonly number[]>>;

function run(op: string, inputs: readonly HostValue[], attributes: Attributes): Tensor {
  const node = makeNode({ op, inputs: inputs.map((input, i) => (input ? new Value(`x${i}`) : undefined)), outputs: [new Value("y")], attributes: { ...attributes } });
  const [result] = evaluateNode(node, inputs);
  assert(result instanceof Tensor);
  return result;
}

function check(op: string, x: Tensor, others: readonly HostValue[], attributes: Attributes): void {
  const expected = toChannelsLast(run(op, [x, ...others], attributes));
  const last = run(op, [toChannelsLast(x), ...others], { ...attributes, layout: "NHWC" });
  assert.deepEqual(last, expected);
  if (op === "Conv") assert.deepEqual(run(op, [x, ...others], { ...attributes, layout: "NHWC", inputLayout: "NCHW" }), expected);
}

const image = fc.record({ batch: fc.integer({ min: 1, max: 2 }), groups: fc.integer({ min: 1, max: 2 }), height: fc.integer({ min: 3, max: 6 }), width: fc.integer({ min: 3, max: 6 }), stride: fc.integer({ min: 1, max: 2 }), pad: fc.integer({ min: 0, max: 1 }), seed: fc.nat(100) });

describe("the layout attribute", () => {
  it("does not change convolutions", () => {
    fc.assert(fc.property(image, ({ batch, groups, height, width, stride, pad, seed }) => {
      const x = numbered([batch, 2 * groups, height, width], seed);
      check("Conv", x, [numbered([3 * groups, 2, 3, 3], 1), numbered([3 * groups], 2)], { group: groups, strides: [stride, stride], pads: [pad, pad, pad, pad] });
      check("ConvTranspose", x, [numbered([2 * groups, 3, 3, 3], 1), numbered([3 * groups], 2)], { group: groups, strides: [stride, stride], pads: [pad, pad, pad, pad] });
    }), { numRuns: 30 });
  });

  it("does not change pools, normalisations and Resize", () => {
    fc.assert(fc.property(image, ({ batch, groups, height, width, stride, pad, seed }) => {
      const x = numbered([batch, 2 * groups, height, width], seed);
      for (const op of ["MaxPool", "AveragePool", "LpPool"]) check(op, x, [], { kernel_shape: [3, 2], strides: [stride, stride], pads: [pad, pad, pad, pad] });
      for (const op of ["GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"]) check(op, x, [], {});
      const perChannel = [1, 2].map((n) => numbered([2 * groups], n));
      check("InstanceNormalization", x, perChannel, {});
      check("BatchNormalization", x, [...perChannel, numbered([2 * groups], 3), new Tensor("float32", new Float32Array(2 * groups).fill(0.7), [2 * groups])], {});
      check("Resize", x, [undefined, new Tensor("float32", Float32Array.of(1, 1, 2, 1.5), [4])], { mode: "linear" });
      check("LRN", x, [], { size: 3 });
    }), { numRuns: 20 });
  });
});
