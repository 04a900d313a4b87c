/** Sequences, optionals and strings: host-only values whose tensors share a type; their shapes may differ. */
import type { DType } from "../../base/index.ts";
import type { Node, ValueKind } from "../../ir/index.ts";
import type { InferRule } from "../contract.ts";
import { dataDim, dimsOf, forAll, type Rules, setOutput, typeAttribute, typeOf } from "./rule.ts";

function setKind(node: Node, output: number, kind: ValueKind, dtype: DType | undefined): void {
  const value = node.outputs[output];
  if (!value) return;
  value.kind = kind;
  setOutput(node, output, dtype, undefined);
}

const sequenceOf = (dtype: (node: Node) => DType | undefined): InferRule => (node) => setKind(node, 0, "sequence", dtype(node));

const sequenceAt: InferRule = (node) => setOutput(node, 0, typeOf(node, 0), node.inputs[0]?.dims);

const count: InferRule = (node) => setOutput(node, 0, "int64", []);

const concatFromSequence: InferRule = (node) => setOutput(node, 0, typeOf(node, 0), undefined);

const optional: InferRule = (node) => {
  const inner = node.inputs[0];
  const stated = String(node.attributes["type"] ?? "").match(/tensor\((\w+)\)/)?.[1] as DType | undefined;
  setKind(node, 0, "optional", inner?.dtype ?? stated);
};

/** The content's kind and shape are those of what made the optional, where that is seen. */
const optionalElement: InferRule = (node) => {
  const value = node.inputs[0];
  const output = node.outputs[0];
  if (!value || !output) return;
  const content = value.kind === "optional" ? (value.producer?.op === "Optional" ? value.producer.inputs[0] : undefined) : value;
  if (content) output.kind = content.kind;
  setOutput(node, 0, value.dtype, content?.dims);
};

const splitString: InferRule = (node, context) => {
  const dims = dimsOf(node, 0);
  setOutput(node, 0, "string", dims && [...dims, dataDim(node, 0, dims.length, context)]);
  setOutput(node, 1, "int64", dims);
};

const normalizeString: InferRule = (node, context) => {
  const dims = dimsOf(node, 0);
  setOutput(node, 0, "string", dims?.map((dim, i) => (i === dims.length - 1 ? dataDim(node, 0, i, context) : dim)));
};

export const SEQUENCE: Rules = {
  ...forAll("SequenceConstruct SequenceErase SplitToSequence", sequenceOf((node) => typeOf(node, 0))),
  SequenceInsert: sequenceOf((node) => typeOf(node, 0) ?? typeOf(node, 1)),
  SequenceEmpty: sequenceOf((node) => typeAttribute(node, "dtype", "float32")),
  SequenceAt: sequenceAt, SequenceLength: count, ConcatFromSequence: concatFromSequence,
  Optional: optional, OptionalGetElement: optionalElement, OptionalHasElement: (node) => setOutput(node, 0, "bool", []),
  StringSplit: splitString, StringNormalizer: normalizeString,
};
