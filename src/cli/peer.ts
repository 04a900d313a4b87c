/** onnxruntime as a peer: the same inputs, the same threads. It is an optional package, found when asked for. */
import { createRequire } from "node:module";
import { Tensor, type TensorData, UserError } from "../base/index.ts";
import { numbersOf } from "../reference/index.ts";

export interface OrtTensor {
  readonly type: string;
  readonly data: TensorData;
  readonly dims: readonly number[];
}

export interface OrtSession {
  run(feeds: Readonly<Record<string, OrtTensor>>): Promise<Record<string, OrtTensor>>;
  release(): Promise<void>;
}

export interface Ort {
  readonly Tensor: new (type: string, data: TensorData, dims: readonly number[]) => OrtTensor;
  readonly InferenceSession: { create(path: string, options: object): Promise<OrtSession> };
}

export interface Peer {
  readonly name: string;
  readonly version: string;
  /** Starts a run; its results are thrown away. */
  start(): Promise<unknown>;
  run(): Promise<Record<string, Tensor>>;
  release(): Promise<void>;
}

/** The package and its version. @throws UserError when it is not installed */
export function findOnnxruntime(): { readonly ort: Ort; readonly version: string } {
  const require = createRequire(import.meta.url);
  try {
    return { ort: require("onnxruntime-node") as Ort, version: (require("onnxruntime-node/package.json") as { version: string }).version };
  } catch (cause) {
    throw new UserError("option-invalid", "Comparing needs the package onnxruntime-node: npm install onnxruntime-node", { cause });
  }
}

/**
 * @param sessions runs that may be in flight at once; each has a session of its own
 * @throws UserError when the package is not installed or refuses the model
 */
export async function openOnnxruntime(model: string, feeds: Readonly<Record<string, Tensor>>, threads: number, sessions = 1): Promise<Peer> {
  const { ort, version } = findOnnxruntime();
  const create = async (): Promise<OrtSession> => {
    try {
      return await ort.InferenceSession.create(model, { intraOpNumThreads: threads, interOpNumThreads: 1, graphOptimizationLevel: "all", executionMode: "sequential", logSeverityLevel: 3 });
    } catch (cause) {
      throw new UserError("unsupported", `onnxruntime refuses ${model}: ${(cause as Error).message}`, { cause });
    }
  };
  const opened: OrtSession[] = [];
  for (let i = 0; i < sessions; i++) opened.push(await create());
  let turn = 0;
  const inputs = Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, new ort.Tensor(tensor.type, tensor.data, tensor.dims)]));
  const start = (): Promise<Record<string, OrtTensor>> => opened[turn++ % opened.length]!.run(inputs);
  return {
    name: "onnxruntime-node", version, start,
    run: async () => Object.fromEntries(Object.entries(await start()).map(([name, tensor]) => [name, new Tensor(tensor.type as Tensor["type"], tensor.data, tensor.dims)])),
    release: async () => {
      for (const session of opened) await session.release();
    },
  };
}

/**
 * The scale of a tensor whose values are all smaller. onnxruntime's sigmoids are sums with 0.5 in single precision:
 * near zero they are multiples of 2^-23, so that outputs which are all improbable have no more than that in common.
 */
const LEAST_SCALE = 0.01;

/**
 * Largest absolute difference over the largest absolute value of the reference; infinite where one is NaN and the other not.
 * @param leastScale what the difference is divided by where every value of the reference is smaller; 0 to judge strictly
 */
export function relativeError(actual: Tensor, expected: Tensor, leastScale = LEAST_SCALE): number {
  if (actual.dims.join() !== expected.dims.join() || actual.type !== expected.type) return Number.POSITIVE_INFINITY;
  if (Array.isArray(actual.data) || Array.isArray(expected.data)) return String(actual.data) === String(expected.data) ? 0 : Number.POSITIVE_INFINITY;
  if (actual.type.startsWith("complex")) return errorOf(actual.data as Float32Array, expected.data as Float32Array, leastScale);
  return errorOf(numbersOf(actual), numbersOf(expected), leastScale);
}

function errorOf(actual: ArrayLike<number>, expected: ArrayLike<number>, leastScale: number): number {
  let difference = 0;
  let scale = 0;
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i]!;
    const b = expected[i]!;
    if (Number.isFinite(b)) scale = Math.max(scale, Math.abs(b));
    if (Object.is(a, b) || a === b) continue;
    if (!Number.isFinite(a) || !Number.isFinite(b)) return Number.POSITIVE_INFINITY;
    difference = Math.max(difference, Math.abs(a - b));
  }
  return difference === 0 ? 0 : difference / Math.max(scale, leastScale);
}
