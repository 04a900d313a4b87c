/**
 * Sliding windows over spatial dimensions, of any rank: what convolutions and pools have in common.
 *
 * Idea: for each position of the kernel, a list of (input offset, output offset) pairs that meet there. A list is made
 * once and used for every image and channel; padding is what is absent from it.
 * Sources: ONNX Conv-22, MaxPool-22, AveragePool-22 (the last window of ceil_mode must start inside the image or its
 * left padding), Col2Im-18.
 */
import { elementCount } from "../base/index.ts";
import type { ReferenceAttributes } from "./contract.ts";
import { intAttribute, intsAttribute, stringAttribute } from "./arguments.ts";

export interface Window {
  readonly input: readonly number[];
  readonly kernel: readonly number[];
  readonly output: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly padsBegin: readonly number[];
  readonly padsEnd: readonly number[];
}

/** Offsets that meet at one kernel position, in the order of the output. */
export interface Tap {
  readonly input: Int32Array;
  readonly output: Int32Array;
}

/** The window of a Conv or pool node over `input` (spatial dims only). */
export function windowOf(attributes: ReferenceAttributes, input: readonly number[], kernel: readonly number[]): Window {
  const rank = input.length;
  const ones = new Array<number>(rank).fill(1);
  const strides = intsAttribute(attributes, "strides") ?? ones;
  const dilations = intsAttribute(attributes, "dilations") ?? ones;
  const pads = intsAttribute(attributes, "pads") ?? new Array<number>(2 * rank).fill(0);
  const autoPad = stringAttribute(attributes, "auto_pad", "NOTSET");
  const ceil = intAttribute(attributes, "ceil_mode", 0) !== 0;
  const padsBegin: number[] = [];
  const padsEnd: number[] = [];
  const output: number[] = [];
  for (let axis = 0; axis < rank; axis++) {
    const size = input[axis]!;
    const stride = strides[axis]!;
    const span = dilations[axis]! * (kernel[axis]! - 1) + 1;
    if (autoPad === "SAME_UPPER" || autoPad === "SAME_LOWER") {
      const count = Math.ceil(size / stride);
      const total = Math.max((count - 1) * stride + span - size, 0);
      const small = Math.floor(total / 2);
      padsBegin.push(autoPad === "SAME_UPPER" ? small : total - small);
      padsEnd.push(total - padsBegin[axis]!);
      output.push(count);
      continue;
    }
    padsBegin.push(autoPad === "VALID" ? 0 : pads[axis]!);
    padsEnd.push(autoPad === "VALID" ? 0 : pads[axis + rank]!);
    const room = size + padsBegin[axis]! + padsEnd[axis]! - span;
    let count = (ceil ? Math.ceil(room / stride) : Math.floor(room / stride)) + 1;
    if (ceil && (count - 1) * stride >= size + padsBegin[axis]!) count--;
    output.push(Math.max(count, 0));
  }
  return { input, kernel, output, strides, dilations, padsBegin, padsEnd };
}

/** Calls `visit` with each index of a box, last axis fastest. The array is reused between calls. */
export function forEachIndex(dims: readonly number[], visit: (index: readonly number[], flat: number) => void): void {
  const count = elementCount(dims);
  const index = new Array<number>(dims.length).fill(0);
  for (let flat = 0; flat < count; flat++) {
    visit(index, flat);
    for (let axis = dims.length - 1; axis >= 0; axis--) {
      if (++index[axis]! < dims[axis]!) break;
      index[axis] = 0;
    }
  }
}

/** One tap per kernel position, row-major. */
export function tapsOf(window: Window): Tap[] {
  const taps: Tap[] = [];
  forEachIndex(window.kernel, (position) => { taps.push(tapAt(window, position)); });
  return taps;
}

function tapAt(window: Window, position: readonly number[]): Tap {
  let inputs = [0];
  let outputs = [0];
  for (let axis = 0; axis < window.input.length; axis++) {
    const size = window.input[axis]!;
    const count = window.output[axis]!;
    const from = position[axis]! * window.dilations[axis]! - window.padsBegin[axis]!;
    const nextInputs: number[] = [];
    const nextOutputs: number[] = [];
    for (let before = 0; before < inputs.length; before++) {
      for (let o = 0; o < count; o++) {
        const i = o * window.strides[axis]! + from;
        if (i < 0 || i >= size) continue;
        nextInputs.push(inputs[before]! * size + i);
        nextOutputs.push(outputs[before]! * count + o);
      }
    }
    inputs = nextInputs;
    outputs = nextOutputs;
  }
  return { input: Int32Array.from(inputs), output: Int32Array.from(outputs) };
}

/** For each output position, how many kernel positions lie inside the image, or inside image and padding. */
export function coverage(window: Window, padding: boolean): Int32Array {
  const perAxis = window.output.map((count, axis) => Array.from({ length: count }, (_, o) => {
    const low = padding ? -window.padsBegin[axis]! : 0;
    const high = window.input[axis]! + (padding ? window.padsEnd[axis]! : 0);
    let inside = 0;
    for (let k = 0; k < window.kernel[axis]!; k++) {
      const i = o * window.strides[axis]! + k * window.dilations[axis]! - window.padsBegin[axis]!;
      if (i >= low && i < high) inside++;
    }
    return inside;
  }));
  const counts = new Int32Array(elementCount(window.output));
  forEachIndex(window.output, (index, flat) => { counts[flat] = index.reduce((product, o, axis) => product * perAxis[axis]![o]!, 1); });
  return counts;
}
