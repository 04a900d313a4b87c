import { test } from "node:test";
import { type Bindings, type Buffer, ceilDiv, type ConvKernel, type Dim, type Epilogue, evaluate, symbol } from "../../../ir/index.ts";
import type { Isa } from "../function.ts";
import { spanOf } from "../../../tune/index.ts";
import { convTactics } from "./conv-tactics.ts";
import { assertClose, AVX2, AVX512, type Contents, type Elements, elementAt, epilogueValue, execute, expectedOutput, randomFloats, randomizer, UNTOUCHED } from "./testing.ts";

interface Options {
  readonly batch?: Dim;
  /** Spatial sizes, kernel, and the rest one value per spatial dim. */
  readonly size: readonly Dim[];
  readonly kernel: readonly number[];
  readonly channels: number;
  readonly outChannels: number;
  readonly groups?: number;
  readonly strides?: readonly number[];
  readonly dilations?: readonly number[];
  readonly pads?: readonly number[];
  readonly outSize: readonly Dim[];
  readonly channelsFirst?: boolean;
  readonly outputPitch?: number;
  readonly epilogue?: boolean;
  readonly bindings?: Bindings;
  /** Only tactics by minimal filtering. */
  readonly isFast?: boolean;
  /** Only tactics that take a pass for each row of taps. */
  readonly isByRow?: boolean;
}

function convolution(o: Options): { kernel: ConvKernel; extra: Buffer[] } {
  const batch = o.batch ?? 2;
  const ones = o.kernel.map(() => 1);
  const input: Buffer = { name: "x", dtype: "float32", dims: o.channelsFirst ? [batch, o.channels, ...o.size] : [batch, ...o.size, o.channels] };
  const dims = [batch, ...o.outSize, o.outChannels];
  const pitch = o.outputPitch ?? o.outChannels;
  const spatial = o.outSize as number[];
  const strides = o.outputPitch === undefined ? undefined : spatial.length === 2 ? [spatial[0]! * spatial[1]! * pitch, spatial[1]! * pitch, pitch, 1] : [spatial[0]! * pitch, pitch, 1];
  const output: Buffer = { name: "y", dtype: "float32", dims, ...(strides && { strides }) };
  const bias: Buffer = { name: "bias", dtype: "float32", dims: [o.outChannels] };
  const residual: Buffer = { name: "residual", dtype: "float32", dims };
  return {
    kernel: {
      kind: "conv", name: "conv", input, output, groups: o.groups ?? 1, kernel: o.kernel,
      weights: { name: "w", dtype: "float32", dims: [o.outChannels, o.channels / (o.groups ?? 1), ...o.kernel] },
      strides: o.strides ?? ones, dilations: o.dilations ?? ones, pads: o.pads ?? o.kernel.map(() => 0),
      ...(o.channelsFirst && { inputChannelsFirst: true }),
      ...(o.epilogue && { epilogue: biasRelu(output, bias, residual) }),
    },
    extra: o.epilogue ? [bias, residual] : [],
  };
}

function biasRelu(output: Buffer, bias: Buffer, residual: Buffer): Epilogue {
  const axes = output.dims.map((extent, i) => ({ name: `o${i}`, extent }));
  const index = axes.map((axis) => ({ kind: "axis", type: "i64", axis }) as const);
  const biased = { kind: "op", type: "f32", op: "add", args: [{ kind: "accumulator", type: "f32" }, { kind: "load", type: "f32", buffer: bias, index: index.slice(-1) }] } as const;
  const relu = { kind: "op", type: "f32", op: "max", args: [biased, { kind: "const", type: "f32", value: 0 }] } as const;
  return { axes, value: { kind: "op", type: "f32", op: "add", args: [relu, { kind: "load", type: "f32", buffer: residual, index }] } };
}

function reference(kernel: ConvKernel, contents: Contents, bindings: Bindings): Elements {
  const two = (values: readonly number[], missing: number): [number, number] => (values.length === 1 ? [missing, values[0]!] : [values[0]!, values[1]!]);
  const oneDim = kernel.kernel.length === 1;
  const value = (dim: Dim): number => evaluate(dim, bindings);
  const first = kernel.inputChannelsFirst ?? false;
  const inputDims = kernel.input.dims.map(value);
  const [n, c] = [inputDims[0]!, first ? inputDims[1]! : inputDims.at(-1)!];
  const [h, wd] = two(first ? inputDims.slice(2) : inputDims.slice(1, -1), 1);
  const outDims = kernel.output.dims.map(value);
  const [oh, ow] = two(outDims.slice(1, -1), 1);
  const o = outDims.at(-1)!;
  const [kh, kw] = two(kernel.kernel, 1);
  const [sh, sw] = two(kernel.strides, 1);
  const [dh, dw] = two(kernel.dilations, 1);
  const [ph, pw] = two(kernel.pads, 0);
  const inputs = c / kernel.groups;
  const outputs = o / kernel.groups;
  const at = (b: number, y: number, x: number, ch: number): number => {
    const spatial = oneDim ? [x] : [y, x];
    return elementAt(kernel.input, contents, first ? [b, ch, ...spatial] : [b, ...spatial, ch], bindings);
  };
  const weights = contents.get(kernel.weights)!;
  const result = expectedOutput(kernel.output, bindings);
  const outStrides = kernel.output.strides?.map(value) ?? outDims.map((_, i) => outDims.slice(i + 1).reduce((p, d) => p * d, 1));
  for (let b = 0; b < n; b++) for (let y = 0; y < oh; y++) for (let x = 0; x < ow; x++) for (let oc = 0; oc < o; oc++) {
    let sum = 0;
    const g = Math.floor(oc / outputs);
    for (let ky = 0; ky < kh; ky++) for (let kx = 0; kx < kw; kx++) {
      const [iy, ix] = [y * sh - ph + ky * dh, x * sw - pw + kx * dw];
      if (iy < 0 || iy >= h || ix < 0 || ix >= wd) continue;
      for (let ic = 0; ic < inputs; ic++) sum += at(b, iy, ix, g * inputs + ic) * weights[((oc * inputs + ic) * kh + ky) * kw + kx]!;
    }
    const point = oneDim ? [b, x, oc] : [b, y, x, oc];
    result[point.reduce((p, i, d) => p + i * outStrides[d]!, 0)] = epilogueValue(kernel.epilogue, sum, point, contents, bindings);
  }
  return result;
}

function check(isa: Isa, options: Options, limit = 3): void {
  const { kernel, extra } = convolution(options);
  const bindings = options.bindings ?? new Map();
  const random = randomizer(11);
  const contents: Contents = new Map();
  for (const buffer of [kernel.input, kernel.weights, ...extra]) contents.set(buffer, randomFloats(spanOf(buffer, bindings), random));
  const bytes = new Uint8Array(contents.get(kernel.weights)!.buffer);
  const all = convTactics(kernel, isa, (buffer) => (buffer === kernel.weights ? bytes : undefined), bindings, { fastConvolution: true });
  const tactics = all.filter(({ name }) => name.startsWith("winograd") === (options.isFast ?? false) && (!options.isByRow || name.endsWith("by row")));
  const expected = reference(kernel, contents, bindings);
  const chosen = tactics.filter((_, i) => i < 2 || i % Math.ceil(tactics.length / limit) === 0);
  if (chosen.length === 0) throw new Error("no tactic");
  chosen.forEach((tactic, i) => {
    const got = execute(tactic.compile(), bindings, contents, kernel.output, i % 2 ? "start" : "end", 1 + (i % 3));
    if (options.isFast) assertNear(got, expected, `${isa.name} ${tactic.name}`);
    else assertClose(got, expected, `${isa.name} ${tactic.name}`);
  });
}

/** Minimal filtering is exact relative to the largest results, not to each: sums of large terms cancel. */
function assertNear(got: Elements, expected: Elements, what: string): void {
  const largest = Array.from(expected).reduce((most, value) => (value === UNTOUCHED ? most : Math.max(most, Math.abs(value))), 0) || 1;
  const scaled = (values: Elements): Float32Array => Float32Array.from(values, (value) => value / largest);
  assertClose(scaled(got), scaled(expected), what, 1e-5);
}

for (const isa of [AVX512, AVX2]) {
  test(`${isa.name}: pointwise`, () => {
    check(isa, { size: [7, 7], outSize: [7, 7], kernel: [1, 1], channels: 20, outChannels: 40, epilogue: true });
    check(isa, { size: [9, 30], outSize: [5, 15], strides: [2, 2], kernel: [1, 1], channels: 16, outChannels: 33 });
    check(isa, { size: [1, 1], outSize: [1, 1], kernel: [1, 1], channels: 24, outChannels: 6, epilogue: true });
  });

  test(`${isa.name}: 3x3 with padding, strides, dilation`, () => {
    check(isa, { size: [9, 13], outSize: [9, 13], kernel: [3, 3], pads: [1, 1], channels: 8, outChannels: 24, epilogue: true });
    check(isa, { size: [14, 14], outSize: [7, 7], kernel: [3, 3], pads: [1, 1], strides: [2, 2], channels: 5, outChannels: 70 });
    check(isa, { size: [12, 11], outSize: [12, 11], kernel: [3, 3], pads: [2, 2], dilations: [2, 2], channels: 6, outChannels: 16 });
    check(isa, { size: [8, 8], outSize: [6, 6], kernel: [3, 3], channels: 4, outChannels: 18 });
    check(isa, { size: [4, 5], outSize: [4, 5], kernel: [3, 3], pads: [1, 1], channels: 512, outChannels: 8 });
  });

  test(`${isa.name}: weights too large to be fetched ahead, in a pass for each row of taps`, () => {
    const deep = { channels: 512, outChannels: 20, isByRow: true };
    check(isa, { ...deep, size: [3, 4], outSize: [3, 4], kernel: [3, 3], pads: [1, 1], epilogue: true });
    check(isa, { ...deep, size: [5, 5], outSize: [2, 2], kernel: [3, 3], strides: [2, 2], dilations: [1, 1] });
    check(isa, { ...deep, size: [5, 4], outSize: [3, 2], kernel: [2, 2], dilations: [2, 2], channels: 1100, epilogue: true });
    const [H, W] = [symbol("h"), symbol("w")];
    check(isa, { ...deep, batch: 1, size: [H, W], outSize: [H, W], kernel: [3, 3], pads: [1, 1], bindings: new Map([["h", 2], ["w", 7]]), epilogue: true });
  });

  test(`${isa.name}: uneven pads, kernels wider than the image`, () => {
    check(isa, { size: [5, 6], outSize: [3, 3], kernel: [3, 2], pads: [0, 1], strides: [2, 3], channels: 3, outChannels: 9 });
    check(isa, { size: [2, 3], outSize: [2, 3], kernel: [5, 7], pads: [2, 3], channels: 4, outChannels: 16 });
  });

  test(`${isa.name}: one spatial dimension`, () => {
    check(isa, { size: [40], outSize: [40], kernel: [5], pads: [2], channels: 12, outChannels: 20, epilogue: true });
    check(isa, { size: [40], outSize: [20], kernel: [4], pads: [1], strides: [2], channels: 7, outChannels: 33 });
  });

  test(`${isa.name}: groups`, () => {
    check(isa, { size: [6, 7], outSize: [6, 7], kernel: [3, 3], pads: [1, 1], groups: 3, channels: 12, outChannels: 27, epilogue: true });
    check(isa, { size: [6, 7], outSize: [6, 7], kernel: [1, 1], groups: 2, channels: 8, outChannels: 40 });
    check(isa, { size: [9, 10], outSize: [5, 5], kernel: [3, 3], pads: [1, 1], strides: [2, 2], groups: 8, channels: 32, outChannels: 32, epilogue: true });
    check(isa, { size: [6, 7], outSize: [6, 7], kernel: [3, 3], pads: [1, 1], groups: 6, channels: 6, outChannels: 12 });
    check(isa, { size: [6, 13], outSize: [6, 3], kernel: [1, 11], groups: 10, channels: 10, outChannels: 10 });
  });

  test(`${isa.name}: an image that is channels-first`, () => {
    check(isa, { size: [21, 20], outSize: [11, 10], kernel: [7, 7], pads: [3, 3], strides: [2, 2], channels: 3, outChannels: 64, channelsFirst: true, epilogue: true });
    check(isa, { size: [9, 8], outSize: [9, 8], kernel: [3, 3], pads: [1, 1], channels: 1, outChannels: 5, channelsFirst: true });
    for (const channels of [2, 3, 4, 5]) check(isa, { size: [4, 37], outSize: [4, 37], kernel: [3, 3], pads: [1, 1], channels, outChannels: 8, channelsFirst: true });
  });

  test(`${isa.name}: output pixels apart, as in a concatenation`, () => {
    check(isa, { size: [6, 5], outSize: [6, 5], kernel: [3, 3], pads: [1, 1], channels: 8, outChannels: 12, outputPitch: 30 });
  });

  test(`${isa.name}: sizes bound at run time`, () => {
    const [B, H, W] = [symbol("b"), symbol("h"), symbol("w")];
    for (const [b, h, w] of [[1, 1, 1], [2, 9, 61], [0, 5, 5]] as const) {
      const bindings = new Map([["b", b], ["h", h], ["w", w]]);
      check(isa, { batch: B, size: [H, W], outSize: [H, W], kernel: [3, 3], pads: [1, 1], channels: 6, outChannels: 20, bindings, epilogue: true });
      check(isa, { batch: B, size: [H, W], outSize: [H, W], kernel: [1, 1], channels: 6, outChannels: 20, bindings });
    }
    check(isa, { batch: B, size: [7, 7], outSize: [7, 7], kernel: [3, 3], pads: [1, 1], channels: 6, outChannels: 20, bindings: new Map([["b", 3]]) });
  });

  test(`${isa.name}: depthwise`, () => {
    check(isa, { size: [9, 30], outSize: [9, 30], kernel: [3, 3], pads: [1, 1], groups: 40, channels: 40, outChannels: 40, epilogue: true }, 6);
    check(isa, { size: [14, 15], outSize: [7, 8], kernel: [5, 5], pads: [2, 2], strides: [2, 2], groups: 16, channels: 16, outChannels: 16 }, 6);
    check(isa, { size: [7, 7], outSize: [7, 7], kernel: [5, 5], pads: [2, 2], groups: 19, channels: 19, outChannels: 19, epilogue: true }, 6);
    check(isa, { size: [12, 12], outSize: [12, 12], kernel: [3, 3], pads: [2, 2], dilations: [2, 2], groups: 8, channels: 8, outChannels: 8 }, 6);
    check(isa, { size: [33], outSize: [33], kernel: [7], pads: [3], groups: 20, channels: 20, outChannels: 20 }, 6);
  });

  test(`${isa.name}: depthwise with sizes bound at run time`, () => {
    const [B, H, W] = [symbol("b"), symbol("h"), symbol("w")];
    for (const [b, h, w] of [[1, 1, 1], [2, 9, 61], [1, 4, 2], [1, 3, 16], [0, 5, 5], [3, 7, 29]] as const) {
      const bindings = new Map([["b", b], ["h", h], ["w", w]]);
      const half = (size: Dim): Dim => ceilDiv(size, 2);
      check(isa, { batch: B, size: [H, W], outSize: [H, W], kernel: [3, 3], pads: [1, 1], groups: 20, channels: 20, outChannels: 20, bindings, epilogue: true }, 6);
      check(isa, { batch: B, size: [H, W], outSize: [half(H), half(W)], kernel: [5, 5], pads: [2, 2], strides: [2, 2], groups: 32, channels: 32, outChannels: 32, bindings }, 6);
      check(isa, { batch: B, size: [H, W], outSize: [H, W], kernel: [3, 3], pads: [2, 2], dilations: [2, 2], groups: 7, channels: 7, outChannels: 7, bindings }, 6);
      check(isa, { batch: B, size: [H, W], outSize: [half(H), W], kernel: [3, 3], pads: [1, 1], strides: [2, 1], groups: 16, channels: 16, outChannels: 16, bindings }, 6);
      check(isa, { batch: B, size: [W], outSize: [W], kernel: [7], pads: [3], groups: 20, channels: 20, outChannels: 20, bindings }, 6);
    }
  });

  test(`${isa.name}: minimal filtering`, () => {
    const same = (height: number, width: number) => ({ size: [height, width], outSize: [height, width], kernel: [3, 3], pads: [1, 1], isFast: true });
    check(isa, { ...same(9, 13), channels: 32, outChannels: 80, epilogue: true }, 8);
    check(isa, { ...same(8, 12), channels: 16, outChannels: 48 }, 8);
    check(isa, { ...same(1, 1), channels: 16, outChannels: 16, epilogue: true }, 8);
    check(isa, { ...same(7, 7), channels: 512, outChannels: 16 }, 4);
    check(isa, { size: [9, 8], outSize: [7, 6], kernel: [3, 3], channels: 16, outChannels: 32, isFast: true }, 8);
    check(isa, { size: [5, 6], outSize: [5, 8], kernel: [3, 3], pads: [0, 2], channels: 16, outChannels: 32, isFast: true, epilogue: true }, 8);
    check(isa, { ...same(6, 5), channels: 16, outChannels: 16, outputPitch: 40 }, 8);
  });

  test(`${isa.name}: minimal filtering with sizes bound at run time`, () => {
    const [B, H, W] = [symbol("b"), symbol("h"), symbol("w")];
    for (const [b, h, w] of [[1, 1, 1], [2, 9, 17], [0, 5, 5], [3, 4, 2]] as const) {
      const options = { kernel: [3, 3], pads: [1, 1], channels: 32, outChannels: 48, isFast: true, bindings: new Map([["b", b], ["h", h], ["w", w]]) };
      check(isa, { ...options, batch: B, size: [H, W], outSize: [H, W], epilogue: true }, 8);
      check(isa, { ...options, batch: B, size: [h, w], outSize: [h, w], epilogue: true }, 8);
    }
  });
}

for (const isa of [AVX512, AVX2]) {
  test(`${isa.name}: rows of taps are summed apart, so that sums err as short chains do`, () => {
    const { kernel } = convolution({ size: [8, 8], outSize: [6, 6], kernel: [3, 3], channels: 256, outChannels: 32, batch: 1 });
    const random = randomizer(5);
    const contents: Contents = new Map([kernel.input, kernel.weights].map((buffer): [Buffer, Elements] => [buffer, randomFloats(spanOf(buffer, new Map()), random).map((value) => value + 1.5)]));
    const bytes = new Uint8Array(contents.get(kernel.weights)!.buffer);
    const expected = reference(kernel, contents, new Map());
    for (const tactic of convTactics(kernel, isa, (buffer) => (buffer === kernel.weights ? bytes : undefined), new Map(), {}).slice(0, 4)) {
      const got = execute(tactic.compile(), new Map(), contents, kernel.output);
      const errors = Array.from(got, (value, i) => (value - expected[i]!) / expected[i]!);
      const error = Math.sqrt(errors.reduce((sum, e) => sum + e * e, 0) / errors.length);
      if (error > 4e-7) throw new Error(`${tactic.name}: sums of 2304 products err by ${error}`);
    }
  });
}
