/** Activations that exporters spell out: GELU (erf and tanh), SiLU, HardSwish, HardSigmoid, Mish, Softmax. */
import type { Node } from "../ir/index.ts";
import { reducedAxes } from "./attributes.ts";
import type { Rule } from "./editor.ts";
import { any, either, match, number, op, originsOf, type Pattern } from "./match.ts";

interface Spelling {
  readonly pattern: Pattern;
  readonly op: string;
  readonly attributes: Readonly<Record<string, number | string>>;
}

const x = any("x");

/** 1 + erf(x / sqrt(2)). */
const erfGate = op("Add", op("Erf", either(op("Div", x, number(Math.SQRT2)), op("Mul", x, number(Math.SQRT1_2)))), number(1));

/** 1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)). */
const cube = either(op("Pow", x, number(3)), op("Mul", op("Mul", x, x), x), op("Mul", x, op("Pow", x, number(2))));
const inner = either(op("Add", x, op("Mul", cube, number(0.044715))), op("Add", x, op("Mul", op("Mul", x, number(0.044715)), op("Mul", x, x))),
  op("Add", x, op("Mul", op("Mul", op("Mul", x, number(0.044715)), x), x)), op("Mul", x, op("Add", op("Mul", op("Mul", x, x), number(0.044715)), number(1))),
  op("Mul", x, op("Add", op("Mul", op("Mul", x, number(0.044715)), x), number(1))));
const root = Math.sqrt(2 / Math.PI);
const tanhGate = op("Add", op("Tanh", either(op("Mul", inner, number(root)),
  op("Mul", op("Mul", x, number(root)), op("Add", op("Mul", op("Mul", x, x), number(0.044715)), number(1))))), number(1));

/** x * gate / 2 in any order. */
const halved = (gate: Pattern): Pattern => either(
  op("Mul", op("Mul", x, gate), number(0.5)), op("Mul", op("Mul", x, number(0.5)), gate), op("Mul", x, op("Mul", gate, number(0.5))), op("Div", op("Mul", x, gate), number(2)));

/** min(max(x + 3, 0), 6) / 6. */
const relu6 = (value: Pattern): Pattern => either(op("Clip", value, number(0), number(6)), op("Min", op("Relu", value), number(6)), op("Min", op("Max", value, number(0)), number(6)));
const plus3 = relu6(op("Add", x, number(3)));
const hardSigmoid = either(op("Div", plus3, number(6)), op("Mul", plus3, number(1 / 6)));

const SPELLINGS: readonly Spelling[] = [
  { op: "Gelu", attributes: {}, pattern: halved(erfGate) },
  { op: "Gelu", attributes: { approximate: "tanh" }, pattern: halved(tanhGate) },
  { op: "Swish", attributes: {}, pattern: either(op("Mul", x, op("Sigmoid", x))) },
  { op: "HardSwish", attributes: {}, pattern: either(op("Mul", x, hardSigmoid), op("Div", op("Mul", x, plus3), number(6)), op("Mul", op("Mul", x, plus3), number(1 / 6)), op("Mul", op("Mul", x, number(1 / 6)), plus3)) },
  { op: "HardSigmoid", attributes: { alpha: 1 / 6, beta: 0.5 }, pattern: hardSigmoid },
  { op: "Mish", attributes: {}, pattern: op("Mul", x, op("Tanh", op("Softplus", x))) },
];

export const recogniseActivations: Rule = (node, editor) => {
  if (node.domain !== "" || !/^(Mul|Div)$/.test(node.op)) return false;
  if (node.inputs.some((input) => !input?.dims) || isHardSwish(node)) return recogniseHardSwish(node, editor);
  for (const spelling of SPELLINGS) {
    const found = match(node.outputs[0], spelling.pattern);
    const input = found?.values.get("x");
    if (!found || !input || input.constant) continue;
    return editor.replaceNode(node, editor.emit(spelling.op, [input], { ...spelling.attributes }, { origins: originsOf(found.nodes) }));
  }
  return false;
};

/** x * HardSigmoid(x) with slope 1/6, as newer exporters write it. */
function isHardSwish(node: Node): boolean {
  const gate = [node.inputs[0], node.inputs[1]].find((input) => input?.producer?.op === "HardSigmoid");
  const other = node.inputs.find((input) => input !== gate);
  const producer = gate?.producer;
  if (node.op !== "Mul" || !producer || producer.inputs[0] !== other) return false;
  return Math.abs(Number(producer.attributes["alpha"] ?? 0.2) - 1 / 6) < 1e-6 && Number(producer.attributes["beta"] ?? 0.5) === 0.5;
}

const recogniseHardSwish: Rule = (node, editor) => {
  if (!isHardSwish(node)) return false;
  const gate = node.inputs.find((input) => input?.producer?.op === "HardSigmoid")!;
  return editor.replaceNode(node, editor.emit("HardSwish", [gate.producer!.inputs[0]], {}, { origins: [...gate.producer!.origins, ...node.origins] }));
};

/** exp(x - max(x)) / sum(exp(x - max(x))) over one axis. */
const exponential = op("Exp", op("Sub", x, op("ReduceMax", x)));
const softmax = either(op("Div", exponential, op("ReduceSum", exponential)));

export const recogniseSoftmax: Rule = (node, editor) => {
  const found = node.op === "Div" ? match(node.outputs[0], softmax) : undefined;
  const input = found?.values.get("x");
  if (!found || !input) return false;
  const axes = found.nodes.filter((item) => item.op.startsWith("Reduce")).map((item) => (Number(item.attributes["keepdims"] ?? 1) !== 0 ? reducedAxes(item) : undefined));
  const [first] = axes;
  if (first?.length !== 1 || !axes.every((list) => list?.length === 1 && list[0] === first[0])) return false;
  return editor.replaceNode(node, editor.emit("Softmax", [input], { axis: first[0]! }, { origins: originsOf(found.nodes) }));
};
