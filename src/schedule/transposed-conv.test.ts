import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { makeNode, type Node, Value } from "../ir/index.ts";
import { convPhases } from "./transposed-conv.ts";

interface Case {
  readonly size: readonly number[];
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly pads: readonly number[];
  readonly extra: readonly number[];
  readonly groups: number;
}

const INPUTS = 2;
const OUTPUTS = 3;

/** Every index of a shape, in row-major order. */
function indices(dims: readonly number[]): number[][] {
  return dims.reduce<number[][]>((heads, dim) => heads.flatMap((head) => Array.from({ length: dim }, (_, i) => [...head, i])), [[]]);
}

const flat = (index: readonly number[], dims: readonly number[]): number => index.reduce((at, i, d) => at * dims[d]! + i, 0);

function outputSize({ size, kernel, strides, dilations, pads, extra }: Case): number[] {
  return size.map((n, d) => (n - 1) * strides[d]! + extra[d]! + (kernel[d]! - 1) * dilations[d]! + 1 - 2 * pads[d]!);
}

/** The definition: every image element adds its multiples of the kernel to the output. Channels last. */
function expected(c: Case, x: Float32Array, w: Float32Array): Float32Array {
  const out = outputSize(c);
  const [inputs, outputs] = [INPUTS * c.groups, OUTPUTS * c.groups];
  const y = new Float32Array(out.reduce((a, b) => a * b, outputs));
  for (const at of indices(c.size)) for (const k of indices(c.kernel)) {
    const o = at.map((i, d) => i * c.strides[d]! - c.pads[d]! + k[d]! * c.dilations[d]!);
    if (!o.every((i, d) => i >= 0 && i < out[d]!)) continue;
    for (let ci = 0; ci < inputs; ci++) for (let co = 0; co < OUTPUTS; co++) {
      const group = Math.floor(ci / INPUTS);
      y[flat(o, out) * outputs + group * OUTPUTS + co]! += x[flat(at, c.size) * inputs + ci]! * w[(ci * OUTPUTS + co) * c.kernel.reduce((a, b) => a * b) + flat(k, c.kernel)]!;
    }
  }
  return y;
}

/** All phases as convolutions of stride 1, written where they say. */
function actual(c: Case, node: Node, x: Float32Array): Float32Array {
  const out = outputSize(c);
  const [inputs, outputs] = [INPUTS * c.groups, OUTPUTS * c.groups];
  const y = new Float32Array(out.reduce((a, b) => a * b, outputs)).fill(Number.NaN);
  for (const phase of convPhases(node)) {
    const weights = new Float32Array(phase.weights.constant!.bytes.slice().buffer);
    for (const at of indices(phase.counts as number[])) for (let co = 0; co < outputs; co++) {
      let sum = 0;
      for (const k of indices(phase.kernel)) {
        const from = at.map((i, d) => i - phase.pads[d]! + k[d]! * phase.dilations[d]!);
        if (!from.every((i, d) => i >= 0 && i < c.size[d]!)) continue;
        for (let ci = 0; ci < INPUTS; ci++) {
          const group = Math.floor(co / OUTPUTS);
          sum += x[flat(from, c.size) * inputs + group * INPUTS + ci]! * weights[(co * INPUTS + ci) * phase.kernel.reduce((a, b) => a * b) + flat(k, phase.kernel)]!;
        }
      }
      y[flat(at.map((i, d) => phase.starts[d]! + i * phase.strides[d]!), out) * outputs + co] = sum;
    }
  }
  return y;
}

test("a transposed convolution's phases give every output position once, as defined", () => {
  const axis = fc.record({ size: fc.integer({ min: 1, max: 4 }), kernel: fc.integer({ min: 1, max: 4 }), stride: fc.integer({ min: 1, max: 3 }), dilation: fc.integer({ min: 1, max: 3 }), pad: fc.nat(2), extra: fc.nat(2) });
  fc.assert(fc.property(fc.array(axis, { minLength: 1, maxLength: 2 }), fc.integer({ min: 1, max: 2 }), (axes, groups) => {
    const list = (name: keyof (typeof axes)[number]): number[] => axes.map((one) => one[name]);
    const c: Case = { size: list("size"), kernel: list("kernel"), strides: list("stride"), dilations: list("dilation"), pads: list("pad"), extra: axes.map((one) => Math.min(one.extra, one.stride - 1)), groups };
    fc.pre(outputSize(c).every((n) => n > 0));
    const dims = [INPUTS * groups, OUTPUTS, ...c.kernel];
    const weights = Float32Array.from({ length: dims.reduce((a, b) => a * b) }, (_, i) => ((i * 7) % 11) - 5);
    const x = Float32Array.from({ length: c.size.reduce((a, b) => a * b) * INPUTS * groups }, (_, i) => ((i * 5) % 13) - 6);
    const constant = new Value("w", "float32", dims);
    constant.constant = { bytes: new Uint8Array(weights.buffer) };
    const node = makeNode({
      op: "ConvTranspose",
      inputs: [new Value("x", "float32", [1, ...c.size, INPUTS * groups]), constant],
      outputs: [new Value("y", "float32", [1, ...outputSize(c), OUTPUTS * groups])],
      attributes: { layout: "NHWC", strides: c.strides, dilations: c.dilations, pads: [...c.pads, ...c.pads], group: groups },
    });
    assert.deepEqual([...actual(c, node, x)], [...expected(c, x, weights)]);
  }), { numRuns: 300 });
});
