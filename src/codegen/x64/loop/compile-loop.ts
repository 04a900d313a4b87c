
import { FunctionBuilder, type Isa, type VReg } from "../function.ts";
import { ExprEmitter } from "./emitter.ts";
import { type FlatKernel, flattenKernel } from "../../flatten.ts";
import { type Axis, type Buffer, type CompiledKernel, dimCeilDiv, type Expr, type LoopKernel, } from "../../loop-ir.ts";
import { bytesMoved, totalWork } from "../../loop-cost.ts";
import { ParamTable } from "./params.ts";
import { type LoopSchedule, scheduleLoop } from "./schedule.ts";
import type { Gp, Scope } from "./scope.ts";
import { transposeTile } from "./transpose.ts";

/** @throws UnsupportedError when an operation has no code for its type; the text names it */
export function compileLoop(kernel: LoopKernel, isa: Isa): CompiledKernel {
  const flat = flattenKernel(kernel);
  const schedule = scheduleLoop(flat);
  const f = new FunctionBuilder(isa, kernel.name, 4);
  const table = new ParamTable();
  const emitter = new ExprEmitter(f, table, f.params[0]!, flat.safe);
  new LoopCode(flat, schedule, emitter).emit(f.params[1]!, f.params[2]!);
  const { code } = f.finish();
  return {
    name: kernel.name, code, params: table.list, packed: [], tiles: schedule.tiles, scratchBytes: 0,
    flops: totalWork(flat),
    bytes: bytesMoved(kernel),
    tactic: `loop ${isa.name} lanes ${schedule.lane?.name ?? "none"}${schedule.chunk ? ` chunk ${schedule.chunk}` : ""}`,
  };
}

class LoopCode {
  private readonly kernel: FlatKernel;
  private readonly schedule: LoopSchedule;
  private readonly emitter: ExprEmitter;

  constructor(kernel: FlatKernel, schedule: LoopSchedule, emitter: ExprEmitter) {
    this.kernel = kernel;
    this.schedule = schedule;
    this.emitter = emitter;
  }

  emit(tileBegin: VReg, tileEnd: VReg): void {
    const { emitter, schedule } = this;
    const { gp, f } = emitter;
    const root = emitter.rootScope();
    this.hoist(root);
    if (schedule.chunk !== undefined) return this.chunkedTiles(tileBegin, tileEnd, schedule.chunk, root);
    const perTile = emitter.dim(schedule.rowsPerTile, root);
    const row = gp.copy(gp.mul(tileBegin, perTile));
    const end = gp.operate("min", "i64", [gp.mul(tileEnd, perTile), emitter.dim(schedule.rowCount, root)]);
    const done = f.label("done");
    gp.compare(row, end);
    f.jump("ge", done);
    const indices = this.splitRow(row, root);
    const top = f.label("row");
    f.bind(top);
    this.row(indices, root);
    this.nextRow(indices, root);
    f.emit("add", row, 1);
    gp.compare(row, end);
    f.jump("l", top);
    f.bind(done);
  }

  private hoist(scope: Scope, addressesOnly = false): void {
    const { lane } = this.schedule;
    for (const { buffer, offset, value } of this.kernel.outputs) {
      this.emitter.hoist(value, scope, lane, addressesOnly);
      this.emitter.hoist({ kind: "load", type: "i32", buffer, index: [offset] }, scope, lane, true);
    }
  }

  /** Tile number = row * chunks + chunk. */
  private chunkedTiles(tileBegin: VReg, tileEnd: VReg, chunk: number, root: Scope): void {
    const { emitter, schedule } = this;
    const { gp, f } = emitter;
    const lane = schedule.lane!;
    const extent = emitter.dim(lane.extent, root);
    const chunks = emitter.dim(dimCeilDiv(lane.extent, chunk), root);
    f.loop(tileBegin, tileEnd, 1, (tile) => {
      const row = schedule.rowCount === 1 ? 0 : gp.operate("div", "i64", [tile, chunks]);
      const from = gp.mul(gp.sub(tile, gp.mul(row, chunks)), chunk);
      const to = gp.operate("min", "i64", [gp.add(from, chunk), extent]);
      this.row(this.splitRow(row, root), root, from, to);
    });
  }

  /** One register per row axis, from the row number. */
  private splitRow(row: Gp, root: Scope): VReg[] {
    const { emitter } = this;
    const { gp } = emitter;
    const indices: VReg[] = [];
    let rest = row;
    for (let i = this.schedule.rows.length - 1; i >= 0; i--) {
      const extent = emitter.dim(this.schedule.rows[i]!.extent, root);
      const quotient = i === 0 ? 0 : gp.operate("div", "i64", [rest, extent]);
      indices.unshift(gp.copy(gp.sub(rest, gp.mul(quotient, extent))));
      rest = quotient;
    }
    return indices;
  }

  private nextRow(indices: readonly VReg[], root: Scope): void {
    const { gp, f } = this.emitter;
    const done = f.label("next");
    for (let i = indices.length - 1; i >= 0; i--) {
      f.emit("add", indices[i]!, 1);
      if (i === 0) break;
      gp.compare(indices[i]!, this.emitter.dim(this.schedule.rows[i]!.extent, root));
      f.jump("l", done);
      gp.assign(indices[i]!, 0);
    }
    f.bind(done);
  }

  private row(indices: readonly VReg[], root: Scope, from?: Gp, to?: Gp): void {
    let scope = root;
    this.schedule.rows.forEach((axis, i) => { scope = this.emitter.axisScope(scope, axis, indices[i]!); });
    this.hoist(scope);
    this.middle(this.schedule.middle, scope, from, to);
  }

  private middle(axes: readonly Axis[], scope: Scope, from?: Gp, to?: Gp): void {
    const [axis, ...rest] = axes;
    if (!axis) return this.lanes(scope, from, to);
    const { emitter } = this;
    const end = emitter.dim(axis.extent, scope);
    if (axis === this.schedule.transposed?.axis) return this.transposedTiles(axis, end, scope, from, to);
    emitter.f.loop(0, end, 1, (index) => {
      const inner = emitter.axisScope(scope, axis, index);
      this.hoist(inner);
      this.middle(rest, inner, from, to);
    });
  }

  /** Square tiles through registers; what is left at either edge goes element by element. */
  private transposedTiles(axis: Axis, end: Gp, scope: Scope, from: Gp = 0, to?: Gp): void {
    const { emitter } = this;
    const { f, gp } = emitter;
    const size = emitter.lanes.count;
    const lane = this.schedule.lane!;
    const laneEnd = to ?? emitter.dim(lane.extent, scope);
    // Chunks start at whole vectors.
    const whole = (extent: Gp): Gp => (typeof extent === "number" ? extent - (extent % size) : gp.operate("and", "i64", [extent, -size]));
    const columns = whole(end);
    const full = whole(laneEnd);
    f.loop(0, columns, size, (column) => {
      const outer = emitter.axisScope(scope, axis, column);
      this.hoist(outer, true);
      f.loop(from, full, size, (start) => this.transposedTile(axis, column, lane, start, outer));
      if (typeof laneEnd === "number" && laneEnd === full) return;
      f.loop(0, size, 1, (step) => this.lanes(emitter.axisScope(scope, axis, gp.add(column, step)), full, laneEnd));
    });
    if (typeof end === "number" && end === columns) return;
    f.loop(columns, end, 1, (column) => this.lanes(emitter.axisScope(scope, axis, column), from, laneEnd));
  }

  private transposedTile(axis: Axis, column: Gp, lane: Axis, start: Gp, scope: Scope): void {
    const { emitter } = this;
    const size = emitter.lanes.count;
    const { load } = this.schedule.transposed!;
    const from = emitter.axisScope(scope, lane, start);
    emitter.hoist(load, from, axis, true);
    const rows = Array.from({ length: size }, (_, r) => {
      const row = emitter.axisScope(from, lane, start, r);
      return emitter.value(load, emitter.vectorScope(row, { axis, index: column, offset: 0 }))[0]!;
    });
    transposeTile(emitter.lanes, rows).forEach((values, i) => {
      const inner = emitter.vectorScope(emitter.axisScope(scope, axis, column, i), { axis: lane, index: start, offset: 0 });
      emitter.provide(load, inner, [values]);
      this.stores(inner);
    });
  }

  private lanes(scope: Scope, from: Gp = 0, to?: Gp): void {
    const { emitter, schedule } = this;
    const { lane } = schedule;
    if (!lane) return this.stores(scope);
    const end = to ?? emitter.dim(lane.extent, scope);
    emitter.vectorLoop(end, 1, (index, count, mask) => {
      for (let u = 0; u < count; u++) this.inside(schedule.inside, emitter.vectorScope(scope, { axis: lane, index, offset: u * emitter.lanes.count, mask }));
    }, from);
  }

  /** Loops inside one vector, around which the vector's own reductions are kept. */
  private inside(axes: readonly Axis[], scope: Scope): void {
    const [axis, ...rest] = axes;
    if (!axis) return this.stores(scope);
    const { emitter } = this;
    for (const { value } of this.kernel.outputs) emitter.hoist(value, scope);
    emitter.f.loop(0, emitter.dim(axis.extent, scope), 1, (index) => this.inside(rest, emitter.axisScope(scope, axis, index)));
  }

  private stores(scope: Scope): void {
    const values: readonly { buffer: Buffer; offset: Expr; value: Expr }[] = this.kernel.outputs;
    for (const { value } of values) this.emitter.value(value, scope);
    for (const { buffer, offset, value } of values) this.emitter.store(buffer, offset, value, scope);
  }
}
