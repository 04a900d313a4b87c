/** onnxruntime's operators whose composition depends on ranks: asked again now that shapes are known. */
import { decomposeContrib } from "../onnx/index.ts";
import { inferNode } from "../ops/index.ts";
import type { Rule } from "./editor.ts";

export const decomposeContribOperators: Rule = (node, editor) => {
  const isWanted = (value: NonNullable<(typeof node.outputs)[number]>): boolean => editor.isOutput(value) || editor.usersOf(value).length > 0;
  const outputs = [...node.outputs];
  const made = decomposeContrib(node, isWanted);
  if (!made) return false;
  for (const part of made) {
    editor.place(part);
    inferNode(part);
  }
  node.outputs = outputs.map(() => undefined);
  editor.discard(node);
  return true;
};
