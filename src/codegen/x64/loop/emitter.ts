/**
 * Emits loop expressions.
 *
 * A value that varies with no lane and is an integer or a boolean lives in a general register; everything else lives
 * in vectors (see `Lanes`), where a value that varies with no lane is the same in all of them. Addresses are built
 * from the outside in: each scope adds the terms of the axes that it binds, so that the innermost loop adds only its own.
 * `hoist` emits, on entering a scope, what needs no axis of the scopes inside it.
 */
import { assert } from "../../../base/index.ts";
import { type FunctionBuilder, type Mem, mem, type VReg } from "../function.ts";
import { GpCode } from "./gp.ts";
import { type Affine, affineOf, type Axis, type Buffer, type Dim, dimKey, dimMul, type Expr, freeAxes, type ReduceOp, childrenOf, castTo, constant } from "../../loop-ir.ts";
import { Lanes, type Vector } from "./lanes.ts";
import { Reducer } from "./reducer.ts";
import type { ParamTable } from "./params.ts";
import { type AxisIndex, chainOf, childScope, containsReduce, ExprKeys, findScalar, findVector, type Gp, indexOf, isBound, isUniform, type Scope, type VectorContext } from "./scope.ts";
import { elementBytes } from "./storage.ts";

export type { Scope } from "./scope.ts";

const CACHE_LINE_BYTES = 64;

type LoadExpr = Extract<Expr, { kind: "load" }>;
type SelectExpr = Extract<Expr, { kind: "select" }>;

/** Position of a load or store, taken apart: what goes into the address register, and what varies with lanes. */
interface Position {
  /** Terms that are the same in all lanes. */
  readonly uniform: Affine;
  /** Elements between neighbouring lanes from the vector axis itself. */
  readonly laneStride: Dim;
  /** Other terms that vary with lanes. */
  readonly varying: Affine;
}

export class ExprEmitter {
  readonly f: FunctionBuilder;
  readonly lanes: Lanes;
  readonly gp: GpCode;
  readonly keys = new ExprKeys();
  private readonly table: ParamTable;
  private readonly params: VReg;
  /** Loads that may be done whatever guards them. */
  private readonly safe: Set<Expr>;
  private readonly marked = new Set<Expr>();
  private readonly reducer: Reducer;

  constructor(f: FunctionBuilder, table: ParamTable, params: VReg, safe: ReadonlySet<Expr> = new Set()) {
    this.f = f;
    this.lanes = new Lanes(f);
    this.gp = new GpCode(f);
    this.table = table;
    this.params = params;
    this.safe = new Set(safe);
    this.reducer = new Reducer(this);
  }

  rootScope(): Scope {
    return childScope(undefined);
  }

  axisScope(parent: Scope, axis: Axis, index: Gp, offset = 0): Scope {
    return childScope(parent, { axis, index, offset });
  }

  vectorScope(parent: Scope, vector: VectorContext): Scope {
    return childScope(parent, { axis: vector.axis, index: vector.index, vector });
  }

  emitFloats(expr: Expr, scope: Scope): VReg {
    return this.value(castTo("f32", expr), scope)[0]!;
  }

  /** A size as a number or a register. */
  dim(value: Dim, scope: Scope): Gp {
    if (typeof value === "number") return value;
    const key = `dim ${dimKey(value)}`;
    const known = findScalar(scope, key);
    if (known !== undefined) return known;
    const register = this.f.gp("dim");
    this.f.emit("mov", register, mem(this.params, { disp: this.table.dim(value) }));
    scope.scalars.set(key, register);
    return register;
  }

  // ---- hoisting

  /**
   * Emits in `scope` what inner scopes will need and no axis of theirs decides. `inner` is the axis of lanes to come.
   * With `addressesOnly`, no values: for scopes inside which an axis takes several offsets.
   */
  hoist(expr: Expr, scope: Scope, inner?: Axis, addressesOnly = false): void {
    const seen = new Set<Expr>();
    const visit = (e: Expr, guarded: boolean): void => {
      if (seen.has(e)) return;
      seen.add(e);
      if (e.kind === "const" || e.kind === "axis" || e.kind === "dim" || e.kind === "accumulator") return;
      if (!addressesOnly && this.isHoistable(e, scope, guarded)) { this.emitHoisted(e, scope); return; }
      if (e.kind === "load") this.prepareAddress(e, scope, inner);
      if (e.kind === "select") {
        visit(e.condition, guarded);
        visit(e.then, true);
        visit(e.else, true);
      } else childrenOf(e).forEach((child) => visit(child, guarded));
    };
    visit(expr, false);
  }

  private isHoistable(expr: Expr, scope: Scope, guarded: boolean): boolean {
    if (!isUniform(expr, { ...scope, vector: undefined })) return false;
    for (const axis of freeAxes(expr)) if (!isBound(scope, axis)) return false;
    // What varies with lanes is kept for the loops inside only when it is dear.
    if (scope.vector && freeAxes(expr).has(scope.vector.axis) && !containsReduce(expr)) return false;
    if (isIndexArithmetic(expr)) return false;
    return !guarded || this.isSafe(expr);
  }

  private emitHoisted(expr: Expr, scope: Scope): void {
    if (this.isScalar(expr)) this.scalar(expr, scope);
    else this.value(expr, scope);
  }

  /** All loads of the expression may be done without their guard. */
  isSafe(expr: Expr): boolean {
    if (expr.kind === "load" && !this.safe.has(expr)) return false;
    return childrenOf(expr).every((child) => this.isSafe(child));
  }

  // ---- addresses

  private take(expr: Expr, lane: Axis | undefined, isGuarded = false): Position {
    const affine = affineOf(expr);
    const uniform: { atom: Expr; coefficient: Dim }[] = [];
    const varying: { atom: Expr; coefficient: Dim }[] = [];
    let laneStride: Dim = 0;
    for (const term of affine.terms) {
      if (lane && term.atom.kind === "axis" && term.atom.axis === lane) laneStride = term.coefficient;
      else if (lane && (freeAxes(term.atom).has(lane) || (isGuarded && !this.isSafe(term.atom)))) varying.push(term);
      else uniform.push(term);
    }
    return { uniform: { terms: uniform, constant: affine.constant }, laneStride, varying: { terms: varying, constant: 0 } };
  }

  private prepareAddress(load: LoadExpr, scope: Scope, inner: Axis | undefined): void {
    const { uniform } = this.take(load.index[0]!, inner);
    const bound = uniform.terms.filter(({ atom }) => atom.kind === "axis" && isBound(scope, atom.axis));
    this.address(load.buffer, { terms: bound, constant: typeof uniform.constant === "number" ? 0 : uniform.constant }, scope);
  }

  /** A register with the address of the element at the affine position; a constant part stays for the displacement. */
  private address(buffer: Buffer, affine: Affine, scope: Scope): { base: VReg; displacement: number } {
    const size = elementBytes(buffer.dtype);
    let base = this.pointer(buffer, scope);
    let key = `at ${this.keys.objectKey(buffer)}`;
    let displacement = 0;
    if (typeof affine.constant === "number") displacement = affine.constant * size;
    else ({ base, key } = this.advance(base, key, undefined, affine.constant, size, scope));
    const chain = chainOf(scope);
    const depth = (atom: Expr): number => (atom.kind === "axis" ? chain.findIndex((s) => s.axis === atom.axis) : chain.length + this.keys.objectKey(atom));
    const ordered = [...affine.terms].sort((a, b) => depth(a.atom) - depth(b.atom) || (this.keys.keyOf(a.atom) < this.keys.keyOf(b.atom) ? -1 : 1));
    for (const { atom, coefficient } of ordered) {
      const { index, offset } = this.uniformIndex(atom, scope);
      if (typeof index === "number" && typeof coefficient === "number") displacement += index * coefficient * size;
      else ({ base, key } = this.advance(base, key, atom, coefficient, size, scope));
      if (typeof coefficient === "number") displacement += offset * coefficient * size;
      else if (offset !== 0) ({ base, key } = this.advance(base, key, undefined, dimMul(coefficient, offset), size, scope));
    }
    if (Math.abs(displacement) < 2 ** 30) return { base, displacement };
    return { base: this.gp.toRegister(this.gp.add(base, displacement)), displacement: 0 };
  }

  private uniformIndex(atom: Expr, scope: Scope): AxisIndex {
    const found = atom.kind === "axis" ? indexOf(scope, atom.axis) : undefined;
    return found ?? { index: this.scalar(atom, scope), offset: 0 };
  }

  /** base + atom * coefficient * size, remembered under its key. */
  private advance(base: VReg, key: string, atom: Expr | undefined, coefficient: Dim, size: number, scope: Scope): { base: VReg; key: string } {
    const next = `${key} + ${atom ? this.keys.keyOf(atom) : 1}*${dimKey(coefficient)}`;
    const known = findScalar(scope, next);
    if (known !== undefined) return { base: known as VReg, key: next };
    const scale = this.dim(coefficient, scope);
    const elements = atom ? this.gp.mul(this.uniformIndex(atom, scope).index, scale) : scale;
    const made = this.gp.addScaled(base, elements, size);
    scope.scalars.set(next, made);
    return { base: made, key: next };
  }

  private pointer(buffer: Buffer, scope: Scope): VReg {
    const key = `pointer ${this.keys.objectKey(buffer)}`;
    const known = findScalar(scope, key);
    if (known !== undefined) return known as VReg;
    const register = this.f.gp(buffer.name);
    this.f.emit("mov", register, mem(this.params, { disp: this.table.pointer(buffer) }));
    scope.scalars.set(key, register);
    return register;
  }

  /** Memory operand of a uniform position. */
  private uniformMem(buffer: Buffer, position: Expr, scope: Scope): Mem {
    const { uniform } = this.take(position, undefined);
    const { base, displacement } = this.address(buffer, uniform, scope);
    return mem(base, { disp: displacement });
  }

  // ---- scalars

  /** Integers and booleans that need no vector register on the way. */
  isScalar(expr: Expr): boolean {
    if (expr.type === "f32" || expr.type === "f64") return false;
    switch (expr.kind) {
      case "const": case "dim": case "axis": case "load": return true;
      case "reduce": case "accumulator": return false;
      case "cast": return this.isScalar(expr.arg);
      case "select": return this.isScalar(expr.condition) && this.isScalar(expr.then) && this.isScalar(expr.else) && this.isSafe(expr);
      case "op": return GpCode.has(expr.op, expr.type) && expr.args.every((arg) => this.isScalar(arg));
    }
  }

  /** The value of a uniform integer or boolean: i32 sign-extended, u32 zero-extended, bool 0 or 1. */
  scalar(expr: Expr, scope: Scope): Gp {
    if (expr.kind === "axis") {
      const found = indexOf(scope, expr.axis);
      assert(found, `axis ${expr.axis.name} is not bound`);
      return this.gp.add(found.index, found.offset);
    }
    if (expr.kind === "dim") return this.dim(expr.value, scope);
    if (expr.kind === "const") return this.gp.constant(expr.value);
    const key = `s${this.keys.keyOf(expr)}`;
    const known = findScalar(scope, key);
    if (known !== undefined) return known;
    const made = this.makeScalar(expr, scope);
    scope.scalars.set(key, made);
    return made;
  }

  private makeScalar(expr: Expr, scope: Scope): Gp {
    if (!this.isScalar(expr)) return this.lanes.firstToGp(expr.type, this.value(expr, { ...childScope(scope), vector: undefined }));
    switch (expr.kind) {
      case "load": return this.gp.load(expr.buffer.dtype, this.uniformMem(expr.buffer, expr.index[0]!, scope));
      case "op": return this.gp.operate(expr.op, expr.args[0]!.type, expr.args.map((arg) => this.scalar(arg, scope)));
      case "cast": return this.gp.cast(expr.arg.type, expr.type, this.scalar(expr.arg, scope));
      case "select": return this.gp.select(this.scalar(expr.condition, scope), this.scalar(expr.then, scope), this.scalar(expr.else, scope));
      default: throw new Error(`Bug in sinter: scalar ${expr.kind}`);
    }
  }

  // ---- vectors

  /** The value in vectors: one register, two for 64-bit types, a mask for bool. */
  value(expr: Expr, scope: Scope): Vector {
    if (expr.kind === "accumulator") {
      assert(scope.accumulator, "accumulator outside an epilogue");
      return [scope.accumulator];
    }
    const key = `v${this.keys.keyOf(expr)}`;
    const known = findVector(scope, key);
    if (known) return known;
    const made = this.makeValue(expr, scope);
    scope.vectors.set(key, made);
    return made;
  }

  private makeValue(expr: Expr, scope: Scope): Vector {
    const uniform = isUniform(expr, scope);
    const isGuarded = scope.vector?.isGuarded === true && !this.isSafe(expr);
    if (uniform && !isGuarded && expr.kind !== "const" && this.isScalar(expr)) return this.lanes.broadcast(expr.type, this.scalar(expr, scope));
    if (expr.type === "i64" && isIndexArithmetic(expr)) return this.lanes.cast("i32", "i64", [this.index(expr, scope)]);
    switch (expr.kind) {
      case "const": return this.lanes.splat(expr.type, expr.value);
      case "load": return this.load(expr, scope);
      case "op": return this.operation(expr, scope);
      case "cast": return this.cast(expr, scope);
      case "select": return this.select(expr, scope);
      case "reduce": return this.reducer.reduce(expr, scope);
      default: throw new Error(`Bug in sinter: vector ${expr.kind}`);
    }
  }

  private cast(expr: Extract<Expr, { kind: "cast" }>, scope: Scope): Vector {
    if (expr.arg.type === "i64" && isIndexArithmetic(expr.arg)) return this.lanes.cast("i32", expr.type, [this.index(expr.arg, scope)]);
    return this.lanes.cast(expr.arg.type, expr.type, this.value(expr.arg, scope));
  }

  private operation(expr: Extract<Expr, { kind: "op" }>, scope: Scope): Vector {
    const [a, b] = expr.args;
    if (expr.type === "bool" && a!.type === "i64" && b && isIndexArithmetic(a!) && isIndexArithmetic(b)) {
      return this.lanes.operate(expr.op, "i32", [[this.index(a!, scope)], [this.index(b, scope)]]);
    }
    const divisor = expr.op === "div" ? divisorInRange(a!, b!) : undefined;
    if (divisor !== undefined) return [this.lanes.math.quotient(this.value(a!, scope)[0]!, divisor)];
    return this.lanes.operate(expr.op, a!.type, expr.args.map((arg) => this.value(arg, scope)), b?.kind === "const" && !Number.isNaN(Number(b.value)));
  }

  private select(expr: SelectExpr, scope: Scope): Vector {
    if (isUniform(expr.condition, scope) && this.isScalar(expr.condition) && !(this.isSafe(expr.then) && this.isSafe(expr.else) && isCheap(expr.then) && isCheap(expr.else))) {
      return this.branch(expr, scope);
    }
    const condition = this.value(expr.condition, scope)[0]!;
    const part = (branch: Expr, isThen: boolean): Vector => {
      if (this.isSafe(branch)) return this.value(branch, scope);
      const active = isThen ? this.lanes.both(condition, scope.vector?.mask) : this.lanes.butNot(scope.vector?.mask, condition);
      const vector = scope.vector ? { ...scope.vector, mask: active, isGuarded: true } : undefined;
      if (!vector) return this.branchVector(branch, condition, isThen, scope);
      return this.value(branch, childScope(scope, { vector }));
    };
    return this.lanes.blend(expr.type, condition, part(expr.then, true), part(expr.else, false));
  }

  /** A condition in a mask that is the same in all lanes guards uniform loads. */
  private branchVector(branch: Expr, condition: VReg, isThen: boolean, scope: Scope): Vector {
    const result = this.lanes.fresh(branch.type);
    this.lanes.assign(branch.type, result, this.lanes.splat(branch.type, 0));
    this.gp.test(this.lanes.firstToGp("bool", [condition]));
    this.f.ifElse(isThen ? "ne" : "e", () => this.lanes.assign(branch.type, result, this.value(branch, childScope(scope))));
    return result;
  }

  /** A uniform condition: code of one branch runs. */
  private branch(expr: SelectExpr, scope: Scope): Vector {
    const result = this.lanes.fresh(expr.type);
    this.gp.test(this.scalar(expr.condition, scope));
    this.f.ifElse("ne",
      () => this.lanes.assign(expr.type, result, this.value(expr.then, childScope(scope))),
      () => this.lanes.assign(expr.type, result, this.value(expr.else, childScope(scope))));
    return result;
  }

  private load(expr: LoadExpr, scope: Scope): Vector {
    const { vector } = scope;
    const { buffer } = expr;
    const mustGuard = vector?.isGuarded === true && !this.isSafe(expr);
    if (!vector || (isUniform(expr, scope) && !mustGuard)) return this.lanes.loadBroadcast(buffer.dtype, this.uniformMem(buffer, expr.index[0]!, scope));
    const { mask } = vector;
    const { place, stride } = this.lanePosition(buffer, expr.index[0]!, scope, vector);
    if (stride === 1) return this.lanes.load(buffer.dtype, place, mask);
    return this.lanes.gather(buffer.dtype, place, stride as VReg, mask);
  }

  /**
   * Fetches into the caches what loads will read for `count` indices of an axis, from its index on, and `vectors` vectors from
   * the scope's lanes on. Loads that are the same for all those indices are left out, as are those whose place the data decide.
   */
  fetch(expr: Expr, scope: Scope, axis: Axis, count: number, vectors: number, seen = new Set<Expr>()): void {
    if (seen.has(expr)) return;
    seen.add(expr);
    if (expr.kind !== "load") {
      for (const child of childrenOf(expr)) this.fetch(child, scope, axis, count, vectors, seen);
      return;
    }
    const { vector } = scope;
    const { uniform, laneStride, varying } = this.take(expr.index[0]!, vector!.axis);
    const step = uniform.terms.find(({ atom }) => atom.kind === "axis" && atom.axis === axis)?.coefficient;
    if (typeof step !== "number" || laneStride !== 1 || varying.terms.length > 0 || !uniform.terms.every(({ atom }) => atom.kind === "axis")) return;
    const { place } = this.lanePosition(expr.buffer, expr.index[0]!, scope, vector!);
    const size = elementBytes(expr.buffer.dtype);
    for (let i = 0; i < count; i++) {
      for (let bytes = 0; bytes < vectors * this.lanes.count * size; bytes += CACHE_LINE_BYTES) this.f.emit("prefetcht0", { ...place, disp: (place.disp ?? 0) + i * step * size + bytes });
    }
  }

  store(buffer: Buffer, position: Expr, expr: Expr, scope: Scope): void {
    const { vector } = scope;
    const value = this.value(expr, scope);
    if (!vector) return this.lanes.storeFirst(buffer.dtype, this.uniformMem(buffer, position, scope), expr.type, value);
    const { place, stride } = this.lanePosition(buffer, position, scope, vector);
    if (stride === 1) this.lanes.store(buffer.dtype, place, expr.type, value, vector.mask);
    else this.lanes.scatter(buffer.dtype, place, stride as VReg, expr.type, value, vector.mask);
  }

  /** Where lane 0 lies, and either stride 1 or a register of i32 element offsets per lane. */
  private lanePosition(buffer: Buffer, position: Expr, scope: Scope, vector: VectorContext): { place: Mem; stride: 1 | VReg } {
    const size = elementBytes(buffer.dtype);
    const { uniform, laneStride, varying } = this.take(position, vector.axis, vector.isGuarded);
    const { base, displacement } = this.address(buffer, uniform, scope);
    if (varying.terms.length === 0 && laneStride === 1) {
      const disp = displacement + vector.offset * size;
      if (typeof vector.index === "number") return { place: mem(base, { disp: disp + vector.index * size }), stride: 1 };
      return { place: mem(base, { index: vector.index, scale: size as 1 | 2 | 4 | 8, disp }), stride: 1 };
    }
    const start = this.gp.mul(this.gp.add(vector.index, vector.offset), this.dim(laneStride, scope));
    const place = mem(this.gp.toRegister(this.gp.addScaled(base, start, size)), { disp: displacement });
    let offsets = this.strideOffsets(laneStride, scope);
    for (const { atom, coefficient } of varying.terms) {
      const scaled = this.scaleIndex(this.index(atom, scope), coefficient, scope);
      offsets = offsets ? this.lanes.operate("add", "i32", [[offsets], [scaled]])[0]! : scaled;
    }
    return { place, stride: offsets ?? this.lanes.splat("i32", 0)[0]! };
  }

  private scaleIndex(index: VReg, by: Dim, scope: Scope): VReg {
    return by === 1 ? index : this.lanes.operate("mul", "i32", [[index], this.lanes.broadcast("i32", this.dim(by, scope))])[0]!;
  }

  private strideOffsets(stride: Dim, scope: Scope): VReg | undefined {
    if (stride === 0) return undefined;
    const key = `offsets ${dimKey(stride)}`;
    const known = findVector(scope, key);
    if (known) return known[0];
    const made = this.scaleIndex(this.lanes.iota(), stride, scope);
    scope.vectors.set(key, [made]);
    return made;
  }

  /** An index expression as i32 lanes; positions within buffers stay below 2^31 elements. */
  index(expr: Expr, scope: Scope): VReg {
    const key = `i${this.keys.keyOf(expr)}`;
    const known = findVector(scope, key);
    if (known) return known[0]!;
    const made = this.makeIndex(expr, scope);
    scope.vectors.set(key, [made]);
    return made;
  }

  private makeIndex(expr: Expr, scope: Scope): VReg {
    if (isUniform(expr, scope) && !(scope.vector?.isGuarded && !this.isSafe(expr))) return this.lanes.broadcast("i32", this.scalar(expr, scope))[0]!;
    switch (expr.kind) {
      case "axis": {
        const { index, offset } = scope.vector!;
        const first = this.gp.add(index, offset);
        return this.lanes.operate("add", "i32", [[this.lanes.iota()], this.lanes.broadcast("i32", first)])[0]!;
      }
      case "op":
        if (expr.type === "i64" && INDEX_OPS.has(expr.op)) return this.lanes.operate(expr.op, "i32", expr.args.map((arg) => [this.index(arg, scope)]))[0]!;
        break;
      case "cast": return this.lanes.cast(expr.arg.type, "i32", this.value(expr.arg, scope))[0]!;
      case "select":
        if (this.isSafe(expr)) return this.lanes.blend("i32", this.value(expr.condition, scope)[0]!, [this.index(expr.then, scope)], [this.index(expr.else, scope)])[0]!;
        break;
      default: break;
    }
    return this.lanes.cast(expr.type, "i32", this.value(expr, scope))[0]!;
  }

  /** Makes a value that was computed elsewhere known in a scope. */
  provide(expr: Expr, scope: Scope, value: Vector): void {
    scope.vectors.set(`v${this.keys.keyOf(expr)}`, value);
  }

  // ---- loops and reductions

  /**
   * Runs `body` over [0, end) in vectors: blocks of `unroll`, then single vectors, then the rest under a mask.
   * `from` defaults to 0.
   */
  vectorLoop(end: Gp, unroll: number, body: (index: Gp, count: number, mask?: VReg) => void, from: Gp = 0): void {
    const step = this.lanes.count;
    const index = this.f.gp("lane");
    this.gp.assign(index, from);
    const isStatic = typeof end === "number" && from === 0;
    const full = isStatic ? Math.floor(end / step) : Number.POSITIVE_INFINITY;
    if (isStatic && full === 1) body(0, 1);
    else {
      if (unroll > 1 && full >= unroll) this.blocks(index, end, unroll, body);
      if (!isStatic || (unroll > 1 ? full % unroll : full) > 0) this.blocks(index, end, 1, body);
    }
    if (isStatic) {
      if (end % step > 0) body(full * step, 1, this.lanes.tailMask(end % step));
      return;
    }
    const done = this.f.label("done");
    this.gp.compare(index, end);
    this.f.jump("ge", done);
    body(index, 1, this.lanes.tailMask(this.gp.sub(end, index)));
    this.f.bind(done);
  }

  /** Steps `index` by `count` vectors while that many remain. */
  private blocks(index: VReg, end: Gp, count: number, body: (index: Gp, count: number, mask?: VReg) => void): void {
    const step = count * this.lanes.count;
    const top = this.f.label("top");
    const out = this.f.label("out");
    const last = this.gp.sub(end, step);
    this.gp.compare(index, last);
    this.f.jump("g", out);
    this.f.bind(top);
    body(index, count);
    this.f.emit("add", index, step);
    this.gp.compare(index, last);
    this.f.jump("le", top);
    this.f.bind(out);
  }

  /** Loads of `to`, a substituted copy of `from`, are as safe as those of the original. */
  markSafeLike(from: Expr, to: Expr): void {
    if (this.safe.has(from)) this.safe.add(to);
    const a = childrenOf(from);
    const b = childrenOf(to);
    if (from.kind === to.kind && a.length === b.length && !this.marked.has(to)) {
      this.marked.add(to);
      a.forEach((child, i) => this.markSafeLike(child, b[i]!));
    }
  }

  combine(op: ReduceOp, type: Expr["type"], into: Vector, value: Vector): void {
    const name = op === "sum" ? "add" : op === "prod" ? "mul" : op;
    this.lanes.assign(type, into, this.lanes.operate(name, type, [into, value]));
  }

  identity(value: number | bigint, type: Expr["type"]): Vector {
    const made = this.lanes.fresh(type);
    this.lanes.assign(type, made, this.lanes.splat(type, constant(type, value).kind === "const" ? value : 0));
    return made;
  }
}

const INDEX_OPS: ReadonlySet<string> = new Set(["add", "sub", "mul", "min", "max", "div", "mod", "rem"]);

/** Arithmetic on axes, sizes and small constants only; such values fit in 32 bits. */
export function isIndexArithmetic(expr: Expr): boolean {
  if (expr.type !== "i64") return false;
  switch (expr.kind) {
    case "const": return Math.abs(Number(expr.value)) < 2 ** 31;
    case "dim": case "axis": return true;
    case "op": return INDEX_OPS.has(expr.op) && expr.args.every(isIndexArithmetic);
    case "select": return isIndexArithmetic(expr.then) && isIndexArithmetic(expr.else);
    default: return false;
  }
}

/** Quotients below this are exact where rounding to integers is at stake. */
const MOST_QUOTIENT = 2 ** 20;
const LEAST_DIVISOR = 2 ** -100;

/** The number that clamped values are divided by, if multiplications can do it: the quotient is small, and the divisor ordinary. */
function divisorInRange(dividend: Expr, divisor: Expr): number | undefined {
  if (divisor.kind !== "const" || divisor.type !== "f32" || dividend.kind !== "op" || dividend.op !== "max") return undefined;
  const [inner, low] = dividend.args;
  const high = inner?.kind === "op" && inner.op === "min" ? inner.args[1] : undefined;
  if (low?.kind !== "const" || high?.kind !== "const") return undefined;
  const by = Number(divisor.value);
  const isSmall = [low, high].every(({ value }) => Math.abs(Number(value) / by) < MOST_QUOTIENT);
  return by >= LEAST_DIVISOR && by <= 1 / LEAST_DIVISOR && isSmall && !isAllOnes(by) ? by : undefined;
}

/** The mantissas whose reciprocal is too far off for the correction. */
function isAllOnes(value: number): boolean {
  return (new Uint32Array(Float32Array.of(value).buffer)[0]! & 0x7fffff) === 0x7fffff;
}

/** Worth computing on both sides of a condition. */
function isCheap(expr: Expr): boolean {
  let nodes = 0;
  const count = (e: Expr): boolean => e.kind !== "reduce" && ++nodes < 12 && childrenOf(e).every(count);
  return count(expr);
}
