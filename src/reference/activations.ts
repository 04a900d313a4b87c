/**
 * Activations named by an attribute: those of RNN, GRU and LSTM, and of com.microsoft's fused operators.
 * Sources: ONNX LSTM-22 (activation_alpha, activation_beta and their defaults); com.microsoft FusedConv, FusedGemm.
 */
import { UnsupportedError } from "../base/index.ts";
import type { ReferenceAttributes } from "./contract.ts";
import { numbersAttribute, stringAttribute } from "./arguments.ts";

export type Activation = (x: number) => number;

interface Row {
  readonly alpha?: number;
  readonly beta?: number;
  readonly make: (alpha: number, beta: number) => Activation;
}

const sigmoid: Activation = (x) => 1 / (1 + Math.exp(-x));

const ACTIVATIONS: Readonly<Record<string, Row>> = {
  relu: { make: () => (x) => Math.max(x, 0) },
  tanh: { make: () => Math.tanh },
  sigmoid: { make: () => sigmoid },
  affine: { alpha: 1, beta: 0, make: (alpha, beta) => (x) => alpha * x + beta },
  leakyrelu: { alpha: 0.01, make: (alpha) => (x) => (x < 0 ? alpha * x : x) },
  thresholdedrelu: { alpha: 1, make: (alpha) => (x) => (x > alpha ? x : 0) },
  scaledtanh: { alpha: 1, beta: 1, make: (alpha, beta) => (x) => alpha * Math.tanh(beta * x) },
  hardsigmoid: { alpha: 0.2, beta: 0.5, make: (alpha, beta) => (x) => Math.min(Math.max(alpha * x + beta, 0), 1) },
  elu: { alpha: 1, make: (alpha) => (x) => (x < 0 ? alpha * Math.expm1(x) : x) },
  softsign: { make: () => (x) => x / (1 + Math.abs(x)) },
  softplus: { make: () => (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))) },
  clip: { alpha: Number.NEGATIVE_INFINITY, beta: Number.POSITIVE_INFINITY, make: (low, high) => (x) => Math.min(Math.max(x, low), high) },
  hardswish: { alpha: 1 / 6, beta: 0.5, make: (alpha, beta) => (x) => x * Math.min(Math.max(alpha * x + beta, 0), 1) },
};

export function activation(name: string, alpha?: number, beta?: number): Activation {
  const row = ACTIVATIONS[name.toLowerCase()];
  if (!row) throw new UnsupportedError("unsupported", `Activation "${name}" is not one of ${Object.keys(ACTIVATIONS).join(", ")}.`);
  return row.make(alpha ?? row.alpha ?? 0, beta ?? row.beta ?? 0);
}

/** Applies the attributes `activation` and `activation_params` (or FusedGemm's alpha and beta) in place. */
export function activate(numbers: Float64Array, attributes: ReferenceAttributes): void {
  const name = stringAttribute(attributes, "activation", "");
  if (name === "") return;
  const [alpha, beta] = numbersAttribute(attributes, "activation_params") ?? [];
  const f = activation(name, alpha, beta);
  for (let i = 0; i < numbers.length; i++) numbers[i] = f(numbers[i]!);
}

/** The activations of a recurrent operator: one after the other take their alpha and beta from the lists. */
export function activationList(names: readonly string[], alphas: readonly number[], betas: readonly number[]): Activation[] {
  let a = 0;
  let b = 0;
  return names.map((name) => {
    const row = ACTIVATIONS[name.toLowerCase()];
    const alpha = row?.alpha !== undefined ? alphas[a++] : undefined;
    const beta = row?.beta !== undefined ? betas[b++] : undefined;
    return activation(name, alpha, beta);
  });
}
