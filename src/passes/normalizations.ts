/**
 * Layer and RMS normalisation as exporters decompose them: TorchScript's Pow and Div, TensorFlow's folded factor and
 * offset, Llama's casts around. The result is LayerNormalization or RMSNormalization over the last axes.
 */
import { dimsEqual, type Dim, type Node, type Value } from "../ir/index.ts";
import { floatConstant, reducedAxes } from "./attributes.ts";
import type { Editor, Rule } from "./editor.ts";
import { any, type Bindings, either, match, maybeCast, op, originsOf, type Pattern, scalar } from "./match.ts";

const x = any("x");
const squareOf = (value: Pattern): Pattern => either(op("Mul", value, value), op("Pow", value, scalar("two")));
const mean = (value: Pattern): Pattern => op("ReduceMean", value);
const rootOf = (value: Pattern): Pattern => op("Sqrt", op("Add", value, scalar("epsilon")));
/** a / sqrt(v + epsilon), also as a * (1 / sqrt(v + epsilon)). */
const dividedByRoot = (a: Pattern, v: Pattern): Pattern => either(
  op("Div", a, rootOf(v)), op("Mul", a, either(op("Reciprocal", rootOf(v)), op("Div", scalar("one"), rootOf(v)), op("Pow", op("Add", v, scalar("epsilon")), scalar("minusHalf")))));

const centered = maybeCast(op("Sub", x, mean(x)));
const layer = dividedByRoot(centered, mean(squareOf(centered)));

/** x * f + (beta - mean * f) with f = gamma / sqrt(variance + epsilon). */
const inverse = either(op("Reciprocal", rootOf(mean(squareOf(op("Sub", x, mean(x)))))), op("Div", scalar("one"), rootOf(mean(squareOf(op("Sub", x, mean(x)))))));
const factor = either(op("Mul", inverse, any("gamma")), inverse);
const tensorflowLayer = op("Add", op("Mul", x, factor), op("Sub", any("beta"), op("Mul", mean(x), factor)));

const rms = dividedByRoot(x, mean(squareOf(x)));

/** The normalised axes: the last ones, the same in every mean, kept as dimensions. */
function axisOf(found: Bindings): number | undefined {
  const means = found.nodes.filter((node) => node.op === "ReduceMean");
  const rank = means[0]?.inputs[0]?.dims?.length;
  const lists = means.map((node) => (Number(node.attributes["keepdims"] ?? 1) !== 0 ? reducedAxes(node) : undefined));
  const [first] = lists;
  if (rank === undefined || !first || first.length === 0 || !lists.every((list) => String(list) === String(first))) return undefined;
  return first.every((axis, i) => axis === rank - first.length + i) ? first[0]! : undefined;
}

const near = (value: number | undefined, wanted: number): boolean => value === undefined || Math.abs(value - wanted) < 1e-6;
const isPlain = ({ numbers }: Bindings): boolean => near(numbers.get("two"), 2) && near(numbers.get("one"), 1) && near(numbers.get("minusHalf"), -0.5);

function ones(input: Value, axis: number): Value | undefined {
  const dims = input.dims!.slice(axis);
  return dims.every((dim) => typeof dim === "number") ? floatConstant(input.dtype, new Array<number>(dims.reduce((a, b) => a * b, 1)).fill(1), dims) : undefined;
}

/** The plain forms get a scale of one; a Mul and Add that follow are taken in by `absorbScale`. */
export const recogniseNormalizations: Rule = (node, editor) => {
  if (node.domain !== "" || !/^(Div|Mul|Add)$/.test(node.op)) return false;
  return recogniseTensorflow(node, editor) || recognisePlain(node, editor, layer, "LayerNormalization") || recognisePlain(node, editor, rms, "RMSNormalization");
};

function recognisePlain(node: Node, editor: Editor, pattern: Pattern, name: string): boolean {
  const found = node.op === "Add" ? undefined : match(node.outputs[0], pattern);
  const input = found?.values.get("x");
  const axis = found && axisOf(found);
  if (!found || !input?.dims || axis === undefined || !isPlain(found) || input.dtype !== node.outputs[0]?.dtype) return false;
  const scale = ones(input, axis);
  if (!scale) return false;
  return editor.replaceNode(node, editor.emit(name, [input, scale], { axis, epsilon: found.numbers.get("epsilon")! }, { origins: originsOf(found.nodes) }));
}

function recogniseTensorflow(node: Node, editor: Editor): boolean {
  const found = node.op === "Add" ? match(node.outputs[0], tensorflowLayer) : undefined;
  const input = found?.values.get("x");
  const axis = found && axisOf(found);
  if (!found || !input?.dims || axis === undefined || !isPlain(found)) return false;
  const beta = found.values.get("beta");
  const gamma = found.values.get("gamma") ?? ones(input, axis);
  if (!gamma || !beta || ![gamma, beta].every((value) => fits(value, input.dims!.slice(axis)))) return false;
  return editor.replaceNode(node, editor.emit("LayerNormalization", [input, gamma, beta], { axis, epsilon: found.numbers.get("epsilon")! }, { origins: originsOf(found.nodes) }));
}

const fits = (value: Value, dims: readonly Dim[]): boolean => value.dims !== undefined && dimsEqual(value.dims, dims);

function isOnes(value: Value | undefined): boolean {
  if (!value?.constant || value.dtype !== "float32") return false;
  const { bytes } = value.constant;
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i < bytes.byteLength; i += 4) if (data.getFloat32(i, true) !== 1) return false;
  return true;
}

/** Mul after a normalisation without scale, and Add after one without bias, become its scale and bias. */
export const absorbScale: Rule = (node, editor) => {
  if (node.domain !== "" || (node.op !== "Mul" && node.op !== "Add")) return false;
  const at = node.inputs.findIndex((input) => input?.producer && /^(LayerNormalization|RMSNormalization)$/.test(input.producer.op) && input.producer.outputs[0] === input);
  const value = node.inputs[at];
  const other = node.inputs[1 - at];
  const before = value?.producer;
  if (at < 0 || !before || !other || !editor.isOnlyUse(value) || before.outputs.slice(1).some((output) => output && editor.usersOf(output).length > 0)) return false;
  const axis = Number(before.attributes["axis"] ?? -1);
  const rank = value.dims!.length;
  if (!other.constant || !fits(other, value.dims!.slice(axis < 0 ? axis + rank : axis)) || other.dtype !== value.dtype) return false;
  if (node.op === "Mul" ? !isOnes(before.inputs[1]) || before.inputs[2] : before.op !== "LayerNormalization" || before.inputs[2]) return false;
  const inputs = node.op === "Mul" ? [before.inputs[0], other] : [before.inputs[0], before.inputs[1], other];
  return editor.replaceNode(node, editor.emit(before.op, inputs, before.attributes, { origins: [...before.origins, ...node.origins] }));
};
