/**
 * Attention for few queries, as when a language model writes one token at a time: each query by itself, at the speed
 * at which keys and values come from memory.
 *
 * A score is a product along the head's elements, summed across lanes; the softmax of a block of keys has keys along the
 * lanes; the result is a sum of value rows, kept in scratch between blocks. Running maximum and sum are the same in all
 * lanes.
 */
import { type AttentionKernel, add, type CompiledKernel, type Dim, mul, product, type StridedOperand } from "../../../ir/index.ts";
import { type Isa, mem, type VReg } from "../function.ts";
import { EpilogueEmitter } from "../loop/epilogue.ts";
import { VectorMath } from "../math.ts";
import { KernelWriter, type Local } from "./writer.ts";

/** Keys of a block; a multiple of every vector's lanes. */
const KEYS = 64;
/** The lowest finite float32: where a running maximum starts. */
export const LOWEST = -3.4028234663852886e38;
/** Less than any sum with a visible key, which is at least 1: a query that sees no key gets zeros, not 0 / 0. */
export const LEAST_SUM = 1e-30;

/** Whether rows of Q, K and V lie side by side and fit the registers. */
export function canRunByRow(kernel: AttentionKernel, isa: Isa): boolean {
  const most = (isa.name === "avx512" ? 16 : 8) * (isa.vectorBytes / 4);
  const { q, k, v, output, headSize, valueSize } = kernel;
  return [q, k, v, output].every((operand) => operand.strides[3] === 1) && typeof headSize === "number" && typeof valueSize === "number" && headSize <= most && valueSize <= most;
}

export function compileAttentionByRow(kernel: AttentionKernel, isa: Isa): CompiledKernel {
  return new RowGenerator(kernel, isa).compile();
}

interface Query {
  readonly index: readonly (Local | number)[];
  readonly keys: Local;
  readonly q: Local;
  readonly k: Local;
  readonly v: Local;
  readonly output: Local;
  /** Bytes between rows of K and V. */
  readonly kRow: Local | number;
  readonly vRow: Local | number;
}

class RowGenerator {
  readonly #kernel: AttentionKernel;
  readonly #w: KernelWriter;
  readonly #math: VectorMath;
  readonly #mask: EpilogueEmitter | undefined;
  /** Places in scratch: scores come first. */
  readonly #results = KEYS * 4;
  readonly #maximum: number;
  readonly #sum: number;

  constructor(kernel: AttentionKernel, isa: Isa) {
    this.#kernel = kernel;
    const w = new KernelWriter(isa, kernel.name);
    this.#w = w;
    this.#math = new VectorMath(w.f);
    this.#mask = kernel.mask && new EpilogueEmitter(w.f, kernel.mask, w.table, w.paramBlock);
    this.#maximum = this.#results + this.#vectors(kernel.valueSize as number) * w.vectorBytes;
    this.#sum = this.#maximum + w.vectorBytes;
  }

  compile(): CompiledKernel {
    const w = this.#w;
    const kernel = this.#kernel;
    const radices = [kernel.queries, kernel.heads, kernel.batch];
    w.count(w.tileBegin, w.tileEnd, 1, (tile) => {
      const [query, head, batch] = w.split(tile, radices);
      const place = this.#place(batch!, head!, query!);
      this.#start();
      w.count(0, w.get(place.keys), KEYS, (first) => {
        const count = w.local(w.min(w.sub(w.get(place.keys), w.get(first)), KEYS));
        this.#scores(place, first, count);
        this.#weights(place, first, count);
        this.#accumulate(place, first, count);
      });
      this.#finish(place);
    });
    const { code } = w.f.finish();
    const scores = product([kernel.batch, kernel.heads, kernel.queries, kernel.keys]);
    const elements = (operand: StridedOperand): Dim => product(operand.buffer.dims);
    return {
      name: kernel.name, code, params: w.table.list, packed: w.packed, tiles: product(radices), scratchBytes: this.#sum + w.vectorBytes,
      flops: mul(2, add(kernel.headSize, kernel.valueSize), scores),
      bytes: mul(4, add(elements(kernel.q), elements(kernel.k), elements(kernel.v), elements(kernel.output))),
      tactic: "attention by row",
    };
  }

  #vectors(elements: number): number {
    return Math.ceil(elements / this.#w.lanes);
  }

  #place(batch: Local | number, head: Local | number, query: Local | number): Query {
    const w = this.#w;
    const kernel = this.#kernel;
    const shared = kernel.headsPerKv;
    const kvHead = shared === 1 ? head : typeof head === "number" ? Math.floor(head / shared) : w.local(w.divide(w.get(head), shared)[0]);
    const at = (operand: StridedOperand, whichHead: Local | number, row: Local | number): Local => w.local(w.address(
      w.pointer(operand.buffer), w.size(mul(4, operand.offset ?? 0)),
      ...[batch, whichHead, row].map((index, i) => w.mul(w.value(index), w.size(mul(4, operand.strides[i]!)))),
    ));
    const keys = w.local(w.size(kernel.keys));
    if (kernel.causalOffset !== undefined) w.set(keys, w.max(0, w.min(w.get(keys), w.add(w.add(w.value(query), w.size(kernel.causalOffset)), 1))));
    return {
      index: [batch, head, query], keys,
      q: at(kernel.q, head, query), k: at(kernel.k, kvHead, 0), v: at(kernel.v, kvHead, 0), output: at(kernel.output, head, query),
      kRow: w.keep(w.size(mul(4, kernel.k.strides[2]))), vRow: w.keep(w.size(mul(4, kernel.v.strides[2]))),
    };
  }

  #start(): void {
    const w = this.#w;
    const zero = w.vectors.zero();
    for (let at = this.#results; at < this.#maximum; at += w.vectorBytes) w.vectors.store(mem(w.scratch, { disp: at }), zero);
    w.vectors.store(mem(w.scratch, { disp: this.#sum }), zero);
    w.vectors.store(mem(w.scratch, { disp: this.#maximum }), w.vectors.splat(LOWEST));
  }

  /** Loads a row's vector, the last one masked. */
  #row(pointer: VReg, v: number, elements: number): VReg {
    const { vectors, lanes, vectorBytes } = this.#w;
    const left = elements - v * lanes;
    const place = mem(pointer, { disp: v * vectorBytes });
    return left >= lanes ? vectors.load(place) : vectors.loadMasked(place, vectors.tailMask(left));
  }

  #scores(query: Query, first: Local, count: Local): void {
    const w = this.#w;
    const elements = this.#kernel.headSize as number;
    const scale = w.vectors.splat(this.#kernel.scale);
    const pointer = w.get(query.q);
    const q = Array.from({ length: this.#vectors(elements) }, (_, v) => w.vectors.mul(this.#row(pointer, v, elements), scale));
    const key = w.address(w.get(query.k), w.mul(w.get(first), w.value(query.kRow)));
    const score = w.move(w.scratch);
    const left = w.get(count);
    this.#repeat(left, () => {
      const sum = w.vectors.zero();
      q.forEach((part, v) => w.f.emit("vfmadd231ps", sum, part, this.#row(key, v, elements)));
      w.f.emit("vmovss", mem(score), this.#acrossLanes(sum, "vaddps"));
      w.f.emit("add", key, w.value(query.kRow));
      w.f.emit("add", score, 4);
    });
  }

  /** Runs the body `left` times, at least once; changes the register. */
  #repeat(left: VReg, body: () => void): void {
    const { f } = this.#w;
    const top = f.label("repeat");
    f.bind(top);
    body();
    f.emit("sub", left, 1);
    f.jump("gt", top);
  }

  /** The sum or maximum of all lanes, in the first four. */
  #acrossLanes(value: VReg, mnemonic: "vaddps" | "vmaxps"): VReg {
    const { f } = this.#w;
    const [half, result] = [f.vec("half"), f.vec("across")];
    let part = value;
    if (this.#w.vectorBytes === 64) {
      f.emit("vextractf64x4", half, value, 1);
      f.emit(`${mnemonic}.y`, result, value, half);
      part = result;
    }
    f.emit("vextractf128", half, part, 1);
    f.emit(`${mnemonic}.x`, result, part, half);
    for (const order of [0x4e, 0xb1]) {
      f.emit("vpermilps.x", half, result, order);
      f.emit(`${mnemonic}.x`, result, result, half);
    }
    return result;
  }

  #broadcast(first: VReg): VReg {
    const register = this.#w.f.vec("all");
    this.#w.f.emit("vbroadcastss", register, first);
    return register;
  }

  /** Masks the scores and turns them into weights; lanes without a key get the weight 0. */
  #weights(query: Query, first: Local, count: Local): void {
    const w = this.#w;
    const { vectors } = w;
    const place = (v: number) => mem(w.scratch, { disp: v * w.vectorBytes });
    const blocks = KEYS / w.lanes;
    this.#mask?.begin();
    const row = this.#mask?.row(query.index.map((index) => w.value(index)));
    for (let v = 0; v < blocks; v++) {
      const present = vectors.tailMask(w.max(0, w.min(w.sub(w.get(count), v * w.lanes), w.lanes)));
      const hidden = vectors.splat(Number.NEGATIVE_INFINITY);
      const score = vectors.loadMasked(place(v), present);
      vectors.store(place(v), row ? this.#maskedScores(row, place(v), score, first, v, present, hidden) : this.#select(place(v), score, present, hidden));
    }
    const before = vectors.load(mem(w.scratch, { disp: this.#maximum }));
    const maximum = w.f.vec("maximum");
    w.f.emit("vmovaps", maximum, before);
    for (let v = 0; v < blocks; v++) w.f.emit("vmaxps", maximum, maximum, place(v));
    const all = this.#broadcast(this.#acrossLanes(maximum, "vmaxps"));
    vectors.store(mem(w.scratch, { disp: this.#maximum }), all);
    const correction = this.#math.call("exp", vectors.sub(before, all));
    const sum = vectors.mul(vectors.load(mem(w.scratch, { disp: this.#sum })), correction);
    for (let v = 0; v < blocks; v++) {
      const weight = this.#math.call("exp", vectors.sub(vectors.load(place(v)), all));
      vectors.store(place(v), weight);
      w.f.emit("vaddps", sum, sum, weight);
    }
    vectors.store(mem(w.scratch, { disp: this.#sum }), sum);
    for (let at = this.#results; at < this.#maximum; at += w.vectorBytes) {
      const result = mem(w.scratch, { disp: at });
      vectors.store(result, vectors.mul(vectors.load(result), correction));
    }
  }

  #maskedScores(row: ReturnType<EpilogueEmitter["row"]>, place: ReturnType<typeof mem>, score: VReg, first: Local, v: number, present: VReg, hidden: VReg): VReg {
    const w = this.#w;
    const mask = row.floats(score, w.get(first), v * w.lanes, present);
    return this.#select(place, w.vectors.add(score, mask), present, hidden);
  }

  /** `value` in the lanes of the mask, else `other`; through the scratch place. */
  #select(place: ReturnType<typeof mem>, value: VReg, mask: VReg, other: VReg): VReg {
    const { vectors } = this.#w;
    vectors.store(place, other);
    vectors.storeMasked(place, value, mask);
    return vectors.load(place);
  }

  #accumulate(query: Query, first: Local, count: Local): void {
    const w = this.#w;
    const elements = this.#kernel.valueSize as number;
    const sums = Array.from({ length: this.#vectors(elements) }, (_, v) => w.vectors.load(mem(w.scratch, { disp: this.#results + v * w.vectorBytes })));
    const value = w.address(w.get(query.v), w.mul(w.get(first), w.value(query.vRow)));
    const weight = w.move(w.scratch);
    const left = w.get(count);
    this.#repeat(left, () => {
      const factor = w.f.vec("weight");
      w.f.emit("vbroadcastss", factor, mem(weight));
      sums.forEach((sum, v) => w.f.emit("vfmadd231ps", sum, factor, this.#row(value, v, elements)));
      w.f.emit("add", value, w.value(query.vRow));
      w.f.emit("add", weight, 4);
    });
    sums.forEach((sum, v) => w.vectors.store(mem(w.scratch, { disp: this.#results + v * w.vectorBytes }), sum));
  }

  #finish(query: Query): void {
    const w = this.#w;
    const { vectors, lanes, vectorBytes } = w;
    const elements = this.#kernel.valueSize as number;
    const total = vectors.max(vectors.splat(LEAST_SUM), this.#broadcast(this.#acrossLanes(vectors.load(mem(w.scratch, { disp: this.#sum })), "vaddps")));
    const pointer = w.get(query.output);
    for (let v = 0; v < this.#vectors(elements); v++) {
      const result = vectors.div(vectors.load(mem(w.scratch, { disp: this.#results + v * vectorBytes })), total);
      const place = mem(pointer, { disp: v * vectorBytes });
      const left = elements - v * lanes;
      if (left >= lanes) vectors.store(place, result);
      else vectors.storeMasked(place, result, vectors.tailMask(left));
    }
  }
}
