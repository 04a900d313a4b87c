/**
 * Attention in its several spellings, all through one core: scores, soft cap, bias, softmax, weighted sum of values.
 * A row in which no key may be seen gives zeros.
 * Sources: ONNX Attention-24 (offset-aligned causal mask, nonpad_kv_seqlen; the sliding window of 25 as later
 * defined), LinearAttention-27; com.microsoft Attention, MultiHeadAttention.
 */
import { type Tensor, UnsupportedError } from "../base/index.ts";
import type { HostValue, ReferenceAttributes, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { floatAttribute, fromNumbers, intAttribute, optionalTensor, stringAttribute, tensorInput, toNumbers } from "./arguments.ts";

/** [batch, heads, length, size], row-major. */
export interface Heads {
  readonly numbers: Float64Array;
  readonly dims: readonly [number, number, number, number];
}

interface Scoring {
  readonly scale: number;
  readonly softcap?: number;
  /** Added to the score of query i and key j; minus infinity where j may not be seen. */
  bias(batch: number, head: number, i: number, j: number): number;
  /** What each score was at the chosen point, for the operator's fourth output. */
  readonly trace?: { readonly mode: number; readonly numbers: Float64Array };
}

/** Heads of k and v may be fewer than those of q: each serves a run of consecutive query heads. */
export function attend(q: Heads, k: Heads, v: Heads, scoring: Scoring): Heads {
  const [batch, heads, rows, size] = q.dims;
  const keys = k.dims[2];
  const valueSize = v.dims[3];
  const shared = heads / k.dims[1];
  const result = new Float64Array(batch * heads * rows * valueSize);
  const scores = new Float64Array(keys);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const kv = b * k.dims[1] + Math.floor(h / shared);
      for (let i = 0; i < rows; i++) {
        const row = (b * heads + h) * rows + i;
        scoreRow(scores, q.numbers.subarray(row * size, (row + 1) * size), k.numbers, kv * keys * size, scoring, [b, h, i, row]);
        const out = result.subarray(row * valueSize, (row + 1) * valueSize);
        for (let j = 0; j < keys; j++) {
          if (scores[j] === 0) continue;
          for (let d = 0; d < valueSize; d++) out[d]! += scores[j]! * v.numbers[(kv * keys + j) * valueSize + d]!;
        }
      }
    }
  }
  return { numbers: result, dims: [batch, heads, rows, valueSize] };
}

/** Fills `scores` with the softmax over the keys of one query. */
function scoreRow(scores: Float64Array, query: Float64Array, keys: Float64Array, from: number, scoring: Scoring, [b, h, i, row]: readonly [number, number, number, number]): void {
  const { scale, softcap = 0, trace } = scoring;
  const count = scores.length;
  let best = Number.NEGATIVE_INFINITY;
  for (let j = 0; j < count; j++) {
    let dot = 0;
    for (let d = 0; d < query.length; d++) dot += query[d]! * keys[from + j * query.length + d]!;
    dot *= scale;
    if (trace?.mode === 0) trace.numbers[row * count + j] = dot;
    if (softcap > 0) dot = softcap * Math.tanh(dot / softcap);
    if (trace?.mode === 1) trace.numbers[row * count + j] = dot;
    const bias = scoring.bias(b, h, i, j);
    const score = bias === Number.NEGATIVE_INFINITY ? bias : dot + bias;
    if (trace?.mode === 2) trace.numbers[row * count + j] = score;
    scores[j] = score;
    if (score > best || Number.isNaN(score)) best = score;
  }
  softmaxRow(scores, best);
  if (trace?.mode === 3) trace.numbers.set(scores, row * count);
}

function softmaxRow(scores: Float64Array, best: number): void {
  if (best === Number.NEGATIVE_INFINITY) {
    scores.fill(0);
    return;
  }
  let sum = 0;
  for (let j = 0; j < scores.length; j++) {
    scores[j] = Math.exp(scores[j]! - best);
    sum += scores[j]!;
  }
  for (let j = 0; j < scores.length; j++) scores[j]! /= sum;
}

/** A tensor of rank 4 as it is, or of rank 3 [batch, length, heads * size] with its heads taken apart. */
export function headsOf(tensor: Tensor, heads: number): Heads {
  const numbers = toNumbers(tensor);
  if (tensor.dims.length === 4) return { numbers, dims: tensor.dims as readonly [number, number, number, number] };
  const [batch, length, width] = tensor.dims as readonly [number, number, number];
  return splitHeads(numbers, batch, length, heads, width / heads);
}

export function splitHeads(numbers: Float64Array, batch: number, length: number, heads: number, size: number): Heads {
  return { numbers: swapMiddle(numbers, batch, length, heads, size), dims: [batch, heads, length, size] };
}

/** [batch, heads, length, size] to [batch, length, heads * size]. */
export function joinHeads(heads: Heads): { numbers: Float64Array; dims: number[] } {
  const [batch, count, length, size] = heads.dims;
  return { numbers: swapMiddle(heads.numbers, batch, count, length, size), dims: [batch, length, count * size] };
}

/** [outer, a, b, inner] to [outer, b, a, inner]. */
function swapMiddle(numbers: Float64Array, outer: number, a: number, b: number, inner: number): Float64Array {
  const result = new Float64Array(numbers.length);
  for (let n = 0; n < outer; n++) {
    for (let i = 0; i < a; i++) {
      for (let j = 0; j < b; j++) {
        const from = ((n * a + i) * b + j) * inner;
        result.set(numbers.subarray(from, from + inner), ((n * b + j) * a + i) * inner);
      }
    }
  }
  return result;
}

/** Past keys or values followed by the new ones, along the length. */
export function appendHeads(past: Tensor | undefined, now: Heads): Heads {
  if (!past) return now;
  const before = toNumbers(past);
  const [batch, heads, length, size] = now.dims;
  const old = past.dims[2]!;
  const total = old + length;
  const numbers = new Float64Array(batch * heads * total * size);
  for (let line = 0; line < batch * heads; line++) {
    numbers.set(before.subarray(line * old * size, (line + 1) * old * size), line * total * size);
    numbers.set(now.numbers.subarray(line * length * size, (line + 1) * length * size), (line * total + old) * size);
  }
  return { numbers, dims: [batch, heads, total, size] };
}

type Bias = Scoring["bias"];

/**
 * Reads a mask that broadcasts to [batch, heads, queries, keys]; boolean masks allow where true. Keys past its end are
 * not seen.
 */
export function maskBias(mask: Tensor | undefined): Bias {
  if (!mask) return () => 0;
  const numbers = toNumbers(mask);
  const dims = [...new Array<number>(Math.max(0, 4 - mask.dims.length)).fill(1), ...mask.dims] as [number, number, number, number];
  const boolean = mask.type === "bool";
  return (b, h, i, j) => {
    if (j >= dims[3]) return dims[3] === 1 ? read(b, h, i, 0) : Number.NEGATIVE_INFINITY;
    return read(b, h, i, j);
  };
  function read(b: number, h: number, i: number, j: number): number {
    const at = (((dims[0] === 1 ? 0 : b) * dims[1] + (dims[1] === 1 ? 0 : h)) * dims[2] + (dims[2] === 1 ? 0 : i)) * dims[3] + j;
    const value = numbers[at]!;
    return boolean ? (value ? 0 : Number.NEGATIVE_INFINITY) : value;
  }
}

/** Bias of ONNX's Attention: mask, causal frontier, window, padded keys. */
function attentionBias(attributes: ReferenceAttributes, mask: Tensor | undefined, past: number, valid: Float64Array | undefined, queries: number): Bias {
  const masked = maskBias(mask);
  const causal = intAttribute(attributes, "is_causal", 0) === 1;
  const left = intAttribute(attributes, "left_window_size", -1);
  const right = intAttribute(attributes, "right_window_size", -1);
  return (b, h, i, j) => {
    const position = i + (valid ? valid[b]! - queries : past);
    const hidden = (causal && j > position) || (left >= 0 && j < position - left) || (right >= 0 && j > position + right) || (valid && j >= valid[b]!);
    return hidden ? Number.NEGATIVE_INFINITY : masked(b, h, i, j);
  };
}

const attention: ReferenceOperator = (inputs, attributes, context) => {
  const [query, key, value] = [0, 1, 2].map((i) => tensorInput(inputs, i)) as [Tensor, Tensor, Tensor];
  const q = headsOf(query, intAttribute(attributes, "q_num_heads", 0));
  const kvHeads = intAttribute(attributes, "kv_num_heads", 0);
  const past = optionalTensor(inputs, 4);
  const k = appendHeads(past, headsOf(key, kvHeads));
  const v = appendHeads(optionalTensor(inputs, 5), headsOf(value, kvHeads));
  const valid = optionalTensor(inputs, 6);
  const scale = floatAttribute(attributes, "scale", 1 / Math.sqrt(q.dims[3]));
  const bias = attentionBias(attributes, optionalTensor(inputs, 3), past?.dims[2] ?? 0, valid && toNumbers(valid), q.dims[2]);
  const traced = [q.dims[0], q.dims[1], q.dims[2], k.dims[2]];
  const trace = { mode: intAttribute(attributes, "qk_matmul_output_mode", 0), numbers: new Float64Array(traced.reduce((a, b) => a * b, 1)) };
  const y = attend(q, k, v, { scale, softcap: floatAttribute(attributes, "softcap", 0), bias, trace });
  const out = query.dims.length === 3 ? joinHeads(y) : y;
  const results: HostValue[] = [fromNumbers(query.type, out.numbers, out.dims)];
  if (context.outputCount > 1) results.push(fromNumbers(key.type, k.numbers, k.dims));
  if (context.outputCount > 2) results.push(fromNumbers(value.type, v.numbers, v.dims));
  if (context.outputCount > 3) results.push(fromNumbers(query.type, trace.numbers, traced));
  return results;
};

/** q [b,h,i,d], k [b,g,j,d], v [b,g,j,e], mask; with causal, row i sees key j <= i + (keys - queries). */
const sinterAttention: ReferenceOperator = (inputs, attributes) => {
  const query = tensorInput(inputs, 0);
  const q = headsOf(query, 0);
  const k = headsOf(tensorInput(inputs, 1), 0);
  const v = headsOf(tensorInput(inputs, 2), 0);
  const masked = maskBias(optionalTensor(inputs, 3));
  const causal = intAttribute(attributes, "causal", 0) === 1;
  const offset = k.dims[2] - q.dims[2];
  const bias: Bias = (b, h, i, j) => (causal && j > i + offset ? Number.NEGATIVE_INFINITY : masked(b, h, i, j));
  const y = attend(q, k, v, { scale: floatAttribute(attributes, "scale", 1 / Math.sqrt(q.dims[3])), bias });
  return [fromNumbers(query.type, y.numbers, y.dims)];
};

/** Adds a slice of a bias vector to rows of `width` numbers. */
function addBias(numbers: Float64Array, bias: Float64Array | undefined, from: number, width: number): Float64Array {
  return bias ? numbers.map((value, i) => value + bias[from + (i % width)]!) : numbers;
}

/**
 * com.microsoft's masks of ones and zeros: [batch, keys], [batch, queries, keys], [batch, 1, max, max]; or lengths of
 * the sequences, [batch] or [2 * batch] (ends, then starts) or [3 * batch + 2].
 */
function paddingBias(mask: Tensor | undefined, batch: number, filter: number, past: number): Bias {
  if (!mask) return () => 0;
  const numbers = toNumbers(mask);
  if (mask.dims.length === 1) {
    const starts = numbers.length === 2 * batch ? batch : undefined;
    return (b, _h, _i, j) => (j < numbers[b]! && (starts === undefined || j >= numbers[starts + b]!) ? 0 : filter);
  }
  const keys = mask.dims[mask.dims.length - 1]!;
  if (mask.dims.length === 2) return (b, _h, _i, j) => (numbers[b * keys + j]! > 0 ? 0 : filter);
  const rows = mask.dims[mask.dims.length - 2]!;
  const offset = mask.dims.length === 4 ? past : 0;
  return (b, _h, i, j) => (numbers[(b * rows + i + offset) * keys + j]! > 0 ? 0 : filter);
}

/** query, key, value, bias, key_padding_mask, attention_bias, past_key, past_value. */
const multiHeadAttention: ReferenceOperator = (inputs, attributes, context) => {
  const query = tensorInput(inputs, 0);
  const key = optionalTensor(inputs, 1);
  const value = optionalTensor(inputs, 2);
  const heads = intAttribute(attributes, "num_heads", 1);
  const biasTensor = optionalTensor(inputs, 3);
  const biases = biasTensor && toNumbers(biasTensor);
  const parts = key ? separate(query, key, value, heads, biases) : packed(query, heads);
  const past = optionalTensor(inputs, 6);
  const k = appendHeads(past, parts.k);
  const v = appendHeads(optionalTensor(inputs, 7), parts.v);
  const filter = floatAttribute(attributes, "mask_filter_value", -10000);
  const padding = paddingBias(optionalTensor(inputs, 4), parts.q.dims[0], filter, past?.dims[2] ?? 0);
  const added = maskBias(optionalTensor(inputs, 5));
  const causal = intAttribute(attributes, "unidirectional", 0) === 1;
  const offset = k.dims[2] - parts.q.dims[2];
  const bias: Bias = (b, h, i, j) => (causal && j > i + offset ? filter : 0) + padding(b, h, i, j) + added(b, h, i, j);
  const y = joinHeads(attend(parts.q, k, v, { scale: scaleOf(attributes, parts.q.dims[3]), bias }));
  const results: HostValue[] = [fromNumbers(query.type, y.numbers, y.dims)];
  if (context.outputCount > 1) results.push(fromNumbers(query.type, k.numbers, k.dims));
  if (context.outputCount > 2) results.push(fromNumbers(query.type, v.numbers, v.dims));
  return results;
};

/** The contrib operators take an absent scale, and one of 0, as 1/sqrt(size). */
function scaleOf(attributes: ReferenceAttributes, size: number): number {
  return floatAttribute(attributes, "scale", 0) || 1 / Math.sqrt(size);
}

interface Parts { readonly q: Heads; readonly k: Heads; readonly v: Heads }

/** query [b, i, w]; key and value [b, j, w], or [b, heads, j, size], or key packed [b, j, heads, 2, size]. */
function separate(query: Tensor, key: Tensor, value: Tensor | undefined, heads: number, biases: Float64Array | undefined): Parts {
  const [batch, rows, width] = query.dims as readonly [number, number, number];
  const q = splitHeads(addBias(toNumbers(query), biases, 0, width), batch, rows, heads, width / heads);
  if (!value) return { q, ...unpack(toNumbers(key), batch, key.dims[1]!, heads, key.dims[4]!, 2, 0) };
  if (key.dims.length === 4) return { q, k: headsOf(key, heads), v: headsOf(value, heads) };
  const keyWidth = key.dims[2]!;
  const valueWidth = value.dims[2]!;
  const k = splitHeads(addBias(toNumbers(key), biases, width, keyWidth), batch, key.dims[1]!, heads, keyWidth / heads);
  const v = splitHeads(addBias(toNumbers(value), biases, width + keyWidth, valueWidth), batch, value.dims[1]!, heads, valueWidth / heads);
  return { q, k, v };
}

/** query packed [b, i, heads, 3, size]. */
function packed(query: Tensor, heads: number): Parts {
  const [batch, rows, , , size] = query.dims as readonly [number, number, number, number, number];
  const numbers = toNumbers(query);
  const q = pick(numbers, batch, rows, heads, size, 3, 0);
  return { q, ...unpack(numbers, batch, rows, heads, size, 3, 1) };
}

function unpack(numbers: Float64Array, batch: number, length: number, heads: number, size: number, parts: number, first: number): { k: Heads; v: Heads } {
  return { k: pick(numbers, batch, length, heads, size, parts, first), v: pick(numbers, batch, length, heads, size, parts, first + 1) };
}

function pick(numbers: Float64Array, batch: number, length: number, heads: number, size: number, parts: number, part: number): Heads {
  const result = new Float64Array(batch * length * heads * size);
  for (let line = 0; line < batch * length * heads; line++) {
    const from = (line * parts + part) * size;
    result.set(numbers.subarray(from, from + size), line * size);
  }
  return splitHeads(result, batch, length, heads, size);
}

/** input [b, i, w], weights [w, 3 hidden], bias, mask_index, past [2, b, heads, p, size], attention_bias. */
const microsoftAttention: ReferenceOperator = (inputs, attributes, context) => {
  const input = tensorInput(inputs, 0);
  const weights = tensorInput(inputs, 1);
  const bias = optionalTensor(inputs, 2);
  const heads = intAttribute(attributes, "num_heads", 1);
  const widths = attributes["qkv_hidden_sizes"] as readonly number[] | undefined ?? [0, 0, 0].map(() => weights.dims[1]! / 3);
  const [batch, rows] = input.dims as readonly [number, number, number];
  const projected = project(input, weights, bias);
  const part = (index: number): Heads => {
    const from = widths.slice(0, index).reduce((a, b) => a + b, 0);
    const width = widths[index]!;
    const numbers = new Float64Array(batch * rows * width);
    for (let row = 0; row < batch * rows; row++) numbers.set(projected.subarray(row * weights.dims[1]! + from, row * weights.dims[1]! + from + width), row * width);
    return splitHeads(numbers, batch, rows, heads, width / heads);
  };
  const q = part(0);
  const past = optionalTensor(inputs, 4);
  const length = past?.dims[3] ?? 0;
  const half = (index: number): Tensor | undefined => past && fromNumbers("float64", toNumbers(past).slice((index * past.size) / 2, ((index + 1) * past.size) / 2), past.dims.slice(1));
  const k = appendHeads(half(0), part(1));
  const v = appendHeads(half(1), part(2));
  const filter = floatAttribute(attributes, "mask_filter_value", -10000);
  const padding = paddingBias(optionalTensor(inputs, 3), batch, filter, length);
  const added = maskBias(optionalTensor(inputs, 5));
  const causal = intAttribute(attributes, "unidirectional", 0) === 1;
  if (intAttribute(attributes, "do_rotary", 0)) throw new UnsupportedError("unsupported", 'com.microsoft.Attention with do_rotary is not there; use RotaryEmbedding before it.');
  const bias4: Bias = (b, h, i, j) => (causal && j > i + length ? filter : 0) + padding(b, h, i, j) + added(b, h, i, j);
  const y = joinHeads(attend(q, k, v, { scale: scaleOf(attributes, q.dims[3]), bias: bias4 }));
  const results: HostValue[] = [fromNumbers(input.type, y.numbers, y.dims)];
  if (context.outputCount > 1) results.push(fromNumbers(input.type, Float64Array.from([...k.numbers, ...v.numbers]), [2, ...k.dims]));
  return results;
};

function project(input: Tensor, weights: Tensor, bias: Tensor | undefined): Float64Array {
  const x = toNumbers(input);
  const w = toNumbers(weights);
  const b = bias && toNumbers(bias);
  const [depth, width] = weights.dims as readonly [number, number];
  const rows = x.length / depth;
  const result = new Float64Array(rows * width);
  for (let row = 0; row < rows; row++) {
    const out = result.subarray(row * width, (row + 1) * width);
    if (b) out.set(b);
    for (let d = 0; d < depth; d++) {
      const value = x[row * depth + d]!;
      for (let c = 0; c < width; c++) out[c]! += value * w[d * width + c]!;
    }
  }
  return result;
}

/** The recurrent form: a state [d_k, d_v] per key head that decays, is corrected, and is read by the query. */
const linearAttention: ReferenceOperator = (inputs, attributes) => {
  const query = tensorInput(inputs, 0);
  const heads = intAttribute(attributes, "q_num_heads", 1);
  const kvHeads = intAttribute(attributes, "kv_num_heads", 1);
  const rule = stringAttribute(attributes, "update_rule", "gated_delta");
  const q = headsOf(query, heads);
  const k = headsOf(tensorInput(inputs, 1), kvHeads);
  const v = headsOf(tensorInput(inputs, 2), kvHeads);
  const past = optionalTensor(inputs, 3);
  const decay = optionalTensor(inputs, 4);
  const beta = optionalTensor(inputs, 5);
  const [batch, , length, dk] = q.dims;
  const dv = v.dims[3];
  const gate = lastReader(decay, length, kvHeads, dk);
  const rate = lastReader(beta, length, kvHeads, 1);
  const state = past ? toNumbers(past).slice() : new Float64Array(batch * kvHeads * dk * dv);
  const scale = floatAttribute(attributes, "scale", 0) || 1 / Math.sqrt(dk);
  const y = new Float64Array(batch * heads * length * dv);
  for (let b = 0; b < batch; b++) {
    for (let g = 0; g < kvHeads; g++) {
      const s = state.subarray((b * kvHeads + g) * dk * dv, (b * kvHeads + g + 1) * dk * dv);
      for (let t = 0; t < length; t++) {
        const at = (b * kvHeads + g) * length + t;
        const key = k.numbers.subarray(at * dk, (at + 1) * dk);
        const value = v.numbers.slice(at * dv, (at + 1) * dv);
        if (rule.startsWith("gated")) for (let i = 0; i < dk * dv; i++) s[i]! *= Math.exp(gate(b, t, g, Math.floor(i / dv)));
        if (rule.endsWith("delta")) for (let e = 0; e < dv; e++) value[e] = rate(b, t, g, 0) * (value[e]! - dotColumn(s, key, e, dv));
        for (let i = 0; i < dk * dv; i++) s[i]! += key[Math.floor(i / dv)]! * value[i % dv]!;
        for (let h = (g * heads) / kvHeads; h < ((g + 1) * heads) / kvHeads; h++) {
          const to = (b * heads + h) * length + t;
          for (let e = 0; e < dv; e++) y[to * dv + e] = scale * dotColumn(s, q.numbers.subarray(to * dk, (to + 1) * dk), e, dv);
        }
      }
    }
  }
  const out = joinHeads({ numbers: y, dims: [batch, heads, length, dv] });
  return [fromNumbers(query.type, out.numbers, out.dims), fromNumbers(past?.type ?? query.type, state, [batch, kvHeads, dk, dv])];
};

function dotColumn(state: Float64Array, vector: Float64Array, column: number, width: number): number {
  let sum = 0;
  for (let i = 0; i < vector.length; i++) sum += state[i * width + column]! * vector[i]!;
  return sum;
}

/** Reads [batch, length, heads * size], [batch, length, heads] or [batch, length, 1]. */
function lastReader(tensor: Tensor | undefined, length: number, heads: number, size: number): (b: number, t: number, head: number, i: number) => number {
  if (!tensor) return () => 0;
  const numbers = toNumbers(tensor);
  const width = tensor.dims[2]!;
  return (b, t, head, i) => numbers[(b * length + t) * width + (width === heads * size ? head * size + i : width === heads ? head : 0)]!;
}

export const attentionOperators: ReferenceTable = {
  Attention: attention,
  LinearAttention: linearAttention,
  "sinter.Attention": sinterAttention,
  "com.microsoft.MultiHeadAttention": multiHeadAttention,
  "com.microsoft.Attention": microsoftAttention,
};
