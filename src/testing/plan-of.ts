/** The plan of a model, and its text: one line per step. */
import { type Graph, printKernel } from "../ir/index.ts";
import { importModel } from "../onnx/index.ts";
import { inferTypes } from "../ops/index.ts";
import { runPasses } from "../passes/index.ts";
import { evaluateNode } from "../reference/index.ts";
import { type Plan, schedule } from "../schedule/index.ts";

export function planOf(model: Uint8Array): { readonly graph: Graph; readonly plan: Plan; readonly steps: string[] } {
  const { graph } = importModel(model);
  inferTypes(graph);
  runPasses(graph, { evaluate: evaluateNode });
  const plan = schedule(graph);
  const steps = plan.steps.map((step) => (step.kind === "kernel" ? printKernel(step.kernel) : `${step.kind} ${"operators" in step ? step.operators.join("+") : ""}`));
  return { graph, plan, steps };
}
