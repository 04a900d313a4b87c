/**
 * Forms older than opset 7: broadcasting stated by attributes, casts by type name, and the `consumed_inputs` that meant
 * nothing to results. Scatter and Scan-8 stand here too.
 * Source: ONNX operator changelog, opsets 1 to 11.
 */
import { DTYPES } from "../../base/index.ts";
import { Graph, type Node, Value } from "../../ir/index.ts";
import { dataTypeOf } from "../tensor-data.ts";
import { type Rewriter, takeNumber, takeNumbers } from "../rewriter.ts";
import type { UpgradeTable } from "./table.ts";

/** Without `axis` the second operand aligns at the end, as ever since; with it, trailing ones are appended. */
function broadcastByAttributes(node: Node, rewriter: Rewriter): undefined {
  delete node.attributes["consumed_inputs"];
  const axis = takeNumber(node, "axis");
  takeNumber(node, "broadcast");
  if (axis === undefined) return;
  const [a, b] = node.inputs;
  const ranks = { a: a?.dims?.length, b: b?.dims?.length };
  if (!a || !b || ranks.a === undefined || ranks.b === undefined) rewriter.invalid('attribute "axis" of an old broadcast needs inputs of known rank.');
  const from = axis < 0 ? axis + ranks.a : axis;
  const trailing = ranks.a - from - ranks.b;
  if (trailing <= 0) return;
  node.inputs[1] = rewriter.emit("Unsqueeze", [b, rewriter.int64(Array.from({ length: trailing }, (_, i) => -1 - i))]);
}

/** A slope of one value per channel stood for axis 1, whatever the rank of x. */
function slopePerChannel(node: Node, rewriter: Rewriter): undefined {
  delete node.attributes["consumed_inputs"];
  const [x, slope] = node.inputs;
  const rank = x?.dims?.length;
  if (!slope || rank === undefined || slope.dims?.length !== 1 || slope.dims[0] === 1 || rank <= 2) return;
  node.inputs[1] = rewriter.emit("Unsqueeze", [slope, rewriter.int64(Array.from({ length: rank - 2 }, (_, i) => -1 - i))]);
}

function dropConsumedInputs(node: Node): undefined {
  delete node.attributes["consumed_inputs"];
}

const OLD_NAMES: Readonly<Record<string, string>> = { float: "float32", double: "float64" };

function castByName(node: Node, rewriter: Rewriter): undefined {
  const { to } = node.attributes;
  if (typeof to !== "string") return;
  const name = OLD_NAMES[to.toLowerCase()] ?? to.toLowerCase();
  const dtype = DTYPES.find((known) => known === name) ?? rewriter.invalid(`attribute "to" is "${to}", which is no element type.`);
  node.attributes["to"] = dataTypeOf(dtype);
}

function concatAxis(node: Node): undefined {
  node.attributes["axis"] ??= 1;
}

function tileOneAxis(node: Node, rewriter: Rewriter): undefined {
  if (node.inputs.length === 3) rewriter.invalid("the form with inputs tiles and axis (opset 1) is not read; export at opset 6 or later.");
}

function scatter(node: Node): undefined {
  node.op = "ScatterElements";
}

function outputSequence(node: Node): undefined {
  delete node.attributes["output_sequence"];
}

/**
 * Scan-8 has a batch dimension before the sequence's. It becomes a Scan over the batch whose body is the Scan over the
 * sequence: everything it reads and writes has the batch first.
 */
function batchedScan(node: Node, rewriter: Rewriter): "replaced" {
  const [lengths, ...inputs] = node.inputs;
  if (lengths) rewriter.invalid("input sequence_lens is not read; export Scan at opset 9 or later.");
  const directions = takeNumbers(node, "directions");
  const scanned = Number(node.attributes["num_scan_inputs"] ?? rewriter.invalid('attribute "num_scan_inputs" is missing.'));
  const batch = new Graph(`${node.name}/batch`);
  batch.inputs = inputs.map((input, i) => new Value(`${node.name}/batch_in${i}`, input?.dtype));
  batch.outputs = node.outputs.map((output, i) => new Value(`${node.name}/batch_out${i}`, output?.dtype));
  const attributes = { ...node.attributes, ...(directions ? { scan_input_directions: directions } : {}) };
  batch.append({ op: "Scan", inputs: [...batch.inputs], outputs: [...batch.outputs], attributes: { ...attributes, num_scan_inputs: scanned }, name: `${node.name}/sequence`, origins: node.origins });
  rewriter.emitMany("Scan", inputs, { body: batch, num_scan_inputs: inputs.length }, node.outputs);
  return "replaced";
}

const BROADCASTING = ["Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less", "Gemm"];
const CONSUMING = ["Abs", "Ceil", "Clip", "Elu", "Exp", "Floor", "HardSigmoid", "InstanceNormalization", "LeakyRelu", "Log", "Max", "Mean", "Min", "Neg", "Reciprocal", "Relu", "Selu", "Sigmoid", "Sqrt", "Sum", "Tanh", "Dropout", "Reshape"];

export const legacy: UpgradeTable = {
  ...Object.fromEntries(CONSUMING.map((op) => [op, [{ until: 6, rewrite: dropConsumedInputs }]])),
  ...Object.fromEntries(BROADCASTING.map((op) => [op, [{ until: 7, rewrite: broadcastByAttributes }]])),
  Cast: [{ until: 6, rewrite: castByName }],
  PRelu: [{ until: 7, rewrite: slopePerChannel }],
  Concat: [{ until: 4, rewrite: concatAxis }],
  Tile: [{ until: 6, rewrite: tileOneAxis }],
  Scatter: [{ until: Number.POSITIVE_INFINITY, rewrite: scatter }],
  RNN: [{ until: 7, rewrite: outputSequence }],
  GRU: [{ until: 7, rewrite: outputSequence }],
  LSTM: [{ until: 7, rewrite: outputSequence }],
  Scan: [{ until: 9, rewrite: batchedScan }],
};
