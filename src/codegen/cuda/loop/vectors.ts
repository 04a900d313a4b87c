/**
 * Walks one axis in vectors: loads and stores that run along it move up to 16 bytes at once, where pointers and sizes
 * allow it. That is seen when the kernel runs, since a tensor may begin in the middle of another's row.
 */
import type { FlatOutput } from "../../flatten.ts";
import { affineOf, type Axis, childrenOf, type Dim, dimFloorDiv, dimMul, dimEqual, type Expr, freeAxes } from "../../loop-ir.ts";
import { type ExpressionEmitter, type LoadExpr, Point } from "../expression.ts";
import { elementType } from "../scalars.ts";
import { coefficientOf } from "./shape.ts";

export class Vectors {
  readonly #emitter: ExpressionEmitter;
  readonly #axis: Axis;
  readonly #width: number;
  readonly #loads: readonly LoadExpr[];
  readonly #stores: readonly FlatOutput[];

  /** @param values what is computed at each step; @param stores outputs written at each step */
  constructor(emitter: ExpressionEmitter, axis: Axis, width: number, values: readonly Expr[], stores: readonly FlatOutput[]) {
    this.#emitter = emitter;
    this.#axis = axis;
    this.#width = width;
    this.#loads = width === 1 ? [] : values.flatMap((value) => vectorLoads(value, axis, emitter));
    this.#stores = width === 1 ? [] : stores.filter(({ offset }) => coefficientOf(offset, axis) === 1);
  }

  /** Whether there is anything to move in vectors. */
  get isUseful(): boolean {
    return this.#width > 1 && this.#loads.length + this.#stores.length > 0;
  }

  /** C++ of whether all vectors are aligned; "true" and "false" when it is known now. */
  aligned(): string {
    const { params } = this.#emitter;
    const conditions: string[] = [];
    const strides: Dim[] = [this.#axis.extent];
    for (const { terms, constant } of [...this.#loads.map((load) => affineOf(load.index[0]!)), ...this.#stores.map(({ offset }) => affineOf(offset))]) {
      strides.push(constant);
      for (const { atom, coefficient } of terms) if (!(atom.kind === "axis" && atom.axis === this.#axis)) strides.push(coefficient);
    }
    for (const stride of strides) {
      if (dimEqual(dimMul(dimFloorDiv(stride, this.#width), this.#width), stride)) continue;
      if (typeof stride === "number") return "false";
      conditions.push(`${params.dim(stride)} % ${this.#width} == 0`);
    }
    const pointers = [...new Set([...this.#loads, ...this.#stores].map(({ buffer }) => buffer))].map((buffer) => `(u64)${params.pointer(buffer)}`);
    if (pointers.length > 0) conditions.push(`((${pointers.join(" | ")}) & 15) == 0`);
    return [...new Set(conditions)].join(" && ") || "true";
  }

  /**
   * One vector: loads at `base`, `body` for each of its elements, stores. @param body answers the values that `stores` take, in their order;
   * it is given the element's index as C++
   * @param others outputs that `body` stores itself, element by element
   */
  step(base: string, point: Point, body: (point: Point, isVector: (output: FlatOutput) => boolean, element: string) => ReadonlyMap<FlatOutput, string>): void {
    const { code, params } = this.#emitter;
    const start = new Point(point, new Map([[this.#axis, base]]));
    const vectors = this.#loads.map((load) => {
      const name = code.fresh("x");
      const type = `Vec<${elementType(load.buffer.dtype)}, ${this.#width}>`;
      code.line(`const ${type} ${name} = *(const ${type}*)(${params.pointer(load.buffer)} + ${this.#emitter.address(load, start)});`);
      return { load, name };
    });
    const results = this.#stores.map((output) => ({ output, name: code.fresh("y") }));
    for (const { output, name } of results) code.line(`Vec<${elementType(output.buffer.dtype)}, ${this.#width}> ${name};`);
    const step = code.fresh("e");
    code.line("#pragma unroll");
    code.block(`for (int ${step} = 0; ${step} < ${this.#width}; ${step}++)`, () => {
      const inner = new Point(point, new Map([[this.#axis, `(${base} + ${step})`]]));
      for (const { load, name } of vectors) inner.provide(load, `element(${name}.at[${step}])`);
      const values = body(inner, (output) => this.#stores.includes(output), step);
      for (const { output, name } of results) this.#emitter.store(`${name}.at[${step}]`, output.buffer.dtype, values.get(output)!);
    });
    for (const { output, name } of results) {
      const type = `Vec<${elementType(output.buffer.dtype)}, ${this.#width}>`;
      code.line(`*(${type}*)(${params.pointer(output.buffer)} + ${this.#emitter.index(output.offset, start)}) = ${name};`);
    }
  }
}

/** Loads that may be done for a whole vector: unguarded or safe, one after the other along the axis, outside reductions. */
function vectorLoads(value: Expr, axis: Axis, emitter: ExpressionEmitter): LoadExpr[] {
  const found: LoadExpr[] = [];
  const seen = new Set<Expr>();
  const visit = (e: Expr, isGuarded: boolean): void => {
    if (seen.has(e) || e.kind === "reduce") return;
    seen.add(e);
    if (e.kind === "load" && freeAxes(e).has(axis)) {
      if (coefficientOf(e.index[0]!, axis) === 1 && (emitter.isSafe(e) || !isGuarded)) found.push(e);
      return;
    }
    if (e.kind === "select") {
      visit(e.condition, isGuarded);
      visit(e.then, true);
      visit(e.else, true);
    } else for (const child of childrenOf(e)) visit(child, isGuarded);
  };
  visit(value, false);
  return found;
}

/** All outputs that are not written in vectors, element by element. */
export function storeOthers(emitter: ExpressionEmitter, outputs: readonly FlatOutput[], point: Point, isVector: (output: FlatOutput) => boolean): ReadonlyMap<FlatOutput, string> {
  const values = new Map(outputs.map((output) => [output, emitter.value(output.value, point)] as const));
  for (const output of outputs) {
    if (!isVector(output)) emitter.store(`${emitter.params.pointer(output.buffer)}[${emitter.index(output.offset, point)}]`, output.buffer.dtype, values.get(output)!);
  }
  return values;
}
