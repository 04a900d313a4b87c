/**
 * Casts between any two types, and reinterpretation of bits.
 * Floats to integers truncate; integers wrap; anything but zero is true.
 * Source: ONNX Cast-25, CastLike-25, BitCast-26.
 */
import { type DType, DTYPE_BITS, elementCount, isFloat, newArray, Tensor, toBfloat16Array, UserError } from "../base/index.ts";
import { intAttribute, stringAttribute } from "./arguments.ts";
import type { ReferenceOperator, ReferenceTable } from "./contract.ts";
import { typeAttribute } from "./data-type.ts";
import { type BigArray, bigsOf, isBig, newNumbers, type NumberArray, numbersOf, tensorAt, tensorOf } from "./elements.ts";
import { encodeNarrowFloat, isNarrowFloat, type ScaleRounding } from "./narrow-float.ts";

interface CastOptions {
  readonly saturate: boolean;
  readonly rounding: ScaleRounding;
}

export function cast(x: Tensor, type: DType, { saturate, rounding }: CastOptions = { saturate: true, rounding: "up" }): Tensor {
  if (x.type === type) return x;
  if (type === "string") return new Tensor("string", textsOf(x), x.dims);
  if (x.type === "string") return fromTexts(x, type);
  if (x.type.startsWith("complex") || type.startsWith("complex")) return castComplex(x, type);
  if (x.data instanceof Float32Array && type === "bfloat16") return new Tensor(type, toBfloat16Array(x.data), x.dims);
  if (isBig(x.type) && isBig(type)) {
    const to = newArray(type, x.size) as BigArray;
    to.set(bigsOf(x));
    return new Tensor(type, to, x.dims);
  }
  if (isBig(x.type) && !isFloat(type) && type !== "bool") return tensorOf(type, numbersWrapped(bigsOf(x)), x.dims);
  const from = numbersOf(x);
  if (isNarrowFloat(type) && type !== "float4e2m1") return new Tensor(type, Uint8Array.from(from as Float64Array, (value) => encodeNarrowFloat(type, value, saturate, rounding)), x.dims);
  return tensorOf(type, converted(from, type), x.dims);
}

/** The low 32 bits, signed: enough for every narrower integer. */
function numbersWrapped(from: BigArray): Float64Array {
  const to = new Float64Array(from.length);
  for (let i = 0; i < from.length; i++) to[i] = Number(BigInt.asIntN(32, from[i]!));
  return to;
}

function converted(from: NumberArray, type: DType): NumberArray {
  const to = newNumbers(type, from.length);
  if (type === "bool") for (let i = 0; i < to.length; i++) to[i] = from[i] !== 0 ? 1 : 0;
  else to.set(from);
  return to;
}

function castComplex(x: Tensor, type: DType): Tensor {
  const wide = (dtype: DType): boolean => dtype.startsWith("complex");
  const data = wide(x.type) ? (x.data as NumberArray) : numbersOf(x);
  const count = elementCount(x.dims);
  if (!wide(type)) return tensorOf(type, converted(Float64Array.from({ length: count }, (_, i) => data[2 * i]!), type), x.dims);
  const to = newArray(type, count) as NumberArray;
  if (wide(x.type)) to.set(data);
  else for (let i = 0; i < count; i++) to[2 * i] = data[i]!;
  return new Tensor(type, to, x.dims);
}

/** The shortest text that reads back as the same float32. */
function float32Text(value: number): string {
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return String(short);
  }
  return String(Number(value.toPrecision(9)));
}

function numberText(value: number, type: DType): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "INF" : "-INF";
  if (!isFloat(type)) return String(value);
  const text = type === "float64" ? String(value) : float32Text(value);
  return Object.is(value, -0) ? `-${text}` : text;
}

function textsOf(x: Tensor): string[] {
  if (isBig(x.type)) return Array.from(bigsOf(x) as BigInt64Array, String);
  if (x.type === "bool") return Array.from(numbersOf(x) as Uint8Array, (value) => (value ? "True" : "False"));
  return Array.from(numbersOf(x) as Float64Array, (value) => numberText(value, x.type));
}

function fromTexts(x: Tensor, type: DType): Tensor {
  const texts = x.data as string[];
  if (isBig(type) && texts.every((text) => /^\s*[-+]?\d+\s*$/.test(text))) {
    const to = newArray(type, texts.length) as BigArray;
    texts.forEach((text, i) => { to[i] = BigInt(text.trim().replace(/^\+/, "")); });
    return new Tensor(type, to, x.dims);
  }
  return cast(new Tensor("float64", Float64Array.from(texts, numberOfText), x.dims), type);
}

const NAMED: Readonly<Record<string, number>> = { nan: Number.NaN, inf: Number.POSITIVE_INFINITY, infinity: Number.POSITIVE_INFINITY, true: 1, false: 0 };

function numberOfText(text: string): number {
  const trimmed = text.trim();
  const [, sign, word] = /^([-+]?)([a-z]+)$/i.exec(trimmed) ?? [];
  const named = word === undefined ? undefined : NAMED[word.toLowerCase()];
  if (named !== undefined) return sign === "-" ? -named : named;
  const value = Number(trimmed);
  if (trimmed === "" || Number.isNaN(value)) throw new UserError("input-invalid", `Cast of the string "${text}" to a number: it is none.`);
  return value;
}

function optionsOf(attributes: Parameters<ReferenceOperator>[1]): CastOptions {
  const rounding = stringAttribute(attributes, "round_mode", "up");
  return { saturate: intAttribute(attributes, "saturate", 1) !== 0, rounding: rounding === "down" || rounding === "nearest" ? rounding : "up" };
}

/** Runs the operator on int32 and uint32 as int64, where products exceed what doubles hold exactly; the result wraps. */
export const throughInt64 = (operator: ReferenceOperator): ReferenceOperator => (inputs, attributes, context) => {
  const { type } = tensorAt(inputs, 0);
  if (type !== "int32" && type !== "uint32") return operator(inputs, attributes, context);
  const wide = inputs.map((value) => (value instanceof Tensor && value.type === type ? cast(value, "int64") : value));
  return operator(wide, attributes, context).map((value) => (value instanceof Tensor ? cast(value, type) : value));
};

const bitCast: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const type = typeAttribute(attributes, "to", x.type);
  if (type === "string" || DTYPE_BITS[type] !== DTYPE_BITS[x.type]) throw new UserError("input-invalid", `BitCast from ${x.type} to ${type}: their sizes differ; expected types of as many bits.`);
  return [Tensor.fromBytes(type, x.bytes.slice(), x.dims)];
};

export const castOperators: ReferenceTable = {
  BitCast: bitCast,
  Cast: (inputs, attributes) => {
    const x = tensorAt(inputs, 0);
    return [cast(x, typeAttribute(attributes, "to", x.type), optionsOf(attributes))];
  },
  CastLike: (inputs, attributes) => [cast(tensorAt(inputs, 0), tensorAt(inputs, 1).type, optionsOf(attributes))],
};
