/** A real server on a repository of its own, for tests: small models are written, served and asked through the interface. */
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pino } from "pino";
import { Tensor } from "../../base/index.ts";
import { makeModel } from "../../onnx/index.ts";
import { type RunningServer, serve, type ServeOptions } from "../../serve.ts";
import { VERSION } from "../../version.ts";
import type { InferenceRequest, RequestInput, ResponseOutput } from "../contract.ts";

/** Engines of small models, kept for all tests of a run. */
const CACHE = join(tmpdir(), `sinter-test-engines-${process.getuid?.() ?? 0}`);

export interface TestRepository extends Disposable {
  readonly folder: string;
  readonly keys: string;
  /** Writes a file of a model by rename, its folders too. */
  write(path: string, content: string | Uint8Array): void;
}

export function testRepository(): TestRepository {
  const root = mkdtempSync(join(tmpdir(), "sinter-serve-"));
  const folder = join(root, "models");
  mkdirSync(folder);
  const write = (path: string, content: string | Uint8Array): void => {
    const file = join(folder, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(join(root, "part"), content);
    renameSync(join(root, "part"), file);
  };
  return { folder, keys: join(root, "keys"), write, [Symbol.dispose]: () => rmSync(root, { recursive: true, force: true }) };
}

export async function testServer(repository: TestRepository, options: Partial<ServeOptions> = {}): Promise<RunningServer & AsyncDisposable> {
  const running = await serve({ repositories: [repository.folder], cache: CACHE, keys: repository.keys, log: pino({ level: process.env["SINTER_TEST_LOG"] ?? "silent" }), tuneLevel: 0, version: VERSION, ...options });
  return { ...running, [Symbol.asyncDispose]: async () => void (await running.stop()) };
}

/** x [n, 4] → x + number: tells which version answered. */
export function addModel(number: number, dims: readonly (number | string)[] = ["n", 4]): Uint8Array {
  return makeModel({
    inputs: [{ name: "x", type: "float32", dims: [...dims] }], outputs: [{ name: "y", type: "float32", dims: [...dims] }],
    initializers: { c: new Tensor("float32", [number].map(Number) as unknown as Float32Array, [1]) },
    nodes: [{ op: "Add", inputs: ["x", "c"], outputs: ["y"] }],
  });
}

export const ADD_CONFIG = `max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] } ]
dynamic_batching { }
`;

export function floatInput(name: string, values: readonly number[], shape: readonly number[]): RequestInput {
  return { name, datatype: "FP32", shape, bytes: new Uint8Array(Float32Array.from(values).buffer) };
}

export function request(model: string, inputs: readonly RequestInput[], more: Partial<InferenceRequest> = {}): InferenceRequest {
  return { model, version: "", id: "", parameters: new Map(), inputs, priority: 0, timeoutUs: 0, cancelled: false, ...more };
}

export function floatsOf({ bytes }: ResponseOutput): number[] {
  return [...new Float32Array(bytes.slice().buffer)];
}
