/**
 * Rows and columns exchanged under one batch axis: Reshape(Transpose(Reshape(x, [a * b, c, d])), [a, b, d, c]) becomes
 * a Transpose of x [a, b, c, d]. torch's dynamo exporter writes the keys of attention so; what repeats them for groups
 * of heads is seen again after it.
 */
import { dimEqual, dimsEqual, product } from "../ir/index.ts";
import { permOf } from "./attributes.ts";
import type { Rule } from "./editor.ts";
import { reshaped, transposed } from "./permute.ts";
import { isReshape } from "./simplify.ts";

export const splitBatchedTransposes: Rule = (node, editor) => {
  const exchange = isReshape(node) ? node.inputs[0]?.producer : undefined;
  const merge = exchange?.op === "Transpose" && exchange.domain === "" ? exchange.inputs[0]?.producer : undefined;
  const source = isReshape(merge) ? merge.inputs[0] : undefined;
  const [from, to, merged] = [source?.dims, node.outputs[0]?.dims, merge?.outputs[0]?.dims];
  if (!exchange || !source || !from || !to || merged?.length !== 3 || to.length < 3 || String(permOf(exchange)) !== "0,2,1") return false;
  const [batch, rows, columns] = merged;
  const lead = to.slice(0, -2);
  if (!dimsEqual(to.slice(-2), [columns!, rows!]) || !dimEqual(product(lead), batch!)) return false;
  return editor.replaceNode(node, transposed(editor, reshaped(editor, source, [...lead, rows!, columns!]), [...lead.keys(), lead.length + 1, lead.length]));
};
