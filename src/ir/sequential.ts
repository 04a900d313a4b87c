/**
 * The sequential IR: kernels whose steps depend on what came before, which expressions without state cannot say: sorting,
 * greedy selection, running sums, scattered writes.
 *
 * A kernel is a body of statements over scalar variables, run once for each tile; tiles are independent and may run in
 * any order on any thread. All integers are i64 and must not overflow; floats are f32. Elements are named by their
 * row-major position in a buffer without gaps. A body must not read or write outside its buffers, whatever the data are.
 */
import type { Dim } from "./dim.ts";
import type { Buffer } from "./loop.ts";

export type SequentialType = "i64" | "f32";

export interface Variable {
  readonly name: string;
  readonly type: SequentialType;
}

/** Closed set. Division truncates; the divisor must not be 0. min and max of floats give `b` when either is NaN. */
export type SequentialOp = "add" | "sub" | "mul" | "div" | "rem" | "min" | "max";
export type Comparison = "lt" | "le" | "gt" | "ge" | "eq" | "ne";

export type SequentialExpr =
  | { readonly kind: "number"; readonly type: SequentialType; readonly value: number }
  | { readonly kind: "size"; readonly type: "i64"; readonly value: Dim }
  /** The number of the tile that is being done. */
  | { readonly kind: "tile"; readonly type: "i64" }
  | { readonly kind: "variable"; readonly type: SequentialType; readonly variable: Variable }
  | { readonly kind: "element"; readonly type: SequentialType; readonly buffer: Buffer; readonly at: SequentialExpr }
  | { readonly kind: "binary"; readonly type: SequentialType; readonly op: SequentialOp; readonly a: SequentialExpr; readonly b: SequentialExpr };

/** Of floats: false when either is NaN, but for "ne". `all` stops at the first that does not hold. */
export type SequentialCondition =
  | { readonly kind: "compare"; readonly compare: Comparison; readonly a: SequentialExpr; readonly b: SequentialExpr }
  | { readonly kind: "all"; readonly conditions: readonly SequentialCondition[] };

export type Statement =
  | { readonly kind: "set"; readonly variable: Variable; readonly value: SequentialExpr }
  | { readonly kind: "store"; readonly buffer: Buffer; readonly at: SequentialExpr; readonly value: SequentialExpr }
  | { readonly kind: "if"; readonly condition: SequentialCondition; readonly then: readonly Statement[]; readonly otherwise: readonly Statement[] }
  | { readonly kind: "while"; readonly condition: SequentialCondition; readonly body: readonly Statement[] };

export interface SequentialKernel {
  readonly kind: "sequential";
  readonly name: string;
  readonly tiles: Dim;
  readonly body: readonly Statement[];
  /** Buffers that the body writes. */
  readonly outputs: readonly Buffer[];
  /** Rough count of operations, for profiles and for deciding where a run happens. */
  readonly work: Dim;
}

/** The type in which elements of a buffer are computed; undefined for those that have none here. */
export function sequentialTypeOf(dtype: Buffer["dtype"]): SequentialType | undefined {
  switch (dtype) {
    case "float32": return "f32";
    case "int64": case "int32": case "int16": case "int8": case "uint32": case "uint16": case "uint8": case "bool": return "i64";
    default: return undefined;
  }
}

type Operand = SequentialExpr | Variable | number;

const asExpr = (operand: Operand, type: SequentialType = "i64"): SequentialExpr => {
  if (typeof operand === "number") return { kind: "number", type, value: operand };
  return "kind" in operand ? operand : { kind: "variable", type: operand.type, variable: operand };
};

const typeOf = (...operands: readonly Operand[]): SequentialType => operands.find((operand): operand is SequentialExpr | Variable => typeof operand !== "number")?.type ?? "i64";

const binary = (op: SequentialOp) => (a: Operand, b: Operand): SequentialExpr => {
  const type = typeOf(a, b);
  return { kind: "binary", type, op, a: asExpr(a, type), b: asExpr(b, type) };
};

const compare = (comparison: Comparison) => (a: Operand, b: Operand): SequentialCondition => {
  const type = typeOf(a, b);
  return { kind: "compare", compare: comparison, a: asExpr(a, type), b: asExpr(b, type) };
};

/** Expressions and conditions in short. A number takes the type of the other operand. */
export const seq = {
  add: binary("add"), sub: binary("sub"), mul: binary("mul"), div: binary("div"), rem: binary("rem"), min: binary("min"), max: binary("max"),
  lt: compare("lt"), le: compare("le"), gt: compare("gt"), ge: compare("ge"), eq: compare("eq"), ne: compare("ne"),
  all: (...conditions: readonly SequentialCondition[]): SequentialCondition => ({ kind: "all", conditions }),
  size: (value: Dim): SequentialExpr => ({ kind: "size", type: "i64", value }),
  number: (type: SequentialType, value: number): SequentialExpr => ({ kind: "number", type, value }),
  tile: { kind: "tile", type: "i64" } as const satisfies SequentialExpr,
  at: (buffer: Buffer, at: Operand): SequentialExpr => ({ kind: "element", type: sequentialTypeOf(buffer.dtype) ?? "i64", buffer, at: asExpr(at) }),
};

/** Collects statements in order. */
export class SequentialCode {
  readonly statements: Statement[] = [];
  private into: Statement[] = this.statements;
  private variables = 0;

  /** A new variable with its first value. */
  let(name: string, value: Operand, type: SequentialType = typeOf(value)): Variable {
    const variable: Variable = { name: `${name}${this.variables++}`, type };
    this.set(variable, value);
    return variable;
  }

  set(variable: Variable, value: Operand): void {
    this.into.push({ kind: "set", variable, value: asExpr(value, variable.type) });
  }

  store(buffer: Buffer, at: Operand, value: Operand): void {
    this.into.push({ kind: "store", buffer, at: asExpr(at), value: asExpr(value, sequentialTypeOf(buffer.dtype) ?? "i64") });
  }

  if(condition: SequentialCondition, then: () => void, otherwise: () => void = () => undefined): void {
    this.into.push({ kind: "if", condition, then: this.block(then), otherwise: this.block(otherwise) });
  }

  while(condition: SequentialCondition, body: () => void): void {
    this.into.push({ kind: "while", condition, body: this.block(body) });
  }

  /** Counts from `from` up to below `to`, which is evaluated once. */
  for(from: Operand, to: Operand, body: (index: Variable) => void): void {
    const index = this.let("i", from);
    const end = typeof to === "number" ? to : this.let("end", to);
    this.while(seq.lt(index, end), () => {
      body(index);
      this.set(index, seq.add(index, 1));
    });
  }

  private block(fill: () => void): Statement[] {
    const outer = this.into;
    const inner: Statement[] = [];
    this.into = inner;
    fill();
    this.into = outer;
    return inner;
  }
}

/** Every expression of the body, those inside others included. */
export function visitStatements(statements: readonly Statement[], visit: (expr: SequentialExpr) => void): void {
  const expression = (expr: SequentialExpr): void => {
    visit(expr);
    if (expr.kind === "element") expression(expr.at);
    if (expr.kind === "binary") [expr.a, expr.b].forEach(expression);
  };
  const condition = (item: SequentialCondition): void => {
    if (item.kind === "all") item.conditions.forEach(condition);
    else [item.a, item.b].forEach(expression);
  };
  for (const statement of statements) {
    switch (statement.kind) {
      case "set": expression(statement.value); break;
      case "store": [statement.at, statement.value].forEach(expression); break;
      case "if":
        condition(statement.condition);
        visitStatements(statement.then, visit);
        visitStatements(statement.otherwise, visit);
        break;
      case "while":
        condition(statement.condition);
        visitStatements(statement.body, visit);
        break;
    }
  }
}

/** The buffers that a kernel reads or writes. */
export function sequentialBuffers(kernel: SequentialKernel): Set<Buffer> {
  const buffers = new Set<Buffer>(kernel.outputs);
  visitStatements(kernel.body, (expr) => { if (expr.kind === "element") buffers.add(expr.buffer); });
  return buffers;
}
