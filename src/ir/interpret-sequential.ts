/** Runs sequential kernels statement by statement: the oracle for code generation. float32 results are rounded after each operation. */
import { assert, type NumericArray } from "../base/index.ts";
import { type Bindings, evaluate } from "./dim.ts";
import type { Buffer } from "./loop.ts";
import type { Comparison, SequentialCondition, SequentialExpr, SequentialKernel, SequentialOp, Statement, Variable } from "./sequential.ts";

export interface SequentialMemory {
  readonly bindings: Bindings;
  /** Elements of each buffer; outputs are written in place. */
  readonly arrays: ReadonlyMap<Buffer, NumericArray>;
}

export function interpretSequential(kernel: SequentialKernel, memory: SequentialMemory): void {
  const tiles = evaluate(kernel.tiles, memory.bindings);
  for (let tile = 0; tile < tiles; tile++) new Interpreter(memory, tile).run(kernel.body);
}

const INTEGER: Readonly<Record<SequentialOp, (a: number, b: number) => number>> = {
  add: (a, b) => a + b, sub: (a, b) => a - b, mul: (a, b) => a * b, div: (a, b) => Math.trunc(a / b), rem: (a, b) => a % b,
  min: (a, b) => (a < b ? a : b), max: (a, b) => (a > b ? a : b),
};

const COMPARE: Readonly<Record<Comparison, (a: number, b: number) => boolean>> = {
  lt: (a, b) => a < b, le: (a, b) => a <= b, gt: (a, b) => a > b, ge: (a, b) => a >= b, eq: (a, b) => a === b, ne: (a, b) => a !== b,
};

class Interpreter {
  private readonly memory: SequentialMemory;
  private readonly tile: number;
  private readonly variables = new Map<Variable, number>();

  constructor(memory: SequentialMemory, tile: number) {
    this.memory = memory;
    this.tile = tile;
  }

  run(statements: readonly Statement[]): void {
    for (const statement of statements) {
      switch (statement.kind) {
        case "set": this.variables.set(statement.variable, this.value(statement.value)); break;
        case "store": this.store(statement.buffer, this.value(statement.at), this.value(statement.value)); break;
        case "if": this.run(this.holds(statement.condition) ? statement.then : statement.otherwise); break;
        case "while": while (this.holds(statement.condition)) this.run(statement.body); break;
      }
    }
  }

  private array(buffer: Buffer, at: number): NumericArray {
    const array = this.memory.arrays.get(buffer);
    assert(array && Number.isInteger(at) && at >= 0 && at < array.length, `element ${at} of ${buffer.name}, which has ${array?.length}`);
    return array;
  }

  private store(buffer: Buffer, at: number, value: number): void {
    const array = this.array(buffer, at);
    array[at] = (array instanceof BigInt64Array ? BigInt(value) : value) as never;
  }

  private holds(condition: SequentialCondition): boolean {
    if (condition.kind === "all") return condition.conditions.every((item) => this.holds(item));
    return COMPARE[condition.compare](this.value(condition.a), this.value(condition.b));
  }

  private value(expr: SequentialExpr): number {
    switch (expr.kind) {
      case "number": return expr.value;
      case "size": return evaluate(expr.value, this.memory.bindings);
      case "tile": return this.tile;
      case "variable": return this.variables.get(expr.variable)!;
      case "element": {
        const at = this.value(expr.at);
        return Number(this.array(expr.buffer, at)[at]);
      }
      case "binary": {
        const [a, b] = [this.value(expr.a), this.value(expr.b)];
        return expr.type === "f32" ? Math.fround(expr.op === "div" ? a / b : INTEGER[expr.op](a, b)) : INTEGER[expr.op](a, b);
      }
    }
  }
}
