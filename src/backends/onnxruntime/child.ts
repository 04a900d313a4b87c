/** The process that runs one onnxruntime session for a server: see `protocol.ts`. It ends when its socket closes. */
import { createRequire } from "node:module";
import { Socket } from "node:net";
import { byteLength, type DType, elementCount, SinterError, UserError, viewArray } from "../../base/index.ts";
import { computeInBackground, viewShared } from "../../native/index.ts";
import { MODEL_NICE } from "../contract.ts";
import { decodeStrings, encodeStrings } from "../strings.ts";
import { Lines } from "../lines.ts";
import { aligned, type FromChild, type PlacedTensor, SHARED_BYTES, SHARED_FD, SOCKET_FD, type ToChild } from "./protocol.ts";

interface OrtTensor {
  readonly type: string;
  readonly data: unknown;
  readonly dims: readonly number[];
}

interface OrtMetadata {
  readonly name: string;
  readonly isTensor: boolean;
  readonly type?: string;
  readonly shape?: readonly (number | string)[];
}

interface OrtSession {
  readonly inputMetadata: readonly OrtMetadata[];
  readonly outputMetadata: readonly OrtMetadata[];
  run(feeds: Readonly<Record<string, OrtTensor>>): Promise<Record<string, OrtTensor>>;
}

interface Ort {
  readonly Tensor: new (type: string, data: unknown, dims: readonly number[]) => OrtTensor;
  readonly InferenceSession: { create(path: string, options: object): Promise<OrtSession> };
}

computeInBackground(MODEL_NICE);
const shared = viewShared(SHARED_FD, SHARED_BYTES);
const socket = new Socket({ fd: SOCKET_FD, readable: true, writable: true });
let ort: Ort;
let session: OrtSession;

const send = (message: FromChild): void => void socket.write(`${JSON.stringify(message)}\n`);

async function load(model: string, threads: number): Promise<FromChild> {
  const require = createRequire(import.meta.url);
  let version: string;
  try {
    ort = require("onnxruntime-node") as Ort;
    ({ version } = require("onnxruntime-node/package.json") as { version: string });
  } catch (cause) {
    throw new UserError("unsupported", `The backend "onnxruntime" needs the package onnxruntime-node, which is not installed: npm install onnxruntime-node (${(cause as Error).message.split("\n")[0]}). Without it, leave "backend" out: Sinter compiles the model itself.`);
  }
  session = await ort.InferenceSession.create(model, { intraOpNumThreads: threads, interOpNumThreads: 1, graphOptimizationLevel: "all", executionMode: "sequential", logSeverityLevel: 3 });
  return { kind: "loaded", version, inputs: session.inputMetadata.map(describe), outputs: session.outputMetadata.map(describe) };
}

function describe({ name, type = "float32", shape }: OrtMetadata) {
  return { name, dtype: type as DType, dims: shape ? shape.map((dim) => (typeof dim === "number" ? (dim < 0 ? null : dim) : dim === "" ? null : dim)) : null };
}

function toOrt({ dtype, shape, offset, sizeBytes }: PlacedTensor): OrtTensor {
  const bytes = shared.subarray(offset, offset + sizeBytes);
  if (dtype === "string") return new ort.Tensor("string", decodeStrings(bytes, elementCount(shape)), shape);
  return new ort.Tensor(dtype, viewArray(dtype as "float32", bytes), shape);
}

function place(name: string, { type, data, dims }: OrtTensor, at: number): PlacedTensor {
  const bytes = type === "string" ? encodeStrings(data as string[]) : bytesOf(data as ArrayBufferView);
  const wanted = type === "string" ? bytes.byteLength : byteLength(type as DType, elementCount(dims));
  if (at + wanted > SHARED_BYTES) throw new SinterError("limit-exceeded", `The batch's inputs and outputs take more than ${SHARED_BYTES} bytes; make smaller batches.`);
  shared.set(bytes.subarray(0, wanted), at);
  return { name, dtype: type, shape: dims, offset: at, sizeBytes: wanted };
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

async function run(inputs: readonly PlacedTensor[], outputsAt: number): Promise<FromChild> {
  const results = await session.run(Object.fromEntries(inputs.map((input) => [input.name, toOrt(input)])));
  let at = outputsAt;
  const outputs = session.outputMetadata.map(({ name }) => {
    const placed = place(name, results[name]!, at);
    at = aligned(at + placed.sizeBytes);
    return placed;
  });
  return { kind: "done", outputs };
}

async function handle(message: ToChild): Promise<FromChild> {
  try {
    return message.kind === "load" ? await load(message.model, message.threads) : await run(message.inputs, message.outputsAt);
  } catch (error) {
    const code = error instanceof SinterError ? error.code : message.kind === "load" ? "model-invalid" : "input-invalid";
    return { kind: "failed", code, message: error instanceof SinterError ? error.message : `onnxruntime: ${(error as Error).message}` };
  }
}

// A signal to the server's group is the server's: it still wants answers.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);
const lines = new Lines((line) => void handle(JSON.parse(line) as ToChild).then(send));
socket.setEncoding("utf8").on("data", (text: string) => lines.push(text)).on("close", () => process.exit(0)).on("error", () => process.exit(0));
