/** What is computed beside a model: nodes behind all others. */
import { type AttributeValue, type Graph, makeNode, Value } from "../../ir/index.ts";
import { inferNode } from "../../ops/index.ts";

/** Adds a node and infers its type. @returns its output, of the node's name */
export function append(graph: Graph, op: string, inputs: readonly Value[], attributes: Readonly<Record<string, AttributeValue>>, name: string): Value {
  const output = new Value(name);
  const node = makeNode({ op, name, inputs: [...inputs], outputs: [output], attributes });
  graph.nodes.push(node);
  inferNode(node);
  return output;
}
