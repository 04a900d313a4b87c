/** onnxruntime as a peer: the same inputs, the same threads. It is an optional package, found when asked for. */
import { createRequire } from "node:module";
import { Tensor, type TensorData, UserError } from "../base/index.ts";

interface OrtTensor {
  readonly type: string;
  readonly data: TensorData;
  readonly dims: readonly number[];
}

interface OrtSession {
  run(feeds: Readonly<Record<string, OrtTensor>>): Promise<Record<string, OrtTensor>>;
  release(): Promise<void>;
}

interface Ort {
  readonly Tensor: new (type: string, data: TensorData, dims: readonly number[]) => OrtTensor;
  readonly InferenceSession: { create(path: string, options: object): Promise<OrtSession> };
}

export interface Peer {
  readonly name: string;
  readonly version: string;
  /** @returns milliseconds of the run alone */
  time(): Promise<number>;
  run(): Promise<Record<string, Tensor>>;
  release(): Promise<void>;
}

/** @throws UserError when the package is not installed */
export async function openOnnxruntime(model: string, feeds: Readonly<Record<string, Tensor>>, threads: number): Promise<Peer> {
  const require = createRequire(import.meta.url);
  let ort: Ort;
  let version: string;
  try {
    ort = require("onnxruntime-node") as Ort;
    version = (require("onnxruntime-node/package.json") as { version: string }).version;
  } catch (cause) {
    throw new UserError("option-invalid", "--compare onnxruntime needs the package onnxruntime-node: npm install onnxruntime-node", { cause });
  }
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: threads, interOpNumThreads: 1, graphOptimizationLevel: "all", executionMode: "sequential", logSeverityLevel: 3 });
  const inputs = Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, new ort.Tensor(tensor.type, tensor.data, tensor.dims)]));
  return {
    name: "onnxruntime-node", version,
    time: async () => {
      const before = performance.now();
      await session.run(inputs);
      return performance.now() - before;
    },
    run: async () => Object.fromEntries(Object.entries(await session.run(inputs)).map(([name, tensor]) => [name, new Tensor(tensor.type as Tensor["type"], tensor.data, tensor.dims)])),
    release: () => session.release(),
  };
}

/** Largest absolute difference over the largest absolute value of the reference; infinite where one is NaN and the other not. */
export function relativeError(actual: Tensor, expected: Tensor): number {
  if (actual.dims.join() !== expected.dims.join() || actual.type !== expected.type) return Number.POSITIVE_INFINITY;
  if (Array.isArray(actual.data) || Array.isArray(expected.data)) return String(actual.data) === String(expected.data) ? 0 : Number.POSITIVE_INFINITY;
  let difference = 0;
  let scale = 0;
  for (let i = 0; i < actual.data.length; i++) {
    const a = Number(actual.data[i]);
    const b = Number(expected.data[i]);
    if (Object.is(a, b) || a === b) {
      if (Number.isFinite(b)) scale = Math.max(scale, Math.abs(b));
      continue;
    }
    if (!Number.isFinite(a) || !Number.isFinite(b)) return Number.POSITIVE_INFINITY;
    difference = Math.max(difference, Math.abs(a - b));
    scale = Math.max(scale, Math.abs(b));
  }
  return difference === 0 ? 0 : difference / (scale || 1);
}
