/**
 * What each kernel of an engine writes, against the reference interpreter on the model as it was imported. Fusions are
 * not undone: values are compared where the engine has them in memory.
 */
import { isFloat, Tensor } from "../base/index.ts";
import { MappedFile } from "../native/index.ts";
import { importModel } from "../onnx/index.ts";
import type { HostValue } from "../reference/index.ts";
import type { Engine, Feeds } from "../runtime/index.ts";
import { arrangements, ModelValues } from "./layer-values.ts";
import { table } from "./output.ts";
import { relativeError } from "./peer.ts";

export interface Layer {
  readonly name: string;
  readonly operators: readonly string[];
  readonly nodes: readonly string[];
  /** The value compared: the model's name for it where there is one. */
  readonly value: string;
  readonly relativeError?: number;
  /** Absent where the model has no such value. */
  readonly matches?: boolean;
}

interface Finding {
  readonly layer: Layer;
  readonly exact: boolean;
}

/**
 * In the program's order; a kernel has a row for each value it completes.
 * @param outputsAgree whether the model's outputs are right: then a value that is only likely to be the model's, and
 * differs, is another value, and no departure
 * @param double the reference computes in double precision
 */
export function compareLayers(model: string, engine: Engine, feeds: Feeds, tolerance: number, outputsAgree: boolean, double = false): Layer[] {
  const imported = importModel(model, { mapFile: (path) => MappedFile.open(path) });
  const context = engine.createContext();
  try {
    const values = new ModelValues(imported.graph);
    const wanted = engine.metadata.steps.flatMap((step) => (step.kind === "kernel" ? step.completes : step.outputs).flatMap((value) => values.candidates(value.name, step.label.origins).names));
    const expected = values.compute(feeds, new Set(wanted), double);
    const findings: Finding[] = [];
    context.trace(feeds, (label, results) => {
      for (const [value, actual] of Object.entries(results)) {
        const { names, exact } = values.candidates(value, label.origins);
        const judged = judge(actual, names.map((name) => [name, expected.get(name)] as const), tolerance);
        findings.push({ exact, layer: { name: label.name || label.operators.join("+"), operators: label.operators, nodes: label.origins, value, ...judged } });
      }
    });
    const departed = !outputsAgree || findings.some(({ exact, layer }) => exact && layer.matches === false);
    return findings.map(({ exact, layer }) => (exact || departed || layer.matches !== false ? layer : withoutVerdict(layer)));
  } finally {
    void context.dispose();
    imported.close();
  }
}

function withoutVerdict({ name, operators, nodes, value }: Layer): Layer {
  return { name, operators, nodes, value };
}

/** The candidate that is nearest. */
function judge(actual: HostValue, candidates: readonly (readonly [string, HostValue])[], tolerance: number): Partial<Pick<Layer, "value" | "relativeError" | "matches">> {
  if (!(actual instanceof Tensor)) return {};
  let best: { readonly value: string; readonly relativeError: number } | undefined;
  for (const [value, expected] of candidates) {
    if (!(expected instanceof Tensor) || expected.type !== actual.type) continue;
    for (const arranged of arrangements(expected, actual.dims)) {
      const error = relativeError(actual, arranged);
      if (!best || error < best.relativeError) best = { value, relativeError: error };
    }
  }
  return best ? { ...best, matches: isFloat(actual.type) ? best.relativeError <= tolerance : best.relativeError === 0 } : {};
}

export function layerTable(layers: readonly Layer[]): string {
  return table(["kernel", "value", "relative error", ""], layers.map((layer) => [
    layer.name, layer.value, layer.relativeError?.toExponential(1) ?? "-", layer.matches === undefined ? "not in the model" : layer.matches ? "agrees" : "DEPARTS",
  ]));
}
