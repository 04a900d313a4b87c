/**
 * What each kernel of an engine writes, against the reference interpreter on the model as it was imported. Fusions are
 * not undone: values are compared where the engine has them in memory, found by name in the model.
 */
import { isFloat, Tensor } from "../base/index.ts";
import type { HostValue } from "../reference/index.ts";
import { interpret } from "../reference/index.ts";
import { MappedFile } from "../native/index.ts";
import { importModel } from "../onnx/index.ts";
import type { Engine, Feeds } from "../runtime/index.ts";
import { table } from "./output.ts";
import { relativeError } from "./peer.ts";

export interface Layer {
  readonly name: string;
  readonly operators: readonly string[];
  readonly nodes: readonly string[];
  /** The value compared. */
  readonly value: string;
  readonly relativeError?: number;
  /** Absent where the model has no such value, or it has another shape there. */
  readonly matches?: boolean;
}

/** In the program's order; a kernel has a row for each value it completes. */
export function compareLayers(model: string, engine: Engine, feeds: Feeds, tolerance: number): Layer[] {
  const wanted = new Set(engine.metadata.steps.flatMap((step) => (step.kind === "kernel" ? step.completes : step.outputs)).map((value) => value.name));
  const expected = referenceValues(model, feeds, wanted);
  const layers: Layer[] = [];
  const context = engine.createContext();
  try {
    context.trace(feeds, (label, values) => {
      for (const [value, actual] of Object.entries(values)) {
        layers.push({ name: label.name || label.operators.join("+"), operators: label.operators, nodes: label.origins, value, ...judge(actual, expected.get(value), tolerance) });
      }
    });
  } finally {
    void context.dispose();
  }
  return layers;
}

/** The model's own values of these names. */
function referenceValues(model: string, feeds: Feeds, names: ReadonlySet<string>): Map<string, HostValue> {
  const imported = importModel(model, { mapFile: (path) => MappedFile.open(path) });
  try {
    const kept = new Map<string, HostValue>();
    interpret(imported.graph, feeds, {
      onNode: (node, results) => {
        for (const [i, output] of node.outputs.entries()) if (output && names.has(output.name)) kept.set(output.name, results[i]);
      },
    });
    return kept;
  } finally {
    imported.close();
  }
}

function judge(actual: HostValue, expected: HostValue, tolerance: number): Pick<Layer, "relativeError" | "matches"> {
  if (!(actual instanceof Tensor) || !(expected instanceof Tensor) || actual.type !== expected.type) return {};
  const arranged = sameShape(actual, expected) ? expected : channelsLast(expected);
  if (!arranged || !sameShape(actual, arranged)) return {};
  const error = relativeError(actual, arranged);
  return { relativeError: error, matches: isFloat(actual.type) ? error <= tolerance : error === 0 };
}

function sameShape(a: Tensor, b: Tensor): boolean {
  return a.dims.join() === b.dims.join();
}

/** [batch, channels, …spatial] to [batch, …spatial, channels], as images lie inside an engine. */
function channelsLast(tensor: Tensor): Tensor | undefined {
  const { data } = tensor;
  if (tensor.dims.length < 3 || Array.isArray(data) || data.length !== tensor.size) return undefined;
  const [batch, channels, ...spatial] = tensor.dims as [number, number, ...number[]];
  const pixels = spatial.reduce((product, dim) => product * dim, 1);
  const moved = Tensor.zeros(tensor.type, [batch, ...spatial, channels]);
  const target = moved.data as typeof data;
  for (let b = 0; b < batch; b++) {
    for (let c = 0; c < channels; c++) {
      const from = (b * channels + c) * pixels;
      for (let i = 0; i < pixels; i++) target[(b * pixels + i) * channels + c] = data[from + i]!;
    }
  }
  return moved;
}

export function layerTable(layers: readonly Layer[]): string {
  return table(["kernel", "value", "relative error", ""], layers.map((layer) => [
    layer.name, layer.value, layer.relativeError?.toExponential(1) ?? "-", layer.matches === undefined ? "not in the model" : layer.matches ? "agrees" : "DEPARTS",
  ]));
}
