/**
 * From a sequential kernel to machine code: scalars in registers, one pass over the statements. Such kernels are short of
 * arithmetic and long of branches, so nothing is vectorised; what may run side by side are their tiles.
 */
import { assert, DTYPE_BITS } from "../../../base/index.ts";
import { type Buffer, type CompiledKernel, type Comparison, type Dim, add, mul, product, type SequentialCondition, sequentialBuffers, type SequentialExpr, type SequentialKernel, type Statement, type Variable } from "../../../ir/index.ts";
import { type Condition, FunctionBuilder, type Isa, type Label, mem, type Mem, type VReg } from "../function.ts";
import { ParamTable } from "../loop/index.ts";

export function compileSequential(kernel: SequentialKernel, isa: Isa): CompiledKernel {
  const f = new FunctionBuilder(isa, kernel.name, 4);
  const table = new ParamTable();
  const tile = f.gp("tile");
  const writer = new StatementWriter(f, table, tile);
  const [top, done] = [f.label("tile"), f.label("done")];
  f.emit("mov", tile, f.params[1]!);
  f.bind(top);
  f.emit("cmp", tile, f.params[2]!);
  f.jump("ge", done);
  writer.write(kernel.body);
  f.emit("add", tile, 1);
  f.jump("always", top);
  f.bind(done);
  const { code } = f.finish();
  return { name: kernel.name, code, params: table.list, packed: [], tiles: kernel.tiles, scratchBytes: 0, flops: kernel.work, bytes: bytesOf(kernel), tactic: "sequential" };
}

function bytesOf(kernel: SequentialKernel): Dim {
  return [...sequentialBuffers(kernel)].map((buffer) => mul(product(buffer.dims), DTYPE_BITS[buffer.dtype] / 8)).reduce<Dim>((sum, size) => (add(sum, size)), 0);
}

/** Jumps taken when a comparison of integers fails. */
const FAILS: Readonly<Record<Comparison, Condition>> = { lt: "ge", le: "gt", gt: "le", ge: "lt", eq: "ne", ne: "eq" };

class StatementWriter {
  private readonly f: FunctionBuilder;
  private readonly table: ParamTable;
  private readonly tile: VReg;
  private readonly variables = new Map<Variable, VReg>();

  constructor(f: FunctionBuilder, table: ParamTable, tile: VReg) {
    this.f = f;
    this.table = table;
    this.tile = tile;
  }

  write(statements: readonly Statement[]): void {
    for (const statement of statements) this.statement(statement);
  }

  private statement(statement: Statement): void {
    const { f } = this;
    switch (statement.kind) {
      case "set": return this.move(this.register(statement.variable), this.value(statement.value));
      case "store": return this.store(this.place(statement.buffer, statement.at), statement.buffer, this.value(statement.value));
      case "if": {
        const [otherwise, done] = [f.label("else"), f.label("endif")];
        this.jumpUnless(statement.condition, otherwise);
        this.write(statement.then);
        if (statement.otherwise.length > 0) f.jump("always", done);
        f.bind(otherwise);
        this.write(statement.otherwise);
        f.bind(done);
        return;
      }
      case "while": {
        const [top, done] = [f.label("while"), f.label("endwhile")];
        f.bind(top);
        this.jumpUnless(statement.condition, done);
        this.write(statement.body);
        f.jump("always", top);
        f.bind(done);
      }
    }
  }

  private register(variable: Variable): VReg {
    let register = this.variables.get(variable);
    if (!register) this.variables.set(variable, (register = variable.type === "f32" ? this.f.vec(variable.name) : this.f.gp(variable.name)));
    return register;
  }

  private move(to: VReg, from: VReg): void {
    if (to.class === "vec") this.f.emit("vmovaps.x", to, from);
    else this.f.emit("mov", to, from);
  }

  // ---- values: registers that the caller must not change --------------------------------------------------------

  private value(expr: SequentialExpr): VReg {
    switch (expr.kind) {
      case "number": return expr.type === "f32" ? this.float(expr.value) : this.integer(expr.value);
      case "size": return this.param(this.table.dim(expr.value));
      case "tile": return this.tile;
      case "variable": return this.register(expr.variable);
      case "element": return this.load(this.place(expr.buffer, expr.at), expr.buffer);
      case "binary": return expr.type === "f32" ? this.floatBinary(expr) : this.integerBinary(expr);
    }
  }

  private integer(value: number): VReg {
    const register = this.f.gp();
    assert(Number.isSafeInteger(value), `the whole number ${value} in a kernel`);
    if (Math.abs(value) < 2 ** 31) this.f.emit("mov", register, value);
    else this.f.emit("mov", register, this.f.constant(new Uint8Array(BigInt64Array.of(BigInt(value)).buffer), 8));
    return register;
  }

  private float(value: number): VReg {
    const register = this.f.vec();
    this.f.emit("vmovss", register, this.f.constant(new Uint8Array(Float32Array.of(value).buffer), 4));
    return register;
  }

  private param(displacement: number): VReg {
    const register = this.f.gp();
    this.f.emit("mov", register, mem(this.f.params[0]!, { disp: displacement }));
    return register;
  }

  private integerBinary({ op, a, b }: Extract<SequentialExpr, { kind: "binary" }>): VReg {
    const { f } = this;
    const [left, right] = [this.value(a), this.value(b)];
    if (op === "div") return f.divide(left, right).quotient;
    if (op === "rem") return f.divide(left, right).remainder;
    const result = f.gp();
    f.emit("mov", result, left);
    if (op === "min" || op === "max") {
      f.emit("cmp", result, right);
      f.emit(op === "min" ? "cmovgt" : "cmovlt", result, right);
    } else f.emit(op === "mul" ? "imul" : op, result, right);
    return result;
  }

  private floatBinary({ op, a, b }: Extract<SequentialExpr, { kind: "binary" }>): VReg {
    const [left, right] = [this.value(a), this.value(b)];
    const result = this.f.vec();
    assert(op !== "rem", "the remainder of floats in a kernel");
    this.f.emit(`v${op}ss`, result, left, right);
    return result;
  }

  // ---- memory ---------------------------------------------------------------------------------------------------

  private place(buffer: Buffer, at: SequentialExpr): Mem {
    const base = this.param(this.table.pointer(buffer));
    const scale = (DTYPE_BITS[buffer.dtype] / 8) as 1 | 2 | 4 | 8;
    return mem(base, { index: this.value(at), scale });
  }

  private load(place: Mem, buffer: Buffer): VReg {
    const { f } = this;
    const register = buffer.dtype === "float32" ? f.vec() : f.gp();
    f.emit(LOADS[buffer.dtype] ?? "mov", register, place);
    return register;
  }

  private store(place: Mem, buffer: Buffer, value: VReg): void {
    this.f.emit(STORES[DTYPE_BITS[buffer.dtype]]?.[buffer.dtype === "float32" ? 1 : 0] ?? "mov", place, value);
  }

  // ---- conditions -----------------------------------------------------------------------------------------------

  private jumpUnless(condition: SequentialCondition, to: Label): void {
    const { f } = this;
    if (condition.kind === "all") {
      for (const item of condition.conditions) this.jumpUnless(item, to);
      return;
    }
    const [a, b] = [this.value(condition.a), this.value(condition.b)];
    if (condition.a.type === "f32") return this.jumpUnlessFloat(condition.compare, a, b, to);
    f.emit("cmp", a, b);
    f.jump(FAILS[condition.compare], to);
  }

  /** Unordered operands set carry, zero and parity: "below or equal" holds for them, "above" does not. */
  private jumpUnlessFloat(compare: Comparison, a: VReg, b: VReg, to: Label): void {
    const { f } = this;
    const isSwapped = compare === "lt" || compare === "le";
    f.emit("vucomiss", isSwapped ? b : a, isSwapped ? a : b);
    switch (compare) {
      case "lt": case "gt": return f.jump("be", to);
      case "le": case "ge": return f.jump("b", to);
      case "eq":
        f.jump("p", to);
        return f.jump("ne", to);
      case "ne": {
        const holds = f.label("differs");
        f.jump("p", holds);
        f.jump("eq", to);
        return f.bind(holds);
      }
    }
  }
}

const LOADS: Readonly<Partial<Record<Buffer["dtype"], string>>> = {
  float32: "vmovss", int64: "mov", int32: "movsx.d", uint32: "mov.d", int16: "movsx.w", uint16: "movzx.w", int8: "movsx.b", uint8: "movzx.b", bool: "movzx.b",
};

/** By bits: of integers, of floats. */
const STORES: Readonly<Record<number, readonly [string, string]>> = { 64: ["mov", "mov"], 32: ["mov.d", "vmovss"], 16: ["mov.w", "mov.w"], 8: ["mov.b", "mov.b"] };
