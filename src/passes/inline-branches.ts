/** An If whose condition is known becomes the branch that is taken. */
import type { Graph } from "../ir/index.ts";
import type { Rule } from "./editor.ts";
import { scalarOf } from "./match.ts";
import { knownNumbers } from "./attributes.ts";

export const inlineBranches: Rule = (node, editor) => {
  if (node.op !== "If" || node.domain !== "") return false;
  const condition = scalarOf(node.inputs[0]) ?? knownNumbers(node.inputs[0])?.[0];
  if (condition === undefined) return false;
  const branch = node.attributes[condition !== 0 ? "then_branch" : "else_branch"] as Graph;
  for (const inner of branch.nodes) {
    inner.origins = [...new Set([...inner.origins, ...node.origins])];
    editor.place(inner);
  }
  node.outputs.forEach((output, i) => {
    const result = branch.outputs[i];
    if (output && result) editor.replace(output, result);
  });
  return true;
};
