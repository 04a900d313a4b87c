/**
 * Discrete Fourier transforms: by halves while the length is even, by definition for the odd rest.
 * Complex numbers are pairs along the last axis. Sources: ONNX DFT-20, STFT-17.
 */
import { elementCount, Tensor } from "../base/index.ts";
import { intAttribute } from "./arguments.ts";
import type { ReferenceOperator, ReferenceTable } from "./contract.ts";
import { newNumbers, numbersOf, scalarAt, tensorAt, tensorOf } from "./elements.ts";
import { linesAlong, normalizeAxis } from "./strides.ts";

/** Real and imaginary parts apart. */
interface Signal {
  readonly real: Float64Array;
  readonly imaginary: Float64Array;
}

const signalOf = (length: number): Signal => ({ real: new Float64Array(length), imaginary: new Float64Array(length) });

/** Not divided by the length. @param sign -1 forward, 1 inverse */
function transform(x: Signal, sign: number): Signal {
  const n = x.real.length;
  if (n <= 1 || n % 2 !== 0) return transformDirectly(x, sign);
  const half = n / 2;
  const parts = [0, 1].map((odd) => {
    const part = signalOf(half);
    for (let i = 0; i < half; i++) {
      part.real[i] = x.real[2 * i + odd]!;
      part.imaginary[i] = x.imaginary[2 * i + odd]!;
    }
    return transform(part, sign);
  }) as [Signal, Signal];
  const [even, odd] = parts;
  const result = signalOf(n);
  for (let k = 0; k < half; k++) {
    const angle = (sign * 2 * Math.PI * k) / n;
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    const re = c * odd.real[k]! - s * odd.imaginary[k]!;
    const im = c * odd.imaginary[k]! + s * odd.real[k]!;
    result.real[k] = even.real[k]! + re;
    result.imaginary[k] = even.imaginary[k]! + im;
    result.real[k + half] = even.real[k]! - re;
    result.imaginary[k + half] = even.imaginary[k]! - im;
  }
  return result;
}

function transformDirectly(x: Signal, sign: number): Signal {
  const n = x.real.length;
  const result = signalOf(n);
  const cosines = Float64Array.from({ length: n }, (_, i) => Math.cos((2 * Math.PI * i) / n));
  const sines = Float64Array.from({ length: n }, (_, i) => sign * Math.sin((2 * Math.PI * i) / n));
  for (let k = 0; k < n; k++) {
    for (let i = 0; i < n; i++) {
      const [c, s] = [cosines[(i * k) % n]!, sines[(i * k) % n]!];
      result.real[k] = result.real[k]! + x.real[i]! * c - x.imaginary[i]! * s;
      result.imaginary[k] = result.imaginary[k]! + x.real[i]! * s + x.imaginary[i]! * c;
    }
  }
  return result;
}

/** Input [..., 1] or [..., 2]. One-sided: forward keeps the first half; inverse takes it and gives a real signal. */
const dft: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const rank = x.dims.length;
  const axis = normalizeAxis(scalarAt(inputs, 2, -2), rank);
  const inverse = intAttribute(attributes, "inverse", 0) !== 0;
  const half = intAttribute(attributes, "onesided", 0) !== 0;
  const wide = x.dims[rank - 1] === 2;
  const given = x.dims[axis]!;
  const length = scalarAt(inputs, 1, inverse && half ? 2 * (given - 1) : given);
  const kept = half && !inverse ? Math.floor(length / 2) + 1 : length;
  const width = half && inverse ? 1 : 2;
  const dims = x.dims.map((size, i) => (i === axis ? kept : i === rank - 1 ? width : size));
  const from = numbersOf(x);
  const to = newNumbers(x.type, elementCount(dims));
  const source = linesAlong(x.dims, [axis, rank - 1]);
  const target = linesAlong(dims, [axis, rank - 1]).table;
  for (let line = 0; line < source.count; line++) {
    const signal = signalOf(length);
    for (let i = 0; i < Math.min(given, length); i++) {
      const at = line * source.length + i * (wide ? 2 : 1);
      signal.real[i] = from[source.table[at]!]!;
      signal.imaginary[i] = wide ? from[source.table[at + 1]!]! : 0;
    }
    if (inverse && half) mirror(signal);
    const y = transform(signal, inverse ? 1 : -1);
    const scale = inverse ? 1 / length : 1;
    for (let i = 0; i < kept; i++) {
      to[target[(line * kept + i) * width]!] = y.real[i]! * scale;
      if (width === 2) to[target[(line * kept + i) * width + 1]!] = y.imaginary[i]! * scale;
    }
  }
  return [tensorOf(x.type, to, dims)];
};

/** The second half of a real signal's spectrum: the first one's conjugate, turned around. */
function mirror({ real, imaginary }: Signal): void {
  const n = real.length;
  for (let i = Math.floor(n / 2) + 1; i < n; i++) {
    real[i] = real[n - i]!;
    imaginary[i] = -imaginary[n - i]!;
  }
}

/** signal [batch, length, 1 or 2], step, window, frame length; to [batch, frames, bins, 2]. */
const stft: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const [batch, length] = x.dims as readonly [number, number];
  const width = x.dims[2] ?? 1;
  const step = scalarAt(inputs, 1, 1);
  const window = inputs[2] instanceof Tensor ? numbersOf(inputs[2]) : undefined;
  const size = scalarAt(inputs, 3, window?.length ?? length);
  const bins = intAttribute(attributes, "onesided", 1) !== 0 ? Math.floor(size / 2) + 1 : size;
  const frames = Math.max(0, Math.floor((length - size) / step) + 1);
  const from = numbersOf(x);
  const to = newNumbers(x.type, batch * frames * bins * 2);
  for (let frame = 0; frame < batch * frames; frame++) {
    const start = Math.floor(frame / frames) * length + (frame % frames) * step;
    const signal = signalOf(size);
    for (let i = 0; i < size; i++) {
      const weight = window ? window[i]! : 1;
      signal.real[i] = from[(start + i) * width]! * weight;
      signal.imaginary[i] = width === 2 ? from[(start + i) * width + 1]! * weight : 0;
    }
    const y = transform(signal, -1);
    for (let k = 0; k < bins; k++) {
      to[(frame * bins + k) * 2] = y.real[k]!;
      to[(frame * bins + k) * 2 + 1] = y.imaginary[k]!;
    }
  }
  return [tensorOf(x.type, to, [batch, frames, bins, 2])];
};

export const signalOperators: ReferenceTable = { DFT: dft, STFT: stft };
