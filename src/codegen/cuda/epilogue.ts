/**
 * What happens to a contraction's results on their way to memory: bias, residual, activation, applied to one result at
 * a time where the kernel's own code holds it.
 *
 *   const epilogue = new Epilogue(code, params, kernel.epilogue, kernel.output);
 *   const point = epilogue.at(["batch", "row", "column"]);     // C++ of the index along every output dimension
 *   epilogue.store("acc[i]", point);                           // or: const text = epilogue.value("acc[i]", point)
 *
 * Emit each use inside the block where its indices are in scope, one `at` per block; values that several results of a
 * block share are computed once. The index type is that of `params`.
 */
import { flattenExpr, stridesOf } from "../flatten.ts";
import type { Buffer, Epilogue as EpilogueExpr, Expr } from "../loop-ir.ts";
import type { CodeWriter } from "./code-writer.ts";
import { ExpressionEmitter, Point } from "./expression.ts";
import type { KernelParams } from "./kernel-params.ts";

export class Epilogue {
  readonly #emitter: ExpressionEmitter;
  readonly #params: KernelParams;
  readonly #epilogue: EpilogueExpr | undefined;
  readonly #value: Expr | undefined;
  readonly #output: Buffer;

  constructor(code: CodeWriter, params: KernelParams, epilogue: EpilogueExpr | undefined, output: Buffer) {
    const flat = epilogue ? flattenExpr(epilogue.value) : undefined;
    this.#emitter = new ExpressionEmitter(code, params, flat?.safe ?? new Set());
    this.#params = params;
    this.#epilogue = epilogue;
    this.#value = flat?.expr;
    this.#output = output;
  }

  /** A place in the code where results are at hand. @param indices one per output dimension, outer to inner */
  at(indices: readonly string[], outer?: EpiloguePoint): EpiloguePoint {
    const axes = new Map((this.#epilogue?.axes ?? []).map((axis, i) => [axis, `(${indices[i]!})`] as const));
    return { indices, point: new Point(outer?.point, axes) };
  }

  /** The final value (float) as C++. @param accumulator C++ of the contraction's result there, a float */
  value(accumulator: string, { point }: EpiloguePoint): string {
    return this.#value ? this.#emitter.value(this.#value, new Point(point, new Map(), accumulator)) : accumulator;
  }

  /** C++ of the position of an output element. */
  position({ indices }: EpiloguePoint): string {
    const strides = stridesOf(this.#output);
    const terms = indices.flatMap((index, i) => (strides[i] === 0 ? [] : strides[i] === 1 ? [`(${index})`] : [`(${index}) * ${this.#params.dim(strides[i]!)}`]));
    return terms.length === 0 ? "0" : terms.join(" + ");
  }

  /** Writes the final value where it belongs. */
  store(accumulator: string, point: EpiloguePoint): void {
    const value = this.value(accumulator, point);
    this.#emitter.store(`${this.#params.pointer(this.#output)}[${this.position(point)}]`, this.#output.dtype, value);
  }
}

export interface EpiloguePoint {
  readonly indices: readonly string[];
  readonly point: Point;
}
