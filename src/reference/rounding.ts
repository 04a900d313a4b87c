/**
 * The one rounding rule of quantization: nearest, ties to even, then saturation to the integer type's range.
 * Source: ONNX QuantizeLinear-25.
 */
import { type DType, UnsupportedError } from "../base/index.ts";

export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

const RANGES: Partial<Record<DType, readonly [number, number]>> = {
  int8: [-128, 127], uint8: [0, 255], int16: [-32768, 32767], uint16: [0, 65535], int32: [-(2 ** 31), 2 ** 31 - 1],
  int4: [-8, 7], uint4: [0, 15], int2: [-2, 1], uint2: [0, 3],
};

/** round(value) + zero, saturated. */
export function quantizeNumber(value: number, zero: number, type: DType): number {
  const range = RANGES[type];
  if (!range) throw new UnsupportedError("unsupported", `Quantization to ${type}: this operator takes integer types only.`);
  return Math.min(Math.max(roundHalfEven(value) + zero, range[0]), range[1]);
}
