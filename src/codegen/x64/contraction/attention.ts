/**
 * Scaled dot-product attention that never stores the score matrix: a block of queries meets blocks of keys, with a
 * running maximum and sum per query (online softmax).
 *
 * Everything is computed transposed, lanes along queries: scores[key][query] = K[key] . Q^T, so that the softmax over
 * keys is arithmetic between vectors without any step across lanes; and output[element][query] = V^T . weights. K and V
 * are broadcast operands, read where they lie; only a block's queries and results are transposed.
 * Keys that a causal block cannot see are not visited.
 * Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018.
 */
import { type AttentionKernel, add, ceilDiv, type CompiledKernel, type Dim, type Epilogue, mul, product, type StridedOperand, type Tactic, type Bindings, evaluate, type ConstantLookup } from "../../../ir/index.ts";
import { type Isa, mem, type VReg } from "../function.ts";
import { EpilogueEmitter } from "../loop/epilogue.ts";
import { VectorMath } from "../math.ts";
import { canRunByRow, compileAttentionByRow, LEAST_SUM, LOWEST } from "./attention-row.ts";
import { rowHeights } from "./matmul.ts";
import { RegisterTile, type RowLayout } from "./microkernel.ts";
import { transposeIn, transposeOut } from "./transpose.ts";
import { KernelWriter, type Local, type Size } from "./writer.ts";

export interface AttentionParameters {
  /** Rows of the register tile: keys, then elements of a value. */
  readonly rows: number;
  /** Vectors of queries in a block. */
  readonly vectors: number;
  /** Keys in a block. */
  readonly keys: number;
}


/** Empty when head sizes or the pitches of K are not known, or elements are not float32. */
export function attentionTactics(kernel: AttentionKernel, isa: Isa, _constants: ConstantLookup, optimum: Bindings): Tactic[] {
  const { q, k, v, output, headSize, valueSize } = kernel;
  if ([q, k, v, output].some((operand) => operand.buffer.dtype !== "float32")) return [];
  if (typeof headSize !== "number" || typeof valueSize !== "number" || typeof k.strides[2] !== "number" || v.strides[3] !== 1 || q.strides[3] !== 1 || output.strides[3] !== 1) return [];
  const queries = evaluate(kernel.queries, optimum);
  const lanes = isa.vectorBytes / 4;
  const shapes: readonly (readonly [number, number])[] = isa.name === "avx512" ? [[12, 2], [8, 3], [6, 4], [24, 1]] : [[6, 2], [10, 1], [3, 4]];
  const tactics = shapes.flatMap(([rows, vectors]) => [64, 128, 256].map((keys): Tactic => {
    const p = { rows, vectors, keys };
    const waste = (Math.ceil(Math.max(1, queries) / (vectors * lanes)) * vectors * lanes) / Math.max(1, queries);
    return {
      name: attentionTacticName(p, lanes),
      estimate: waste * (1 + 0.5 / vectors + Math.abs(keys - 128) / 10_000),
      compile: () => new AttentionGenerator(kernel, isa, p).compile(),
    };
  }));
  if (canRunByRow(kernel, isa)) {
    // A row costs about as much as a query among a block's, times three.
    tactics.push({ name: "attention by row", estimate: 3, compile: () => compileAttentionByRow(kernel, isa) });
  }
  return tactics.sort((a, b) => a.estimate - b.estimate);
}

function attentionTacticName(p: AttentionParameters, lanes: number): string {
  return `attention ${p.rows}x${p.vectors * lanes} keys ${p.keys}`;
}

interface Tile {
  readonly batch: Local | number;
  readonly head: Local | number;
  readonly firstQuery: Local;
  /** Queries that exist in this block. */
  readonly queries: Local;
  /** Keys visible to some query of the block. */
  readonly keys: Local;
  readonly q: Local;
  readonly k: Local;
  readonly v: Local;
  readonly output: Local;
}

interface KeyBlock {
  readonly first: Local;
  readonly count: Local;
}

class AttentionGenerator {
  readonly #kernel: AttentionKernel;
  readonly #p: AttentionParameters;
  readonly #w: KernelWriter;
  readonly #columns: number;
  readonly #pitch: number;
  readonly #headSize: number;
  readonly #valueSize: number;
  /** Places in scratch: transposed queries, transposed results, scores, running maxima, sums, corrections. */
  readonly #at: Readonly<Record<"queries" | "results" | "scores" | "maxima" | "sums" | "corrections", number>>;
  readonly #scratchBytes: number;
  readonly #math: VectorMath;
  readonly #mask: EpilogueEmitter | undefined;

  constructor(kernel: AttentionKernel, isa: Isa, p: AttentionParameters) {
    this.#kernel = kernel;
    this.#p = p;
    const w = new KernelWriter(isa, kernel.name);
    this.#w = w;
    this.#columns = p.vectors * w.lanes;
    this.#pitch = this.#columns * 4;
    this.#headSize = kernel.headSize as number;
    this.#valueSize = kernel.valueSize as number;
    let end = 0;
    const place = (rows: number): number => {
      const begin = end;
      end += rows * this.#pitch;
      return begin;
    };
    this.#at = { queries: place(this.#headSize), results: place(this.#valueSize), scores: place(p.keys), maxima: place(1), sums: place(1), corrections: place(1) };
    this.#scratchBytes = end;
    this.#math = new VectorMath(w.f);
    this.#mask = kernel.mask && new EpilogueEmitter(w.f, lanesAlongQueries(kernel.mask), w.table, w.paramBlock);
  }

  compile(): CompiledKernel {
    const w = this.#w;
    const kernel = this.#kernel;
    const radices = [ceilDiv(kernel.queries, this.#columns), kernel.heads, kernel.batch];
    w.count(w.tileBegin, w.tileEnd, 1, (index) => {
      const [block, head, batch] = w.split(index, radices);
      const tile = this.#place(block!, head!, batch!);
      this.#start(tile);
      const first = w.local(0);
      const count = w.local();
      w.count(0, w.get(tile.keys), this.#p.keys, (key) => {
        w.set(first, w.get(key));
        w.set(count, w.min(w.sub(w.get(tile.keys), w.get(key)), this.#p.keys));
        this.#scores(tile, { first, count });
        this.#softmax(tile, { first, count });
        this.#accumulate(tile, { first, count });
      });
      this.#finish(tile);
    });
    const { code } = w.f.finish();
    const scores = product([kernel.batch, kernel.heads, kernel.queries, kernel.keys]);
    const elements = (operand: StridedOperand): Dim => product(operand.buffer.dims);
    return {
      name: kernel.name, code, params: w.table.list, packed: w.packed,
      tiles: product(radices),
      scratchBytes: this.#scratchBytes,
      flops: mul(2 * (this.#headSize + this.#valueSize), scores),
      bytes: mul(4, add(elements(kernel.q), elements(kernel.k), elements(kernel.v), elements(kernel.output))),
      tactic: attentionTacticName(this.#p, w.lanes),
    };
  }

  #place(block: Local | number, head: Local | number, batch: Local | number): Tile {
    const w = this.#w;
    const kernel = this.#kernel;
    const firstQuery = w.local(w.mul(w.value(block), this.#columns));
    const queries = w.local(w.min(w.sub(w.size(kernel.queries), w.get(firstQuery)), this.#columns));
    const kvHead = this.#kvHead(head);
    const at = (operand: StridedOperand, whichHead: Local | number, row: Local | number): Local => w.local(w.address(
      w.pointer(operand.buffer), w.size(mul(4, operand.offset ?? 0)),
      ...[batch, whichHead, row].map((index, i) => w.mul(w.value(index), w.size(mul(4, operand.strides[i]!)))),
    ));
    const visible = w.local(w.size(kernel.keys));
    if (kernel.causalOffset !== undefined) {
      const seen = w.add(w.add(w.get(firstQuery), w.get(queries)), w.size(kernel.causalOffset));
      w.set(visible, w.max(0, w.min(w.get(visible), seen)));
    }
    return {
      batch, head, firstQuery, queries, keys: visible,
      q: at(kernel.q, head, firstQuery), k: at(kernel.k, kvHead, 0), v: at(kernel.v, kvHead, 0), output: at(kernel.output, head, firstQuery),
    };
  }

  #kvHead(head: Local | number): Local | number {
    const w = this.#w;
    const shared = this.#kernel.headsPerKv;
    if (shared === 1) return head;
    if (typeof head === "number") return Math.floor(head / shared);
    return w.local(w.divide(w.get(head), shared)[0]);
  }

  #scratchAt(place: number): VReg {
    return this.#w.address(this.#w.scratch, place);
  }

  /** Transposes and scales the queries, and clears the running values. */
  #start(tile: Tile): void {
    const w = this.#w;
    const { q, scale } = this.#kernel;
    this.#fill(this.#at.queries, this.#headSize, w.vectors.zero());
    this.#eachVector(tile, (v, rows) => {
      const base = w.local(w.address(w.get(tile.q), w.mul(w.size(mul(4, q.strides[2])), v * w.lanes)));
      const to = w.local(this.#scratchAt(this.#at.queries + v * w.vectorBytes));
      transposeIn(w, { base, rowBytes: this.#rowBytes(q) }, rows, this.#headSize, to, this.#pitch);
    });
    const factor = w.vectors.splat(scale);
    this.#each(this.#at.queries, this.#headSize * this.#p.vectors, (place) => w.vectors.store(place, w.vectors.mul(w.vectors.load(place), factor)));
    this.#fill(this.#at.results, this.#valueSize, w.vectors.zero());
    this.#fill(this.#at.sums, 1, w.vectors.zero());
    this.#fill(this.#at.maxima, 1, w.vectors.splat(LOWEST));
  }

  #fill(place: number, rows: number, value: VReg): void {
    this.#each(place, rows * this.#p.vectors, (at) => this.#w.vectors.store(at, value));
  }

  #each(place: number, vectors: number, body: (at: ReturnType<typeof mem>) => void): void {
    const w = this.#w;
    const pointer = this.#scratchAt(place);
    w.f.loop(0, vectors, 1, () => {
      body(mem(pointer));
      w.f.emit("add", pointer, w.vectorBytes);
    });
  }

  /** scores[key][query] of the block. */
  #scores(tile: Tile, block: KeyBlock): void {
    const w = this.#w;
    const [, , rowStride, elementStride] = this.#kernel.k.strides;
    const rowBytes = 4 * (rowStride as number);
    this.#rowTiles(block.count, this.#kernel.keys, this.#p.keys, (row, height) => {
      const registers = new RegisterTile(w, height, this.#p.vectors);
      registers.zero();
      const key = w.add(w.get(block.first), w.get(row));
      const a = w.address(w.get(tile.k), w.mul(key, rowBytes));
      const layout: RowLayout = { offsets: Array.from({ length: height }, (_, r) => r * rowBytes), stepBytes: w.size(mul(4, elementStride)) };
      registers.multiply(a, layout, this.#scratchAt(this.#at.queries), this.#vectors(), this.#headSize, 4);
      registers.store(w.address(w.scratch, this.#at.scores, w.mul(w.get(row), this.#pitch)), this.#pitch);
    });
  }

  #vectors(): { stepBytes: number; vectorOffsets: readonly number[] } {
    return { stepBytes: this.#pitch, vectorOffsets: Array.from({ length: this.#p.vectors }, (_, v) => v * this.#w.vectorBytes) };
  }

  /** Calls `body` for tiles of rows, with the height each piece of code is for. `total` and `most` bound the count. */
  #rowTiles(count: Local | number, total: Dim, most: number, body: (row: Local, height: number) => void): void {
    const w = this.#w;
    const { rows } = this.#p;
    if (typeof count === "number") {
      const [height, last] = rowHeights(count, rows) as [number, number?];
      w.count(0, count - (last ?? 0), height, (row) => body(row, height));
      if (last !== undefined) body(w.local(count - last), last);
      return;
    }
    const fewest = typeof total === "number" ? Math.min(total, most) : most;
    const heights = Array.from({ length: Math.min(rows, Math.max(1, fewest)) }, (_, i) => i + 1);
    const left = w.local();
    w.count(0, w.get(count), rows, (row) => {
      w.set(left, w.min(w.sub(w.get(count), w.get(row)), rows));
      w.choose(left, heights, (height) => body(row, height));
    });
  }

  /** Masks the scores, moves the running maxima, and turns scores into weights. */
  #softmax(tile: Tile, block: KeyBlock): void {
    const w = this.#w;
    const { vectors } = w;
    const indices = Array.from({ length: this.#p.vectors }, (_, v) => v);
    const lane = (v: number): { disp: number } => ({ disp: v * w.vectorBytes });
    this.#mask?.begin();
    const maxima = indices.map((v) => vectors.load(mem(w.scratch, { disp: this.#at.maxima + v * w.vectorBytes })));
    this.#eachKey(tile, block, (scores, key) => {
      this.#maskRow(tile, scores, key);
      for (const v of indices) w.f.emit("vmaxps", maxima[v]!, maxima[v]!, mem(scores, lane(v)));
    });
    const exp = (x: VReg): VReg => this.#math.call("exp", x);
    const sums = indices.map((v) => {
      const before = vectors.load(mem(w.scratch, { disp: this.#at.maxima + v * w.vectorBytes }));
      const correction = exp(vectors.sub(before, maxima[v]!));
      vectors.store(mem(w.scratch, { disp: this.#at.corrections + v * w.vectorBytes }), correction);
      vectors.store(mem(w.scratch, { disp: this.#at.maxima + v * w.vectorBytes }), maxima[v]!);
      return vectors.mul(vectors.load(mem(w.scratch, { disp: this.#at.sums + v * w.vectorBytes })), correction);
    });
    this.#eachKey(tile, block, (scores) => {
      for (const v of indices) {
        const weight = exp(vectors.sub(vectors.load(mem(scores, lane(v))), maxima[v]!));
        vectors.store(mem(scores, lane(v)), weight);
        w.f.emit("vaddps", sums[v]!, sums[v]!, weight);
      }
    });
    for (const v of indices) vectors.store(mem(w.scratch, { disp: this.#at.sums + v * w.vectorBytes }), sums[v]!);
  }

  #eachKey(_tile: Tile, block: KeyBlock, body: (scores: VReg, key: Local) => void): void {
    const w = this.#w;
    const scores = w.local(this.#scratchAt(this.#at.scores));
    const key = w.local(w.get(block.first));
    w.count(0, w.get(block.count), 1, () => {
      body(w.get(scores), key);
      w.f.emit("add", scores.slot, this.#pitch);
      w.f.emit("add", key.slot, 1);
    });
  }

  #maskRow(tile: Tile, scores: VReg, key: Local): void {
    const w = this.#w;
    if (this.#mask) {
      const row = this.#mask.row([w.value(tile.batch), w.value(tile.head), w.get(key)]);
      const whole = w.f.label("wholeMask");
      const done = w.f.label("masked");
      const column = w.get(tile.firstQuery);
      const addMask = (v: number, tail?: VReg): void => {
        const place = mem(scores, { disp: v * w.vectorBytes });
        w.vectors.store(place, w.vectors.add(w.vectors.load(place), row.floats(w.vectors.load(place), column, v * w.lanes, tail)));
      };
      w.f.emit("cmp", tile.queries.slot, this.#columns);
      w.f.jump("eq", whole);
      for (let v = 0; v < this.#p.vectors; v++) addMask(v, this.#lanesPresent(w.get(tile.queries), v));
      w.f.jump("always", done);
      w.f.bind(whole);
      for (let v = 0; v < this.#p.vectors; v++) addMask(v);
      w.f.bind(done);
    }
    if (this.#kernel.causalOffset !== undefined) this.#causalRow(tile, scores, key, this.#kernel.causalOffset);
  }

  #lanesPresent(queries: Size, v: number): VReg {
    const w = this.#w;
    return w.vectors.tailMask(w.max(0, w.min(w.sub(queries, v * w.lanes), w.lanes)));
  }

  /** Query i sees key j when i >= j - offset: the first lanes of the row are hidden. */
  #causalRow(tile: Tile, scores: VReg, key: Local, offset: Dim): void {
    const w = this.#w;
    const hidden = w.local(w.sub(w.sub(w.get(key), w.size(offset)), w.get(tile.firstQuery)));
    const none = w.f.label("allVisible");
    w.f.emit("cmp", hidden.slot, 0);
    w.f.jump("le", none);
    const minusInfinity = w.vectors.splat(Number.NEGATIVE_INFINITY);
    for (let v = 0; v < this.#p.vectors; v++) {
      const mask = this.#lanesPresent(w.get(hidden), v);
      w.vectors.storeMasked(mem(scores, { disp: v * w.vectorBytes }), minusInfinity, mask);
    }
    w.f.bind(none);
  }

  /** results[element][query] = results * correction + V^T weights. */
  #accumulate(tile: Tile, block: KeyBlock): void {
    const w = this.#w;
    const [, , rowStride, elementStride] = this.#kernel.v.strides;
    const elementBytes = 4 * (elementStride as number);
    this.#rowTiles(this.#valueSize, this.#valueSize, this.#valueSize, (row, height) => {
      const registers = new RegisterTile(w, height, this.#p.vectors);
      const results = w.local(w.address(w.scratch, this.#at.results, w.mul(w.get(row), this.#pitch)));
      registers.load(w.get(results), this.#pitch);
      for (const accumulators of registers.accumulators) {
        accumulators.forEach((register, v) => w.f.emit("vmulps", register, register, mem(w.scratch, { disp: this.#at.corrections + v * w.vectorBytes })));
      }
      const rowBytes = w.size(mul(4, rowStride));
      const a = w.address(w.get(tile.v), w.mul(w.get(block.first), rowBytes), w.mul(w.get(row), elementBytes));
      const layout: RowLayout = { offsets: Array.from({ length: height }, (_, r) => r * elementBytes), stepBytes: rowBytes };
      registers.multiply(a, layout, this.#scratchAt(this.#at.scores), this.#vectors(), w.get(block.count), 4);
      registers.store(w.get(results), this.#pitch);
    });
  }

  /** Divides by the sums and transposes back. */
  #finish(tile: Tile): void {
    const w = this.#w;
    const { output } = this.#kernel;
    const one = w.vectors.splat(1);
    const least = w.vectors.splat(LEAST_SUM);
    const inverse = Array.from({ length: this.#p.vectors }, (_, v) => w.vectors.div(one, w.vectors.max(least, mem(w.scratch, { disp: this.#at.sums + v * w.vectorBytes }))));
    const pointer = this.#scratchAt(this.#at.results);
    w.f.loop(0, this.#valueSize, 1, () => {
      inverse.forEach((factor, v) => {
        const place = mem(pointer, { disp: v * w.vectorBytes });
        w.vectors.store(place, w.vectors.mul(w.vectors.load(place), factor));
      });
      w.f.emit("add", pointer, this.#pitch);
    });
    this.#eachVector(tile, (v, rows) => {
      const base = w.local(w.address(w.get(tile.output), w.mul(w.size(mul(4, output.strides[2])), v * w.lanes)));
      const from = w.local(this.#scratchAt(this.#at.results + v * w.vectorBytes));
      transposeOut(w, from, this.#pitch, { base, rowBytes: this.#rowBytes(output) }, rows, this.#valueSize);
    });
  }

  #rowBytes(operand: StridedOperand): Local | number {
    const bytes = this.#w.size(mul(4, operand.strides[2]));
    return typeof bytes === "number" ? bytes : this.#w.local(bytes);
  }

  /** Calls `body` for each vector of queries with how many of them exist, from 0 to all lanes. */
  #eachVector(tile: Tile, body: (v: number, rows: Local) => void): void {
    const w = this.#w;
    for (let v = 0; v < this.#p.vectors; v++) body(v, w.local(w.max(0, w.min(w.sub(w.get(tile.queries), v * w.lanes), w.lanes))));
  }
}

/** The mask over [b, h, j, i]: the same expression with queries along the lanes. */
function lanesAlongQueries(mask: Epilogue): Epilogue {
  const [batch, head, query, key] = mask.axes;
  return { axes: [batch!, head!, key!, query!], value: mask.value };
}
