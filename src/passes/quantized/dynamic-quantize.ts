/**
 * DynamicQuantizeLinear as reductions and a QuantizeLinear whose scale is computed: rows are reduced first, so that
 * threads share the work, then the rows' results. The same bits as the operator itself.
 * Source: ONNX DynamicQuantizeLinear-11.
 */
import { float32Constant, type Node, type Value } from "../../ir/index.ts";
import { dataTypeOf } from "../../onnx/index.ts";
import { shapeOperand } from "../attributes.ts";
import type { Editor, Rule } from "../editor.ts";

export const expandDynamicQuantize: Rule = (node, editor) => {
  const [x] = node.inputs;
  if (node.op !== "DynamicQuantizeLinear" || node.domain !== "" || !x?.dims || x.dims.length === 0 || x.dtype !== "float32") return false;
  const number = (value: number): Value => float32Constant([value], []);
  const low = editor.emit("Min", [extreme(editor, "ReduceMin", x), number(0)]);
  const high = editor.emit("Max", [extreme(editor, "ReduceMax", x), number(0)]);
  const scale = editor.emit("Div", [editor.emit("Sub", [high, low]), number(255)]);
  // All zeros: any divisor gives zeros.
  const divisor = editor.emit("Where", [editor.emit("Equal", [scale, number(0)]), number(1), scale]);
  const quotient = editor.emit("Div", [editor.emit("Neg", [low]), divisor]);
  const zero = editor.emit("Cast", [editor.emit("Clip", [editor.emit("Round", [quotient]), number(0), number(255)])], { to: dataTypeOf("uint8") });
  const results = [editor.emit("QuantizeLinear", [x, divisor, zero]), scale, zero];
  replaceAll(node, results, editor);
  return true;
};

/** The least or largest element, as a scalar. */
function extreme(editor: Editor, op: "ReduceMin" | "ReduceMax", x: Value): Value {
  const rows = x.dims!.length > 1 ? editor.emit(op, [x, shapeOperand([x.dims!.length - 1])], { keepdims: 0 }) : x;
  return editor.emit(op, [rows], { keepdims: 0 });
}

function replaceAll(node: Node, results: readonly Value[], editor: Editor): void {
  const outputs = [...node.outputs];
  outputs.forEach((output, i) => { if (output && (editor.usersOf(output).length > 0 || editor.isOutput(output))) editor.replace(output, results[i]!); });
}
