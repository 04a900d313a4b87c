/**
 * The loop IR: what a fused loop kernel computes, and what a contraction computes before and after its products.
 *
 * A `LoopKernel` gives, for every point of a rectangular domain, the elements of its outputs as expressions over
 * elements of its inputs. There is no order of evaluation and no state: code generation chooses loops, vectors and
 * threads. Reductions are expressions too; one that does not depend on an inner axis is computed once outside it
 * (softmax's row maximum, LayerNorm's mean and variance).
 */
import type { DType } from "../base/index.ts";
import type { Dim } from "./dim.ts";

/** Types of scalar computation. Storage types convert on load and store: float16 and bfloat16 compute as f32, int8 to uint16 as i32, bool as bool. */
export type ScalarType = "f32" | "f64" | "i32" | "u32" | "i64" | "u64" | "bool";

/** Closed set: each target lowers every one. Integer division truncates; `mod` takes the divisor's sign, `rem` the dividend's. */
export type ScalarOp =
  | "add" | "sub" | "mul" | "div" | "mod" | "rem" | "min" | "max" | "pow"
  | "neg" | "abs" | "sign" | "sqrt" | "rsqrt" | "reciprocal"
  | "exp" | "log" | "sin" | "cos" | "tan" | "asin" | "acos" | "atan" | "sinh" | "cosh" | "asinh" | "acosh" | "atanh" | "tanh" | "erf" | "sigmoid"
  | "floor" | "ceil" | "round" | "trunc" // round: half to even
  | "isNan" | "isInf"
  | "eq" | "ne" | "lt" | "le" | "gt" | "ge" // give bool
  | "and" | "or" | "xor" | "not" // of bool
  | "bitAnd" | "bitOr" | "bitXor" | "bitNot" | "shiftLeft" | "shiftRight";

export type ReduceOp = "sum" | "prod" | "min" | "max";

/** An axis of iteration: of the domain, or bound by one reduction. Identity is the object. */
export interface Axis {
  readonly name: string;
  readonly extent: Dim;
}

export type Expr =
  | { readonly kind: "const"; readonly type: ScalarType; readonly value: number | bigint }
  /** A runtime dimension, as i64. */
  | { readonly kind: "dim"; readonly type: "i64"; readonly value: Dim }
  /** The index of an axis, as i64. */
  | { readonly kind: "axis"; readonly type: "i64"; readonly axis: Axis }
  /** Element of a buffer: one i64 index per buffer dimension. Must be in range unless guarded by a `select` whose condition excludes it. */
  | { readonly kind: "load"; readonly type: ScalarType; readonly buffer: Buffer; readonly index: readonly Expr[] }
  | { readonly kind: "op"; readonly type: ScalarType; readonly op: ScalarOp; readonly args: readonly Expr[] }
  | { readonly kind: "cast"; readonly type: ScalarType; readonly arg: Expr } // float to integer truncates
  /** Only the chosen branch's loads are performed, so a guard may protect them. */
  | { readonly kind: "select"; readonly type: ScalarType; readonly condition: Expr; readonly then: Expr; readonly else: Expr }
  | { readonly kind: "reduce"; readonly type: ScalarType; readonly op: ReduceOp; readonly axes: readonly Axis[]; readonly body: Expr }
  /** In an epilogue: the contraction's own result at this point of the output domain. */
  | { readonly kind: "accumulator"; readonly type: "f32" | "i32" };

/** A tensor in memory as a kernel sees it. Identity is the object. */
export interface Buffer {
  readonly name: string;
  readonly dtype: DType;
  readonly dims: readonly Dim[];
  /** Elements from one index to the next, per dimension; row-major without gaps when absent. */
  readonly strides?: readonly Dim[];
  /** A power of two that the first element's address is a multiple of, in bytes; `BUFFER_ALIGNMENT` when absent. */
  readonly alignment?: number;
}

/** Where a buffer begins that is no part of another: a multiple of so many bytes. */
export const BUFFER_ALIGNMENT = 64;

export interface LoopOutput {
  readonly buffer: Buffer;
  /** Where the element at a point of the domain goes: one i64 expression per buffer dimension; the domain's axes in order when absent. */
  readonly index?: readonly Expr[];
  readonly value: Expr;
}

export interface LoopKernel {
  readonly kind: "loop";
  readonly name: string;
  /** Outer to inner. Empty for a scalar. */
  readonly axes: readonly Axis[];
  readonly outputs: readonly LoopOutput[];
}
