/**
 * Activations: GELU in onnxruntime's spellings, and those that its fusions append to Conv, Gemm and MatMul.
 * Source: onnxruntime, ContribOperators.md: Gelu, BiasGelu, FastGelu, QuickGelu, GemmFastGelu, FusedConv, FusedGemm.
 */
import type { Node, Value } from "../../ir/index.ts";
import type { Rewrite, Rewriter } from "../rewriter.ts";

function gelu(node: Node, rewriter: Rewriter): "replaced" {
  rewriter.emit("Gelu", [node.inputs[0]], {}, node.outputs[0]);
  return "replaced";
}

function biasGelu(node: Node, rewriter: Rewriter): "replaced" {
  const sum = rewriter.emit("Add", [node.inputs[0], node.inputs[1]]);
  rewriter.emit("Gelu", [sum], {}, node.outputs[0]);
  return "replaced";
}

function fastGelu(node: Node, rewriter: Rewriter): "replaced" {
  const [x, bias] = node.inputs;
  rewriter.emit("Gelu", [bias ? rewriter.emit("Add", [x, bias]) : x], { approximate: "tanh" }, node.outputs[0]);
  return "replaced";
}

function gemmFastGelu(node: Node, rewriter: Rewriter): "replaced" {
  const [x, weights, bias] = node.inputs;
  const product = rewriter.emit("MatMul", [x, weights]);
  rewriter.emit("Gelu", [bias ? rewriter.emit("Add", [product, bias]) : product], { approximate: "tanh" }, node.outputs[0]);
  return "replaced";
}

function quickGelu(node: Node, rewriter: Rewriter): "replaced" {
  const [x] = node.inputs;
  const alpha = rewriter.scalarLike(Number(node.attributes["alpha"] ?? 1.702), x);
  const gate = rewriter.emit("Sigmoid", [rewriter.emit("Mul", [x, alpha])]);
  rewriter.emit("Mul", [x, gate], {}, node.outputs[0]);
  return "replaced";
}

/** The attributes that the parameters of an activation stand for, in their order. */
const PARAMETERS: Readonly<Record<string, readonly string[]>> = {
  Relu: [], Tanh: [], Sigmoid: [], Softplus: [], Softsign: [], LeakyRelu: ["alpha"], Elu: ["alpha"], Selu: ["alpha", "gamma"],
  HardSigmoid: ["alpha", "beta"], ThresholdedRelu: ["alpha"], HardSwish: [],
};

/** Writes activation(x) to `output`. @returns false when the activation is not known */
export function emitActivation(rewriter: Rewriter, name: string, parameters: readonly (number | undefined)[], x: Value, output: Value | undefined): boolean {
  if (name === "Clip") {
    const [low, high] = parameters;
    const bound = (value: number | undefined): Value | undefined => (value === undefined ? undefined : rewriter.scalarLike(value, x));
    rewriter.emit("Clip", [x, bound(low), bound(high)], {}, output);
    return true;
  }
  const names = PARAMETERS[name];
  if (!names) return false;
  const pairs = names.map((key, i) => [key, parameters[i]] as const).filter((pair): pair is readonly [string, number] => pair[1] !== undefined);
  rewriter.emit(name, [x], Object.fromEntries(pairs), output);
  return true;
}

export function isKnownActivation(name: string): boolean {
  return name === "Clip" || name in PARAMETERS;
}

export const activationRewrites: Readonly<Record<string, Rewrite>> = { Gelu: gelu, BiasGelu: biasGelu, FastGelu: fastGelu, GemmFastGelu: gemmFastGelu, QuickGelu: quickGelu };
