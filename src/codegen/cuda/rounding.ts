/**
 * What QuantizeLinear computes, without the unit that converts between floats and integers, which takes a sixteenth of the
 * rate of an addition: a value between two bounds, divided by a constant and rounded. The quotient is known to be small,
 * so the rounding is one addition, and the division, rounded as IEEE 754 asks, three multiplications.
 */
import type { Expr } from "../../ir/index.ts";

/** dividend / divisor, rounded to an integer, plus `added`. */
export interface SmallQuotient {
  readonly dividend: Expr;
  readonly divisor: number;
  readonly added: number;
}

/** Half of what the rounding by addition holds. */
const LARGEST = 2 ** 21;

/** Undefined when the value is none, or not known to be small. */
export function smallQuotient(expr: Expr): SmallQuotient | undefined {
  if (expr.type !== "f32" || expr.kind !== "op") return undefined;
  if (expr.op === "add") {
    const inner = smallQuotient(expr.args[0]!);
    const added = numberOf(expr.args[1]!);
    return inner && inner.added === 0 && added !== undefined && Number.isInteger(added) && Math.abs(added) < LARGEST ? { ...inner, added } : undefined;
  }
  const [quotient] = expr.args;
  if (expr.op !== "round" || quotient?.kind !== "op" || quotient.op !== "div") return undefined;
  const [dividend, by] = quotient.args as [Expr, Expr];
  const divisor = numberOf(by);
  const bound = boundOf(dividend);
  return divisor !== undefined && divisor > 0 && bound !== undefined && bound / divisor <= LARGEST ? { dividend, divisor, added: 0 } : undefined;
}

const numberOf = (expr: Expr): number | undefined => (expr.kind === "const" ? Number(expr.value) : undefined);

/** The largest absolute value of min(max(x, a), b) with constants, in either order. */
function boundOf(expr: Expr): number | undefined {
  if (expr.kind !== "op" || (expr.op !== "min" && expr.op !== "max")) return undefined;
  const [inner, outerBound] = expr.args as [Expr, Expr];
  if (inner.kind !== "op" || inner.op !== (expr.op === "min" ? "max" : "min")) return undefined;
  const [a, b] = [numberOf(outerBound), numberOf(inner.args[1]!)];
  return a === undefined || b === undefined ? undefined : Math.max(Math.abs(a), Math.abs(b));
}
