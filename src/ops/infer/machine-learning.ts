/** Operators of ai.onnx.ml. */
import type { DType } from "../../base/index.ts";
import type { Node, TensorConstant } from "../../ir/index.ts";
import type { InferRule } from "../contract.ts";
import { dimsOf, numberOf, type Rules, setOutput, typeOf } from "./rule.ts";

const arrayFeatureExtractor: InferRule = (node) => {
  const [x, columns] = [dimsOf(node, 0), dimsOf(node, 1)];
  const count = columns?.length === 1 ? columns[0]! : columns?.at(-1);
  setOutput(node, 0, typeOf(node, 0), x && count !== undefined ? [...(x.length > 1 ? x.slice(0, -1) : [1]), count] : undefined);
};

function valueType(node: Node): DType | undefined {
  const tensor = node.attributes["values_tensor"] as TensorConstant | undefined;
  if (tensor) return tensor.dtype;
  return (["string", "int64", "float32"] as const).find((_, i) => node.attributes[["values_strings", "values_int64s", "values_floats"][i]!] !== undefined);
}

const labelEncoder: InferRule = (node) => setOutput(node, 0, valueType(node), dimsOf(node, 0));

const treeEnsemble: InferRule = (node) => {
  const x = dimsOf(node, 0);
  setOutput(node, 0, typeOf(node, 0), x && [x.length > 1 ? x[0]! : 1, numberOf(node, "n_targets", 1)]);
};

export const MACHINE_LEARNING: Rules = { "ai.onnx.ml.ArrayFeatureExtractor": arrayFeatureExtractor, "ai.onnx.ml.LabelEncoder": labelEncoder, "ai.onnx.ml.TreeEnsemble": treeEnsemble };
