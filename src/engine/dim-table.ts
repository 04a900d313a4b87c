/**
 * The dimension expressions of a program as straight-line code: a row is a number, a symbol, or an operator over earlier
 * rows. Equal rows are stored once, so that the sizes of a deep network, which contain each other, stay few; one pass
 * evaluates them all.
 */
import { assert } from "../base/index.ts";
import { add, type Bindings, type Dim, dimKey, type DimJson, dimToJson, floorDiv, max, min, mod, mul, symbol } from "../ir/index.ts";

/** An index into the rows of a program. */
export type DimIndex = number;
export type DimOperator = "add" | "mul" | "floorDiv" | "mod" | "min" | "max";
export type DimRow = number | string | readonly [DimOperator, ...DimIndex[]];

const OPERATORS: Readonly<Record<DimOperator, (...dims: Dim[]) => Dim>> = { add, mul, floorDiv, mod, min, max };

/** Collects expressions while a program is linked. */
export class DimRows {
  readonly rows: DimRow[] = [];
  private readonly byDim = new Map<string, DimIndex>();
  private readonly byRow = new Map<string, DimIndex>();

  add(dim: Dim): DimIndex {
    const key = dimKey(dim);
    let index = this.byDim.get(key);
    if (index === undefined) {
      index = this.addJson(dimToJson(dim));
      this.byDim.set(key, index);
    }
    return index;
  }

  private addJson(json: DimJson): DimIndex {
    if (typeof json === "number" || typeof json === "string") return this.row(json);
    const [operator, ...operands] = json;
    return this.row([operator as DimOperator, ...operands.map((operand) => this.addJson(operand))]);
  }

  private row(row: DimRow): DimIndex {
    const key = JSON.stringify(row);
    let index = this.byRow.get(key);
    if (index === undefined) {
      index = this.rows.push(row) - 1;
      this.byRow.set(key, index);
    }
    return index;
  }
}

/** Reads and evaluates them. */
export class DimTable {
  private readonly rows: readonly DimRow[];
  private readonly expressions: (Dim | undefined)[] = [];
  private readonly followers = new Map<DimIndex, readonly DimIndex[]>();

  constructor(rows: readonly DimRow[]) {
    this.rows = rows;
  }

  /** All values by index; NaN where a symbol is not known yet. */
  evaluate(bindings: Bindings): Float64Array {
    const { rows } = this;
    const values = new Float64Array(rows.length);
    for (let index = 0; index < rows.length; index++) {
      const row = rows[index]!;
      if (typeof row === "number") values[index] = row;
      else if (typeof row === "string") values[index] = bindings.get(row) ?? Number.NaN;
      else values[index] = apply(row, values);
    }
    return values;
  }

  /** Makes a symbol known, and all that follows from it. */
  learn(values: Float64Array, symbol: DimIndex, size: number): void {
    values[symbol] = size;
    for (const index of this.following(symbol)) values[index] = apply(this.rows[index] as readonly [DimOperator, ...DimIndex[]], values);
  }

  /** The rows that a symbol is part of, in order. */
  private following(symbol: DimIndex): readonly DimIndex[] {
    let rows = this.followers.get(symbol);
    if (rows) return rows;
    const reached = new Set<DimIndex>([symbol]);
    for (let index = symbol + 1; index < this.rows.length; index++) {
      const row = this.rows[index]!;
      if (Array.isArray(row) && row.some((operand, i) => i > 0 && reached.has(operand as DimIndex))) reached.add(index);
    }
    reached.delete(symbol);
    rows = [...reached];
    this.followers.set(symbol, rows);
    return rows;
  }

  /** The expression of one row. */
  dim(index: DimIndex): Dim {
    return (this.expressions[index] ??= this.expression(index));
  }

  /** A number, or the expression as text. */
  text(index: DimIndex): number | string {
    const dim = this.dim(index);
    return typeof dim === "number" ? dim : String(dim);
  }

  /** Whether a row is the same for all shapes. */
  isNumber(index: DimIndex): boolean {
    return typeof this.rows[index] === "number";
  }

  /** The symbol a row is, if it is one. */
  symbol(index: DimIndex): string | undefined {
    const row = this.rows[index];
    return typeof row === "string" ? row : undefined;
  }

  private expression(index: DimIndex): Dim {
    const row = this.rows[index];
    assert(row !== undefined, `dimension ${index} of ${this.rows.length}`);
    if (typeof row === "number") return row;
    if (typeof row === "string") return symbol(row);
    const [operator, ...operands] = row;
    return OPERATORS[operator](...operands.map((operand) => this.dim(operand)));
  }
}

/** An unknown operand makes the result unknown, whatever the other is. */
function apply(row: readonly [DimOperator, ...DimIndex[]], values: Float64Array): number {
  const a = values[row[1] as DimIndex]!;
  const b = values[row[2] as DimIndex]!;
  switch (row[0]) {
    case "add": {
      let sum = a;
      for (let i = 2; i < row.length; i++) sum += values[row[i] as DimIndex]!;
      return sum;
    }
    case "mul": {
      let product = a;
      for (let i = 2; i < row.length; i++) product *= values[row[i] as DimIndex]!;
      return product;
    }
    case "floorDiv": return b === 0 ? a * 0 : Math.floor(a / b);
    case "mod": return b === 0 ? a * 0 : a - Math.floor(a / b) * b;
    case "min": return Math.min(a, b);
    case "max": return Math.max(a, b);
  }
}
