/**
 * Type and shape inference: runs each operator's rule over the graph in order, then follows small integer tensors
 * element by element, so that shapes computed from shapes become dimension expressions.
 *
 * What the file states about a value stays where inference finds less. All problems of a graph are reported together.
 */
import { UserError } from "../../base/index.ts";
import { type Graph, isStatic, type Node, subgraphsOf } from "../../ir/index.ts";
import { type InferContext, type InferRule, type OpKey, opKey } from "../contract.ts";
import { CONTRACTION } from "./contraction.ts";
import { controlRules } from "./control.ts";
import { inferElements } from "./elements.ts";
import { ELEMENTWISE } from "./elementwise.ts";
import { GENERATOR } from "./generator.ts";
import { INDEXING } from "./indexing.ts";
import { MACHINE_LEARNING } from "./machine-learning.ts";
import { MOVEMENT } from "./movement.ts";
import { NORMALIZATION } from "./normalization.ts";
import { REDUCTION } from "./reduction.ts";
import { inferContext } from "./rule.ts";
import { SEQUENCE } from "./sequence.ts";
import { WINDOW } from "./window.ts";

export { isDataDependent } from "./rule.ts";
export { numbersConstant } from "./constant.ts";

/** Every operator's rule. */
export const inferRules: ReadonlyMap<OpKey, InferRule> = new Map(Object.entries({
  ...ELEMENTWISE, ...MOVEMENT, ...INDEXING, ...REDUCTION, ...WINDOW, ...CONTRACTION, ...NORMALIZATION, ...GENERATOR, ...SEQUENCE, ...MACHINE_LEARNING, ...controlRules(inferNodes),
}));

/**
 * States type and dims of every value that can be known before data comes.
 * @throws UserError "model-invalid" with every problem of the graph
 */
export function inferTypes(graph: Graph, context: InferContext = inferContext): void {
  inferNodes(graph, context);
  dropWorkingElements(graph);
}

/** What is wrong with a branch for the shapes that enter it, if anything. */
export function findProblem(branch: Graph): string | undefined {
  try {
    inferTypes(branch);
    return undefined;
  } catch (error) {
    if (error instanceof UserError) return error.message;
    throw error;
  }
}

/** Infers one node; for nodes that a pass makes. */
export function inferNode(node: Node, context: InferContext = inferContext): void {
  inferRules.get(opKey(node))?.(node, context);
  inferElements(node);
  forgetElements(node);
}

const MAX_REPORTED = 50;

function inferNodes(graph: Graph, context: InferContext): void {
  const problems: string[] = [];
  for (const node of graph.nodes) {
    try {
      inferRules.get(opKey(node))?.(node, context);
      inferElements(node);
    } catch (error) {
      if (!(error instanceof UserError) || error.code !== "model-invalid") throw error;
      problems.push(error.message);
    }
  }
  if (problems.length === 1) throw new UserError("model-invalid", problems[0]!);
  if (problems.length > 1) throw new UserError("model-invalid", `The model has ${problems.length} problems:\n${problems.slice(0, MAX_REPORTED).map((problem) => `  ${problem}`).join("\n")}`);
}

/** Symbolic elements of floats and booleans served only to find those of integers. */
function dropWorkingElements(graph: Graph): void {
  for (const node of graph.nodes) {
    forgetElements(node);
    for (const subgraph of subgraphsOf(node)) dropWorkingElements(subgraph);
  }
}

function forgetElements(node: Node): void {
  for (const value of node.outputs) {
    if (!value?.elements || value.dtype === "int64" || value.dtype === "int32") continue;
    if (!isStatic(value.elements)) value.elements = undefined;
  }
}
