/**
 * Floats of 8 and 4 bits: codes to numbers and back, nearest with ties to even.
 * Sources: ONNX Cast-25 (tables of saturation), "FP8 Formats for Deep Learning", OCP Microscaling Formats 1.0.
 */
import type { DType } from "../base/index.ts";
import { roundHalfEven } from "./rounding.ts";

export type NarrowFloat = Extract<DType, `float8${string}` | "float4e2m1">;

interface Format {
  readonly exponentBits: number;
  readonly mantissaBits: number;
  readonly bias: number;
  readonly max: number;
  /** The code that stands for NaN; float4e2m1 has none and gives -0. */
  readonly nan: number;
  /** The code of overflow when it does not saturate. */
  readonly overflow: number | undefined;
  /** Whether the code of -0 stands for NaN. */
  readonly unsignedZero: boolean;
}

const FORMATS: Readonly<Record<Exclude<NarrowFloat, "float8e8m0">, Format>> = {
  float8e4m3fn: { exponentBits: 4, mantissaBits: 3, bias: 7, max: 448, nan: 0x7f, overflow: 0x7f, unsignedZero: false },
  float8e4m3fnuz: { exponentBits: 4, mantissaBits: 3, bias: 8, max: 240, nan: 0x80, overflow: 0x80, unsignedZero: true },
  float8e5m2: { exponentBits: 5, mantissaBits: 2, bias: 15, max: 57344, nan: 0x7e, overflow: 0x7c, unsignedZero: false },
  float8e5m2fnuz: { exponentBits: 5, mantissaBits: 2, bias: 16, max: 57344, nan: 0x80, overflow: 0x80, unsignedZero: true },
  float4e2m1: { exponentBits: 2, mantissaBits: 1, bias: 1, max: 6, nan: 8, overflow: undefined, unsignedZero: false },
};

export function isNarrowFloat(type: DType): type is NarrowFloat {
  return type === "float8e8m0" || type in FORMATS;
}

function decodeCode(type: NarrowFloat, code: number): number {
  if (type === "float8e8m0") return code === 0xff ? Number.NaN : 2 ** (code - 127);
  const { exponentBits, mantissaBits, bias, unsignedZero } = FORMATS[type];
  const sign = code >> (exponentBits + mantissaBits) ? -1 : 1;
  const exponent = (code >> mantissaBits) & ((1 << exponentBits) - 1);
  const mantissa = code & ((1 << mantissaBits) - 1);
  const top = exponent === (1 << exponentBits) - 1;
  if (unsignedZero && code === 0x80) return Number.NaN;
  if (type === "float8e4m3fn" && top && mantissa === 7) return Number.NaN;
  if (type === "float8e5m2" && top) return mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  if (exponent === 0) return sign * mantissa * 2 ** (1 - bias - mantissaBits);
  return sign * (1 + mantissa / (1 << mantissaBits)) * 2 ** (exponent - bias);
}

const tables = new Map<NarrowFloat, Float64Array>();

/** The number of each code. */
export function narrowFloatTable(type: NarrowFloat): Float64Array {
  const known = tables.get(type);
  if (known) return known;
  const table = Float64Array.from({ length: type === "float4e2m1" ? 16 : 256 }, (_, code) => decodeCode(type, code));
  tables.set(type, table);
  return table;
}

const f64 = new Float64Array(1);
const words = new Uint32Array(f64.buffer);

/** floor(log2(value)) of a positive normal number. */
function exponentOf(value: number): number {
  f64[0] = value;
  return ((words[1]! >>> 20) & 0x7ff) - 1023;
}

export type ScaleRounding = "up" | "down" | "nearest";

/** The code of the nearest number. `rounding` matters for float8e8m0 only, whose numbers are powers of two. */
export function encodeNarrowFloat(type: NarrowFloat, value: number, saturate = true, rounding: ScaleRounding = "nearest"): number {
  if (type === "float8e8m0") return encodeScale(value, saturate, rounding);
  const { exponentBits, mantissaBits, bias, max, nan, overflow, unsignedZero } = FORMATS[type];
  const signBit = 1 << (exponentBits + mantissaBits);
  const sign = value < 0 || Object.is(value, -0) ? signBit : 0;
  if (Number.isNaN(value)) return nan;
  const magnitude = Math.abs(value);
  const smallest = 1 - bias;
  const exponent = magnitude === 0 ? smallest : Math.max(exponentOf(magnitude), smallest);
  const steps = roundHalfEven(magnitude * 2 ** (mantissaBits - exponent));
  if (steps * 2 ** (exponent - mantissaBits) > max || magnitude === Number.POSITIVE_INFINITY) {
    if (!saturate && overflow !== undefined) return unsignedZero ? overflow : overflow | sign;
    return sign | encodeNarrowFloat(type, max);
  }
  if (steps === 0) return unsignedZero ? 0 : sign;
  // A carry out of the mantissa moves into the exponent by itself.
  return sign | (((exponent - smallest) << mantissaBits) + steps);
}

function encodeScale(value: number, saturate: boolean, rounding: ScaleRounding): number {
  if (Number.isNaN(value)) return 0xff;
  const magnitude = Math.abs(value);
  if (magnitude === Number.POSITIVE_INFINITY) return saturate ? 0xfe : 0xff;
  if (magnitude < 2 ** -127) return 0;
  const exponent = exponentOf(magnitude);
  const rest = magnitude / 2 ** exponent;
  const up = rounding === "up" ? rest > 1 : rounding === "nearest" && rest >= 1.5;
  const code = exponent + 127 + (up ? 1 : 0);
  if (code > 0xfe) return saturate ? 0xfe : 0xff;
  return code;
}
