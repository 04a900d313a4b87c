/**
 * Softmax, LogSoftmax and Hardmax before opset 13 flatten their input to two dimensions at `axis` (1 when absent) and
 * work on the second. Where `axis` is the last one that is the newer form; otherwise the flattening is written out.
 * Source: ONNX Softmax-11, LogSoftmax-11, Hardmax-11.
 */
import type { Node } from "../../ir/index.ts";
import { type Rewriter, takeNumber } from "../rewriter.ts";
import type { UpgradeTable } from "./table.ts";

function flattened(node: Node, rewriter: Rewriter): "replaced" | undefined {
  const [x] = node.inputs;
  const axis = takeNumber(node, "axis") ?? 1;
  const rank = x?.dims?.length ?? node.outputs[0]?.dims?.length;
  if (axis === -1 || (rank !== undefined && axis === rank - 1)) {
    node.attributes["axis"] = -1;
    return undefined;
  }
  const shape = rewriter.emit("Shape", [x]);
  const matrix = rewriter.emit("Flatten", [x], { axis });
  const result = rewriter.emit(node.op, [matrix], { axis: -1 });
  rewriter.emit("Reshape", [result, shape], {}, node.outputs[0]);
  return "replaced";
}

export const softmax: UpgradeTable = {
  Softmax: [{ until: 13, rewrite: flattened }],
  LogSoftmax: [{ until: 13, rewrite: flattened }],
  Hardmax: [{ until: 13, rewrite: flattened }],
};
