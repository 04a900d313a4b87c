/**
 * Operators of two or more tensors brought to one shape: arithmetic, comparison, logic, bits, selection.
 * Integers wrap at their width; 64-bit integers are exact. Integer division truncates, and by zero gives 0.
 */
import { assert, elementCount, isFloat, isInteger, Tensor } from "../base/index.ts";
import { intAttribute, stringAttribute } from "./arguments.ts";
import { throughInt64 } from "./cast.ts";
import type { ReferenceOperator, ReferenceTable } from "./contract.ts";
import { bigsOf, isBig, itemsOf, newItems, newNumbers, numbersOf, tensorAt, tensorOf, tensorOfItems } from "./elements.ts";
import { broadcastShapes, broadcastTable } from "./strides.ts";

type Real = (a: number, b: number) => number;
type Exact = (a: bigint, b: bigint) => bigint;

/** Both operands read at each element of their common shape. */
function together<In, Out>(dims: readonly number[], [a, b]: readonly [Tensor, Tensor], x: ArrayLike<In>, y: ArrayLike<In>, to: { [index: number]: Out }, f: (a: In, b: In) => Out): void {
  const count = elementCount(dims);
  const atA = broadcastTable(a.dims, dims);
  const atB = broadcastTable(b.dims, dims);
  if (!atA && !atB) for (let i = 0; i < count; i++) to[i] = f(x[i]!, y[i]!);
  else for (let i = 0; i < count; i++) to[i] = f(x[atA ? atA[i]! : i]!, y[atB ? atB[i]! : i]!);
}

/** f(a, b) broadcast, of a's type. */
export function combine(a: Tensor, b: Tensor, f: Real, big?: Exact): Tensor {
  const dims = broadcastShapes([a.dims, b.dims]);
  const count = elementCount(dims);
  if (big && isBig(a.type)) {
    const to = a.type === "int64" ? new BigInt64Array(count) : new BigUint64Array(count);
    together<bigint, bigint>(dims, [a, b], bigsOf(a), bigsOf(b), to, big);
    return new Tensor(a.type, to, dims);
  }
  const to = newNumbers(a.type, count);
  together<number, number>(dims, [a, b], numbersOf(a), numbersOf(b), to, f);
  return tensorOf(a.type, to, dims);
}

const binary = (f: Real, big?: Exact): ReferenceOperator => (inputs) => [combine(tensorAt(inputs, 0), tensorAt(inputs, 1), f, big)];

/** Integers and floats differ. */
const byKind = (integer: ReferenceOperator, float: ReferenceOperator): ReferenceOperator => (inputs, attributes, context) =>
  (isInteger(tensorAt(inputs, 0).type) ? integer : float)(inputs, attributes, context);

const compare = (f: (a: number, b: number) => boolean, big: (a: bigint, b: bigint) => boolean, text?: (a: string, b: string) => boolean): ReferenceOperator => (inputs) => {
  const a = tensorAt(inputs, 0);
  const b = tensorAt(inputs, 1);
  const dims = broadcastShapes([a.dims, b.dims]);
  const to = new Uint8Array(elementCount(dims));
  const bits = <T>(holds: (x: T, y: T) => boolean) => (x: T, y: T): number => (holds(x, y) ? 1 : 0);
  if (a.type === "string") {
    assert(text, "strings are compared for equality only");
    together<string, number>(dims, [a, b], a.data as string[], b.data as string[], to, bits(text));
  } else if (isBig(a.type)) together<bigint, number>(dims, [a, b], bigsOf(a), bigsOf(b), to, bits(big));
  else together<number, number>(dims, [a, b], numbersOf(a), numbersOf(b), to, bits(f));
  return [new Tensor("bool", to, dims)];
};

const variadic = (f: Real, big: Exact): ReferenceOperator => (inputs) => {
  const tensors = inputs.map((_, i) => tensorAt(inputs, i));
  return [tensors.slice(1).reduce((a, b) => combine(a, b, f, big), tensors[0]!)];
};

const sum = variadic((a, b) => a + b, (a, b) => a + b);

const mean: ReferenceOperator = (inputs, attributes, context) => {
  const [total] = sum(inputs, attributes, context);
  assert(total instanceof Tensor, "a sum is a tensor");
  const from = numbersOf(total);
  const to = newNumbers(total.type, from.length);
  for (let i = 0; i < from.length; i++) to[i] = from[i]! / inputs.length;
  return [tensorOf(total.type, to, total.dims)];
};

const divide = byKind(
  binary((a, b) => (b === 0 ? 0 : Math.trunc(a / b)), (a, b) => (b === 0n ? 0n : a / b)),
  binary((a, b) => a / b),
);

/** Products of 32 bits exceed what a double holds exactly. */
const multiply = byKind(binary(Math.imul, (a, b) => a * b), binary((a, b) => a * b));

/** The sign of the divisor, as in Python; with `fmod`, of the dividend, as in C. */
const modulo: ReferenceOperator = (inputs, attributes) => {
  const a = tensorAt(inputs, 0);
  const b = tensorAt(inputs, 1);
  if (intAttribute(attributes, "fmod", 0) !== 0) return [combine(a, b, (x, y) => (y === 0 && isInteger(a.type) ? 0 : x % y), (x, y) => (y === 0n ? 0n : x % y))];
  const floored = (x: number, y: number): number => {
    const rest = x % y;
    return rest !== 0 && rest < 0 !== y < 0 ? rest + y : rest;
  };
  return [combine(a, b, (x, y) => (y === 0 && isInteger(a.type) ? 0 : floored(x, y)), (x, y) => {
    if (y === 0n) return 0n;
    const rest = x % y;
    return rest !== 0n && rest < 0n !== y < 0n ? rest + y : rest;
  })];
};

/** Of the base's type. Integers to integer powers are exact; a negative power of an integer truncates. */
const power: ReferenceOperator = (inputs) => {
  const a = tensorAt(inputs, 0);
  const b = tensorAt(inputs, 1);
  if (isBig(a.type) && !isFloat(b.type)) return [combine(a, b, Math.pow, exactPower)];
  if (isInteger(a.type)) return [combine(a, b, (x, y) => Math.trunc(x ** y))];
  return [combine(a, b, Math.pow)];
};

function exactPower(base: bigint, exponent: bigint): bigint {
  if (exponent < 0n) return base === 1n ? 1n : base === -1n ? (exponent % 2n === 0n ? 1n : -1n) : 0n;
  // Beyond 64 doublings only the low bits count, which wrap anyhow.
  let result = 1n;
  let square = base;
  for (let rest = exponent; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = BigInt.asIntN(64, result * square);
    square = BigInt.asIntN(64, square * square);
  }
  return result;
}

const bitShift: ReferenceOperator = (inputs, attributes) => {
  const left = stringAttribute(attributes, "direction", "LEFT") === "LEFT";
  const x = tensorAt(inputs, 0);
  const y = tensorAt(inputs, 1);
  if (left) return [combine(x, y, (a, b) => (b > 31 ? 0 : a << b), (a, b) => (b > 63n ? 0n : a << b))];
  return [combine(x, y, (a, b) => (b > 31 ? 0 : a >>> b), (a, b) => a >> b)];
};

const prelu: ReferenceOperator = binary((x, slope) => (x < 0 ? slope * x : x), (x, slope) => (x < 0n ? slope * x : x));

/** Elements of any type, strings too. */
const where: ReferenceOperator = (inputs) => {
  const [condition, x, y] = [tensorAt(inputs, 0), tensorAt(inputs, 1), tensorAt(inputs, 2)];
  const dims = broadcastShapes([condition.dims, x.dims, y.dims]);
  const count = elementCount(dims);
  const [atC, atX, atY] = [condition, x, y].map((tensor) => broadcastTable(tensor.dims, dims));
  const chosen = numbersOf(condition);
  const to = newItems(x.type, count);
  const [fromX, fromY] = [itemsOf(x).items, itemsOf(y).items];
  const { items, width } = to;
  for (let i = 0; i < count; i++) {
    const yes = chosen[atC ? atC[i]! : i]! !== 0;
    const at = yes ? (atX ? atX[i]! : i) : atY ? atY[i]! : i;
    const from = yes ? fromX : fromY;
    for (let w = 0; w < width; w++) items[i * width + w] = from[at * width + w]!;
  }
  return [tensorOfItems(x.type, to, dims)];
};

const least: Exact = (a, b) => (a < b ? a : b);
const greatest: Exact = (a, b) => (a > b ? a : b);
const flag = (f: (a: boolean, b: boolean) => boolean): ReferenceOperator => binary((a, b) => (f(a !== 0, b !== 0) ? 1 : 0));


export const broadcastOperators: ReferenceTable = {
  Add: binary((a, b) => a + b, (a, b) => a + b),
  And: flag((a, b) => a && b),
  BitShift: bitShift,
  BitwiseAnd: binary((a, b) => a & b, (a, b) => a & b),
  BitwiseOr: binary((a, b) => a | b, (a, b) => a | b),
  BitwiseXor: binary((a, b) => a ^ b, (a, b) => a ^ b),
  Div: divide,
  Equal: compare((a, b) => a === b, (a, b) => a === b, (a, b) => a === b),
  Greater: compare((a, b) => a > b, (a, b) => a > b),
  GreaterOrEqual: compare((a, b) => a >= b, (a, b) => a >= b),
  Less: compare((a, b) => a < b, (a, b) => a < b),
  LessOrEqual: compare((a, b) => a <= b, (a, b) => a <= b),
  Max: variadic(Math.max, greatest),
  Mean: mean,
  Min: variadic(Math.min, least),
  Mod: modulo,
  Mul: multiply,
  Or: flag((a, b) => a || b),
  Pow: throughInt64(power),
  PRelu: prelu,
  Sub: binary((a, b) => a - b, (a, b) => a - b),
  Sum: sum,
  Where: where,
  Xor: flag((a, b) => a !== b),
};
