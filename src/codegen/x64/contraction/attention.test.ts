import { test } from "node:test";
import { type AttentionKernel, type Bindings, type Buffer, type Dim, type Epilogue, evaluate, mul, type StridedOperand, symbol } from "../../../ir/index.ts";
import { spanOf } from "../../../tune/index.ts";
import type { Isa } from "../function.ts";
import { attentionTactics } from "./attention.ts";
import { assertClose, AVX2, AVX512, type Contents, type Elements, epilogueValue, execute, expectedOutput, randomFloats, randomizer } from "./testing.ts";

interface Options {
  readonly batch?: Dim;
  readonly heads?: number;
  readonly headsPerKv?: number;
  readonly queries: Dim;
  readonly keys: Dim;
  readonly headSize?: number;
  readonly valueSize?: number;
  readonly causalOffset?: number;
  readonly mask?: "keys" | "full";
  /** The mask's elements, by place; a few large negative numbers when absent. */
  readonly maskValue?: (place: number) => number;
  readonly transposedK?: boolean;
  readonly bindings?: Bindings;
}

/** Heads side by side in a row, as projections leave them. */
function build(o: Options): { kernel: AttentionKernel; extra: Buffer[] } {
  const batch = o.batch ?? 2;
  const heads = o.heads ?? 3;
  const kvHeads = heads / (o.headsPerKv ?? 1);
  const d = o.headSize ?? 8;
  const e = o.valueSize ?? d;
  const rows = (name: string, count: Dim, many: number, size: number): StridedOperand => {
    const row = many * size;
    const perBatch = typeof count === "number" ? count * row : mul(count, row);
    return { buffer: { name, dtype: "float32", dims: [batch, count, many, size] }, strides: [perBatch, size, row, 1] };
  };
  const keysK: StridedOperand = o.transposedK
    ? { buffer: { name: "k", dtype: "float32", dims: [batch, kvHeads, d, o.keys] }, strides: [kvHeads * d * (o.keys as number), d * (o.keys as number), 1, o.keys] }
    : rows("k", o.keys, kvHeads, d);
  const mask: Buffer = { name: "mask", dtype: "float32", dims: o.mask === "keys" ? [batch, o.keys] : [batch, o.queries, o.keys] };
  return {
    kernel: {
      kind: "attention", name: "attention", batch, heads, headsPerKv: o.headsPerKv ?? 1, queries: o.queries, keys: o.keys, headSize: d, valueSize: e,
      q: rows("q", o.queries, heads, d), k: keysK, v: rows("v", o.keys, kvHeads, e), output: rows("o", o.queries, heads, e), scale: 0.37,
      ...(o.causalOffset !== undefined && { causalOffset: o.causalOffset }),
      ...(o.mask && { mask: maskOf(mask, [batch, heads, o.queries, o.keys], o.mask) }),
    },
    extra: o.mask ? [mask] : [],
  };
}


function maskOf(mask: Buffer, extents: readonly Dim[], kind: "keys" | "full"): Epilogue {
  const axes = extents.map((extent, i) => ({ name: "bhij"[i]!, extent }));
  const index = axes.map((axis) => ({ kind: "axis", type: "i64", axis }) as const);
  return { axes, value: { kind: "load", type: "f32", buffer: mask, index: kind === "keys" ? [index[0]!, index[3]!] : [index[0]!, index[2]!, index[3]!] } };
}

function reference(kernel: AttentionKernel, contents: Contents, bindings: Bindings): Elements {
  const value = (dim: Dim): number => evaluate(dim, bindings);
  const [batch, heads, queries, keys, d, e] = [kernel.batch, kernel.heads, kernel.queries, kernel.keys, kernel.headSize, kernel.valueSize].map(value) as [number, number, number, number, number, number];
  const place = (operand: StridedOperand, ...index: number[]): number => index.reduce((sum, i, k) => sum + i * value(operand.strides[k]!), value(operand.offset ?? 0));
  const at = (operand: StridedOperand, ...index: number[]): number => contents.get(operand.buffer)![place(operand, ...index)]!;
  const result = expectedOutput(kernel.output.buffer, bindings);
  for (let b = 0; b < batch; b++) for (let h = 0; h < heads; h++) for (let i = 0; i < queries; i++) {
    const kv = Math.floor(h / kernel.headsPerKv);
    const seen = kernel.causalOffset === undefined ? keys : Math.min(keys, i + value(kernel.causalOffset) + 1);
    const scores = Array.from({ length: seen }, (_, j) => {
      let sum = 0;
      for (let z = 0; z < d; z++) sum += at(kernel.q, b, h, i, z) * at(kernel.k, b, kv, j, z);
      return sum * kernel.scale + (kernel.mask ? epilogueValue(kernel.mask, 0, [b, h, i, j], contents, bindings) : 0);
    });
    const top = Math.max(-Number.MAX_VALUE, ...scores);
    const weights = scores.map((score) => Math.exp(score - top));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    for (let z = 0; z < e; z++) {
      result[place(kernel.output, b, h, i, z)] = weights.reduce((sum, weight, j) => sum + weight * at(kernel.v, b, kv, j, z), 0) / (total || 1);
    }
  }
  return result;
}

function check(isa: Isa, options: Options): void {
  const { kernel, extra } = build(options);
  const bindings = options.bindings ?? new Map();
  const random = randomizer(5);
  const contents: Contents = new Map();
  for (const buffer of [kernel.q.buffer, kernel.k.buffer, kernel.v.buffer]) contents.set(buffer, randomFloats(spanOf(buffer, bindings), random));
  // Masks as exporters write them: 0 or a very negative number, never all of a row.
  const plain = (x: number, i: number): number => (x < 0.3 || i % 3 === 0 ? 0 : i % 2 ? -3.4028234663852886e38 : -10000);
  for (const buffer of extra) contents.set(buffer, randomFloats(spanOf(buffer, bindings), random).map((x, i) => options.maskValue?.(i) ?? plain(x, i)));
  const tactics = attentionTactics(kernel, isa, () => undefined, bindings);
  const expected = reference(kernel, contents, bindings);
  tactics.filter((tactic, i) => i % 4 === 0 || tactic.name.includes("row")).forEach((tactic, i) => {
    const got = execute(tactic.compile(), bindings, contents, kernel.output.buffer, i % 2 ? "start" : "end", 1 + (i % 3));
    assertClose(got, expected, `${isa.name} ${tactic.name}`);
  });
}

for (const isa of [AVX512, AVX2]) {
  test(`${isa.name}: sizes around the blocks`, () => {
    for (const [queries, keys] of [[1, 1], [1, 70], [32, 64], [33, 65], [50, 300], [0, 5]] as const) check(isa, { queries, keys });
    check(isa, { queries: 20, keys: 30, headSize: 64, valueSize: 33 });
  });

  test(`${isa.name}: sizes bound at run time`, () => {
    const [B, Q, K] = [symbol("b"), symbol("q"), symbol("k")];
    for (const [b, q, k] of [[1, 1, 9], [2, 40, 129], [0, 3, 3]] as const) check(isa, { batch: B, queries: Q, keys: K, bindings: new Map([["b", b], ["q", q], ["k", k]]) });
  });

  test(`${isa.name}: masks over keys, and over queries and keys`, () => {
    check(isa, { queries: 37, keys: 71, mask: "keys" });
    check(isa, { queries: 37, keys: 71, mask: "full" });
  });

  test(`${isa.name}: a query that sees no key gets zeros, others forget what is hidden`, () => {
    const keys = 150;
    const hidden = (place: number): boolean => {
      const [query, key] = [Math.floor(place / keys) % 37, place % keys];
      return query % 3 === 0 || (query % 3 === 1 ? key < 140 : (key * 7) % 5 < 3);
    };
    check(isa, { queries: 37, keys, mask: "full", maskValue: (place) => (hidden(place) ? Number.NEGATIVE_INFINITY : 0) });
    check(isa, { queries: 37, keys, mask: "keys", maskValue: (place) => (place < keys ? Number.NEGATIVE_INFINITY : 0) });
    check(isa, { queries: 9, keys: 70, causalOffset: -4 });
  });

  test(`${isa.name}: causal, with and without earlier keys`, () => {
    check(isa, { queries: 70, keys: 70, causalOffset: 0 });
    check(isa, { queries: 5, keys: 140, causalOffset: 135 });
    // Padding as well: the first queries of a sentence padded at its front see no key at all.
    check(isa, { queries: 70, keys: 70, causalOffset: 0, mask: "keys", maskValue: (place) => (place % 70 < 9 || place > 130 ? Number.NEGATIVE_INFINITY : 0) });
    const [Q, K] = [symbol("q"), symbol("k")];
    for (const q of [1, 16, 33, 129]) check(isa, { queries: Q, keys: K, causalOffset: 0, bindings: new Map([["q", q], ["k", q]]) });
  });

  test(`${isa.name}: heads that share keys and values, transposed keys`, () => {
    check(isa, { queries: 18, keys: 40, heads: 6, headsPerKv: 3 });
    check(isa, { queries: 18, keys: 40, transposedK: true });
  });
}
