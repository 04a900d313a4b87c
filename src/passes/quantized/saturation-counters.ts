/**
 * Counters of saturation: a further output says for every value that is quantized by known scales which share of its bytes
 * lies at an end of their range. Data like those that the scales were made from hardly reach the ends; data that have
 * drifted do. Bytes are looked at where they lie, one row of channels in sixteen, so that counting costs about a hundredth of
 * a run. Scales that are found as a run goes never saturate, and are not counted.
 */
import { constantValue, type Graph, type Node, usersOf, type Value } from "../../ir/index.ts";
import { dataTypeOf } from "../../onnx/index.ts";
import { shapeOperand } from "../attributes.ts";
import { append } from "./append.ts";
import { constantNumbers, isByte, isNode } from "./operands.ts";

export const SATURATION_OUTPUT = "sinter.saturation";

/** Of so many rows of channels one is looked at. */
const STRIDE = 16;

/** Adds the output. @returns the layers counted, by the names of the nodes that read the bytes, in the output's order */
export function countSaturation(graph: Graph): string[] {
  const users = usersOf(graph);
  const counted = graph.nodes.filter((node) => isNode(node, "QuantizeLinear") && isByte(node.outputs[0]) && node.inputs[1]?.constant !== undefined && node.inputs[0]?.dims !== undefined);
  if (counted.length === 0) return [];
  const shares = counted.map((node) => shareOf(graph, node));
  graph.outputs.push(append(graph, "Concat", shares, { axis: 0 }, SATURATION_OUTPUT));
  const times = new Map<string, number>();
  return counted.map((node) => {
    const name = nameOf(users.get(node.outputs[0]!)?.[0] ?? node);
    const count = (times.get(name) ?? 0) + 1;
    times.set(name, count);
    return count === 1 ? name : `${name}#${count}`;
  });
}

const nameOf = (node: Node): string => node.origins[0] ?? (node.name || node.outputs[0]!.name);

/** float32 [1]: the share of the node's sampled bytes that are at an end. */
function shareOf(graph: Graph, node: Node): Value {
  const bytes = node.outputs[0]!;
  const add = (op: string, inputs: readonly Value[], attributes: Node["attributes"] = {}): Value => append(graph, op, inputs, attributes, `${bytes.name}/saturation.${op}.${graph.nodes.length}`);
  const sampled = rowsOf(bytes, add);
  const [low, high] = bytes.dtype === "uint8" ? [0, 255] : [-128, 127];
  const equals = (end: number): Value => add("Equal", [sampled, constantValue(bytes.dtype!, [], Uint8Array.of(end & 255))]);
  const zeros = node.inputs[2] ? constantNumbers(node.inputs[2]) : undefined;
  // Where zero is the lowest byte, values below it are cut off by design, as Relu does.
  const hits = zeros && Array.prototype.some.call(zeros, (zero) => zero !== low) ? add("Or", [equals(low), equals(high)]) : equals(high);
  const share = add("ReduceMean", [add("Cast", [hits], { to: dataTypeOf("float32") })], { keepdims: 0 });
  return add("Reshape", [share, shapeOperand([1])]);
}

/** Some rows of channels, channels last. */
function rowsOf(bytes: Value, add: (op: string, inputs: readonly Value[], attributes?: Node["attributes"]) => Value): Value {
  const channels = bytes.dims!.at(-1);
  if (bytes.dims!.length < 2 || typeof channels !== "number") return bytes;
  const rows = add("Reshape", [bytes, shapeOperand([-1, channels])]);
  return add("Slice", [rows, shapeOperand([0]), shapeOperand([Number.MAX_SAFE_INTEGER]), shapeOperand([0]), shapeOperand([STRIDE])]);
}
