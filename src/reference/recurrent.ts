/**
 * RNN, GRU and LSTM. One loop over directions, batch and time; each operator is a cell.
 * X is [seq, batch, input] (layout 0) or [batch, seq, input] (layout 1). W [D, G*H, I], R [D, G*H, H],
 * B [D, 2*G*H], gates in ONNX's order: LSTM i o f c, GRU z r h.
 * Sources: ONNX RNN-22, GRU-22, LSTM-22.
 */
import { UnsupportedError } from "../base/index.ts";
import { type Activation, activationList } from "./activations.ts";
import type { HostValue, ReferenceAttributes, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { floatAttribute, fromNumbers, intAttribute, numbersAttribute, optionalTensor, stringAttribute, stringsAttribute, tensorInput, toNumbers } from "./arguments.ts";

interface Direction {
  /** Row g*H+h of W or R times a vector, bias of W or R added. */
  input(row: number, x: Float64Array): number;
  recurrent(row: number, h: ArrayLike<number>): number;
  readonly activations: readonly Activation[];
  readonly peepholes: Float64Array | undefined;
  readonly hidden: number;
  clip(value: number): number;
}

/** From x, h and c of one step to the next h and c. */
type Cell = (direction: Direction, x: Float64Array, h: Float64Array, c: Float64Array, attributes: ReferenceAttributes) => { h: Float64Array; c: Float64Array };

const rnnCell: Cell = (d, x, h, c) => {
  const next = Float64Array.from({ length: d.hidden }, (_, i) => d.activations[0]!(d.clip(d.input(i, x) + d.recurrent(i, h))));
  return { h: next, c };
};

const gruCell: Cell = (d, x, h, c, attributes) => {
  const n = d.hidden;
  const [f, g] = d.activations as [Activation, Activation];
  const gate = (index: number): Float64Array => Float64Array.from({ length: n }, (_, i) => f(d.clip(d.input(index * n + i, x) + d.recurrent(index * n + i, h))));
  const z = gate(0);
  const r = gate(1);
  const after = intAttribute(attributes, "linear_before_reset", 0) !== 0;
  const reset = h.map((value, i) => value * r[i]!);
  const next = Float64Array.from({ length: n }, (_, i) => {
    const recurrent = after ? r[i]! * d.recurrent(2 * n + i, h) : d.recurrent(2 * n + i, reset);
    const candidate = g(d.clip(d.input(2 * n + i, x) + recurrent));
    return (1 - z[i]!) * candidate + z[i]! * h[i]!;
  });
  return { h: next, c };
};

const lstmCell: Cell = (d, x, h, c, attributes) => {
  const n = d.hidden;
  const [f, g, out] = d.activations as [Activation, Activation, Activation];
  const peephole = (index: number, i: number, cell: ArrayLike<number>): number => (d.peepholes ? d.peepholes[index * n + i]! * cell[i]! : 0);
  const sum = (index: number, i: number): number => d.input(index * n + i, x) + d.recurrent(index * n + i, h);
  const coupled = intAttribute(attributes, "input_forget", 0) !== 0;
  const nextC = new Float64Array(n);
  const nextH = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    const enter = f(d.clip(sum(0, i) + peephole(0, i, c)));
    const forget = coupled ? 1 - enter : f(d.clip(sum(2, i) + peephole(2, i, c)));
    nextC[i] = forget * c[i]! + enter * g(d.clip(sum(3, i)));
    const leave = f(d.clip(sum(1, i) + peephole(1, i, nextC)));
    nextH[i] = leave * out(nextC[i]!);
  }
  return { h: nextH, c: nextC };
};

const DEFAULTS: Readonly<Record<number, readonly string[]>> = { 1: ["Tanh"], 3: ["Sigmoid", "Tanh"], 4: ["Sigmoid", "Tanh", "Tanh"] };

/** @param gates 1 RNN, 3 GRU, 4 LSTM */
function recurrent(gates: 1 | 3 | 4, cell: Cell): ReferenceOperator {
  return (inputs, attributes, context) => {
    const x = tensorInput(inputs, 0);
    const batchFirst = intAttribute(attributes, "layout", 0) === 1;
    const [seq, batch] = (batchFirst ? [x.dims[1], x.dims[0]] : [x.dims[0], x.dims[1]]) as [number, number];
    const width = x.dims[2]!;
    const directionName = stringAttribute(attributes, "direction", "forward");
    const directions = directionName === "bidirectional" ? 2 : 1;
    const hidden = intAttribute(attributes, "hidden_size", tensorInput(inputs, 2).dims[2]!);
    const numbers = toNumbers(x);
    const lengthsTensor = optionalTensor(inputs, 4);
    const lengths = lengthsTensor ? toNumbers(lengthsTensor) : undefined;
    const makeDirection = directionMaker(inputs, attributes, gates, hidden, width);
    const y = new Float64Array(seq * directions * batch * hidden);
    const lastH = new Float64Array(directions * batch * hidden);
    const lastC = new Float64Array(directions * batch * hidden);
    const startH = stateReader(inputs, 5, batchFirst, directions, batch, hidden);
    const startC = stateReader(inputs, 6, batchFirst, directions, batch, hidden);
    for (let d = 0; d < directions; d++) {
      const direction = makeDirection(d);
      const backwards = directionName === "reverse" || d === 1;
      for (let b = 0; b < batch; b++) {
        let state = { h: startH(d, b), c: startC(d, b) };
        const length = lengths ? lengths[b]! : seq;
        for (let step = 0; step < length; step++) {
          const t = backwards ? length - 1 - step : step;
          const from = (batchFirst ? b * seq + t : t * batch + b) * width;
          state = cell(direction, numbers.subarray(from, from + width), state.h, state.c, attributes);
          const to = batchFirst ? ((b * seq + t) * directions + d) * hidden : ((t * directions + d) * batch + b) * hidden;
          y.set(state.h, to);
        }
        const to = (batchFirst ? b * directions + d : d * batch + b) * hidden;
        lastH.set(state.h, to);
        lastC.set(state.c, to);
      }
    }
    const stateDims = batchFirst ? [batch, directions, hidden] : [directions, batch, hidden];
    const results: HostValue[] = [fromNumbers(x.type, y, batchFirst ? [batch, seq, directions, hidden] : [seq, directions, batch, hidden])];
    if (context.outputCount > 1) results.push(fromNumbers(x.type, lastH, stateDims));
    if (context.outputCount > 2) results.push(fromNumbers(x.type, lastC, stateDims));
    return results;
  };
}

function stateReader(inputs: Parameters<ReferenceOperator>[0], index: number, batchFirst: boolean, directions: number, batch: number, hidden: number): (d: number, b: number) => Float64Array {
  const tensor = optionalTensor(inputs, index);
  const numbers = tensor && toNumbers(tensor);
  return (d, b) => {
    const from = (batchFirst ? b * directions + d : d * batch + b) * hidden;
    return numbers ? numbers.slice(from, from + hidden) : new Float64Array(hidden);
  };
}

function directionMaker(inputs: Parameters<ReferenceOperator>[0], attributes: ReferenceAttributes, gates: 1 | 3 | 4, hidden: number, width: number): (d: number) => Direction {
  const w = toNumbers(tensorInput(inputs, 1));
  const r = toNumbers(tensorInput(inputs, 2));
  const biasTensor = optionalTensor(inputs, 3);
  const bias = biasTensor && toNumbers(biasTensor);
  const peepholeTensor = gates === 4 ? optionalTensor(inputs, 7) : undefined;
  const peepholes = peepholeTensor && toNumbers(peepholeTensor);
  const rows = gates * hidden;
  const defaults = DEFAULTS[gates]!;
  const names = stringsAttribute(attributes, "activations") ?? [...defaults, ...defaults];
  const activations = activationList(names, numbersAttribute(attributes, "activation_alpha") ?? [], numbersAttribute(attributes, "activation_beta") ?? []);
  const limit = floatAttribute(attributes, "clip", 0);
  const dot = (matrix: Float64Array, from: number, vector: ArrayLike<number>): number => {
    let sum = 0;
    for (let i = 0; i < vector.length; i++) sum += matrix[from + i]! * vector[i]!;
    return sum;
  };
  return (d) => {
    const own = activations.slice(d * defaults.length, (d + 1) * defaults.length);
    if (own.length < defaults.length) throw new UnsupportedError("unsupported", `A recurrent operator with ${activations.length} activations; expected ${defaults.length} per direction.`);
    return {
      hidden,
      activations: own,
      peepholes: peepholes?.subarray(d * 3 * hidden, (d + 1) * 3 * hidden),
      input: (row, x) => dot(w, (d * rows + row) * width, x) + (bias ? bias[d * 2 * rows + row]! : 0),
      recurrent: (row, h) => dot(r, (d * rows + row) * hidden, h) + (bias ? bias[d * 2 * rows + rows + row]! : 0),
      clip: (value) => (limit > 0 ? Math.min(Math.max(value, -limit), limit) : value),
    };
  };
}

export const recurrentOperators: ReferenceTable = { RNN: recurrent(1, rnnCell), GRU: recurrent(3, gruCell), LSTM: recurrent(4, lstmCell) };
