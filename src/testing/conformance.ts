/**
 * Runs ONNX's own test cases (folders of a model, inputs and expected outputs) on whatever can execute a graph.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Tensor } from "../base/index.ts";
import type { Graph, Value } from "../ir/index.ts";
import { importModel } from "../onnx/index.ts";
import type { HostValue } from "../reference/index.ts";
import { difference, ONNX_TOLERANCE, type Tolerance } from "./compare.ts";
import { readValueProto } from "./value-proto.ts";

/** Answers the graph's outputs in order; `path` is the model's file, for executors that read it themselves. */
export type Executor = (graph: Graph, feeds: ReadonlyMap<Value, HostValue>, path: string) => HostValue[] | Promise<HostValue[]>;

export interface ConformanceCase {
  /** "node", "simple", "pytorch-operator" or "pytorch-converted". */
  readonly family: string;
  readonly name: string;
  readonly folder: string;
}

export interface CaseResult {
  readonly passed: boolean;
  /** Why it failed. */
  readonly reason: string | undefined;
}

/** Results that random numbers decide: only type and shape can be compared. */
const RANDOM = /^test_(bernoulli|randomuniformlike|randomnormallike|training_dropout(?!_zero)|dropout_random)/;

/** Expected values of the transforms come from a float32 FFT: where the exact result is zero they hold its rounding. */
const TRANSFORMS = /^test_(dft|stft)/;

export function toleranceOf(name: string): Tolerance {
  return TRANSFORMS.test(name) ? { ...ONNX_TOLERANCE, absolute: 1e-6 } : ONNX_TOLERANCE;
}

/** The cases below a folder that holds one folder per family, in a fixed order. */
export function listCases(root: string): ConformanceCase[] {
  return readdirSync(root).sort().flatMap((family) => readdirSync(join(root, family)).sort()
    .filter((name) => existsSync(join(root, family, name, "model.onnx")))
    .map((name) => ({ family, name, folder: join(root, family, name) })));
}

/** Runs all data sets of a case. Never throws: an error is a failure with its message. */
export async function runCase(one: ConformanceCase, executor: Executor): Promise<CaseResult> {
  try {
    const path = join(one.folder, "model.onnx");
    const model = importModel(path);
    try {
      for (const set of readdirSync(one.folder).filter((name) => name.startsWith("test_data_set_")).sort()) {
        const reason = await runDataSet(one, model.graph, join(one.folder, set), path, executor);
        if (reason) return { passed: false, reason };
      }
    } finally {
      model.close();
    }
    return { passed: true, reason: undefined };
  } catch (error) {
    return { passed: false, reason: error instanceof Error ? error.message : String(error) };
  }
}

async function runDataSet(one: ConformanceCase, graph: Graph, folder: string, path: string, executor: Executor): Promise<string | undefined> {
  const feeds = new Map(graph.inputs.map((value, i) => [value, readValue(folder, `input_${i}.pb`, value)]));
  const results = await executor(graph, feeds, path);
  for (const [i, output] of graph.outputs.entries()) {
    const expected = readValue(folder, `output_${i}.pb`, output);
    const found = RANDOM.test(one.name) ? formDifference(results[i], expected) : difference(results[i], expected, toleranceOf(one.name));
    if (found) return `output ${i} "${output.name}": ${found}`;
  }
  return undefined;
}

function readValue(folder: string, file: string, value: Value): HostValue {
  const path = join(folder, file);
  return existsSync(path) ? readValueProto(new Uint8Array(readFileSync(path)), value.kind) : undefined;
}

function formDifference(actual: HostValue, expected: HostValue): string | undefined {
  const form = (value: HostValue): string => (value instanceof Tensor ? `${value.type}[${value.dims}]` : "no tensor");
  return form(actual) === form(expected) ? undefined : `got ${form(actual)}, expected ${form(expected)}`;
}
