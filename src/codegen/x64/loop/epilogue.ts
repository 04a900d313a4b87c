/**
 * Expressions after a contraction: bias, residual, scale, activation, applied to accumulators on their way to memory.
 *
 * A contraction holds row segments of its result in vector registers, lanes along the last output axis. It makes one
 * `EpilogueEmitter` per kernel and calls, where the code of a row goes:
 *
 *   const epilogue = new EpilogueEmitter(f, kernel.epilogue, paramTable, f.params[0]);
 *   epilogue.begin();                       // once, before the loops: base addresses, scalars
 *   const row = epilogue.row(outer);        // per row: `outer` holds the indices of all axes but the last (registers or numbers)
 *   result = row.apply(acc, column, 16, tail); // per vector of the row: lane 0 is column + 16
 *
 * `row` computes one pointer per loaded tensor, so bias and residual cost one unit-stride load per vector; values that
 * do not depend on the column are broadcast once per row, those that depend on no axis once per kernel. What `begin`
 * and `row` emit must dominate the calls that follow; handle one row after the other to keep few registers alive.
 * `apply` never changes `acc` and reads no element of a lane outside `tail`. Storing is the caller's work.
 */
import type { Epilogue, ScalarType } from "../../../ir/index.ts";
import type { FunctionBuilder, VReg } from "../function.ts";
import { ExprEmitter, type Scope } from "./emitter.ts";
import { flattenExpr } from "../../flatten.ts";
import type { ParamTable } from "./params.ts";

/** Lanes of a type, as many registers as it takes. */
export interface EpilogueResult {
  readonly type: ScalarType;
  readonly value: readonly VReg[];
}

export class EpilogueRow {
  private readonly emitter: ExprEmitter;
  private readonly scope: Scope;
  private readonly epilogue: Epilogue;

  constructor(emitter: ExprEmitter, scope: Scope, epilogue: Epilogue) {
    this.emitter = emitter;
    this.scope = scope;
    this.epilogue = epilogue;
  }

  /**
   * @param accumulator lanes of the contraction's result, f32 or i32 as the expression says
   * @param column gp register (or number): index along the last axis that lane `-offset` would have
   * @param offset added to `column`, a number known now
   * @param tail mask of the lanes that exist; absent when all do
   */
  apply(accumulator: VReg, column: VReg | number, offset = 0, tail?: VReg): EpilogueResult {
    const { value } = this.epilogue;
    return { type: value.type, value: this.emitter.value(value, this.#vector(accumulator, column, offset, tail)) };
  }

  /** The same, converted to f32 lanes. */
  floats(accumulator: VReg, column: VReg | number, offset = 0, tail?: VReg): VReg {
    return this.emitter.emitFloats(this.epilogue.value, this.#vector(accumulator, column, offset, tail));
  }

  #vector(accumulator: VReg, column: VReg | number, offset: number, tail: VReg | undefined): Scope {
    const axis = this.epilogue.axes[this.epilogue.axes.length - 1]!;
    return { ...this.emitter.vectorScope(this.scope, { axis, index: column, offset, mask: tail }), accumulator };
  }
}

export class EpilogueEmitter {
  private readonly emitter: ExprEmitter;
  private readonly epilogue: Epilogue;
  private root: Scope;

  /** @param params gp register with the address of the parameter block */
  constructor(f: FunctionBuilder, epilogue: Epilogue, table: ParamTable, params: VReg) {
    const { expr, safe } = flattenExpr(epilogue.value);
    this.emitter = new ExprEmitter(f, table, params, safe);
    this.epilogue = { axes: epilogue.axes, value: expr };
    this.root = this.emitter.rootScope();
  }

  /** Emits what no axis decides. */
  begin(): void {
    this.root = this.emitter.rootScope();
    this.emitter.hoist(this.epilogue.value, this.root);
  }

  /**
   * Fetches what `rows` rows, neighbours along the last of the outer axes, will read at `vectors` vectors from `column` on.
   * Made before the sums are, so that they hide the way from memory. It may come before `begin`.
   */
  fetch(outer: readonly (VReg | number)[], rows: number, column: VReg | number, vectors: number): void {
    const { axes, value } = this.epilogue;
    let scope = this.emitter.rootScope();
    outer.forEach((index, i) => { scope = this.emitter.axisScope(scope, axes[i]!, index); });
    const lanes = this.emitter.vectorScope(scope, { axis: axes[axes.length - 1]!, index: column, offset: 0 });
    this.emitter.fetch(value, lanes, axes[outer.length - 1]!, rows, vectors);
  }

  /** Emits what the row decides. */
  row(outer: readonly (VReg | number)[]): EpilogueRow {
    let scope = this.root;
    outer.forEach((index, i) => { scope = this.emitter.axisScope(scope, this.epilogue.axes[i]!, index); });
    this.emitter.hoist(this.epilogue.value, scope, this.epilogue.axes[this.epilogue.axes.length - 1]);
    return new EpilogueRow(this.emitter, scope, this.epilogue);
  }
}
