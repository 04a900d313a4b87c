/** For tests of the command line: real processes, in a folder of their own. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Tensor } from "../base/index.ts";
import { makeModel } from "../onnx/index.ts";

const MAIN = fileURLToPath(new URL("./main.js", import.meta.url));

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface SinterOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Sent when standard error says this. */
  readonly interruptAt?: RegExp;
  /** Closes standard output before the process writes to it. */
  readonly closeOutput?: boolean;
}

export class Workplace {
  readonly folder = mkdtempSync(join(tmpdir(), "sinter-cli-"));

  path(name: string): string {
    return join(this.folder, name);
  }

  write(name: string, content: Uint8Array | string): string {
    writeFileSync(this.path(name), content);
    return this.path(name);
  }

  sinter(args: readonly string[], options: SinterOptions = {}): Promise<Outcome> {
    const env = { ...process.env, XDG_CACHE_HOME: join(this.folder, "cache"), ...options.env };
    const child = spawn(process.execPath, [MAIN, ...args], { cwd: this.folder, env, stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    let interrupted = false;
    child.stdout.on("data", (part: Buffer) => { stdout += part.toString(); });
    child.stderr.on("data", (part: Buffer) => {
      stderr += part.toString();
      if (interrupted || !options.interruptAt?.test(stderr)) return;
      interrupted = true;
      child.kill("SIGINT");
    });
    if (options.closeOutput) child.stdout.destroy();
    return new Promise((resolve) => {
      child.on("close", (status) => resolve({ status, stdout, stderr }));
    });
  }

  dispose(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** y = relu(x w + b) and its softmax: x is float32[batch, 64]. */
export function smallModel(scale = 0.1): Uint8Array {
  return makeModel({
    name: "small",
    inputs: [{ name: "x", type: "float32", dims: ["batch", 64] }],
    outputs: [{ name: "y", type: "float32", dims: ["batch", 32] }, { name: "p", type: "float32", dims: ["batch", 32] }],
    initializers: { w: smallWeights(scale), b: new Tensor("float32", Float32Array.from({ length: 32 }, (_, i) => i / 32), [32]) },
    nodes: [
      { op: "MatMul", name: "product", inputs: ["x", "w"], outputs: ["a"] },
      { op: "Add", name: "bias", inputs: ["a", "b"], outputs: ["c"] },
      { op: "Relu", name: "activation", inputs: ["c"], outputs: ["y"] },
      { op: "Softmax", name: "probabilities", inputs: ["y"], outputs: ["p"] },
    ],
  });
}

export function smallWeights(scale: number): Tensor {
  return new Tensor("float32", Float32Array.from({ length: 64 * 32 }, (_, i) => scale * Math.sin(i)), [64, 32]);
}

/** Convolution, batch normalisation and HardSwish, joined with a pooled branch: x is float32[1, 3, 10, 12]. */
export function imageModel(): Uint8Array {
  const wave = (dims: readonly number[], shift: number): Tensor => new Tensor("float32", Float32Array.from({ length: dims.reduce((product, dim) => product * dim, 1) }, (_, i) => shift + 0.4 * Math.sin(3 * i + shift)), dims);
  return makeModel({
    name: "image",
    inputs: [{ name: "x", type: "float32", dims: [1, 3, 10, 12] }],
    outputs: [{ name: "y", type: "float32", dims: [1, 24, 10, 12] }],
    initializers: { w: wave([16, 3, 3, 3], 0), v: wave([24, 24, 1, 1], 0), u: wave([8, 3, 1, 1], 0), scale: wave([16], 1), shift: wave([16], 0), mean: wave([16], 0), variance: wave([16], 1) },
    nodes: [
      { op: "Conv", name: "first", inputs: ["x", "w"], outputs: ["a"], attributes: { pads: [1, 1, 1, 1] } },
      { op: "BatchNormalization", name: "normal", inputs: ["a", "scale", "shift", "mean", "variance"], outputs: ["n"] },
      { op: "HardSwish", name: "swish", inputs: ["n"], outputs: ["s"] },
      { op: "Conv", name: "side", inputs: ["x", "u"], outputs: ["b"] },
      { op: "MaxPool", name: "pool", inputs: ["b"], outputs: ["m"], attributes: { kernel_shape: [3, 3], pads: [1, 1, 1, 1] } },
      { op: "Concat", name: "join", inputs: ["s", "m"], outputs: ["joined"], attributes: { axis: 1 } },
      { op: "Conv", name: "last", inputs: ["joined", "v"], outputs: ["y"] },
    ],
  });
}

/** Many products of different sizes: a build that takes a while at a high level. */
export function tallModel(layers = 40): Uint8Array {
  const width = (layer: number): number => 256 + 16 * layer;
  const initializers = Object.fromEntries(Array.from({ length: layers }, (_, i) => [`w${i}`, Tensor.zeros("float32", [width(i), width(i + 1)])]));
  return makeModel({
    name: "tall",
    inputs: [{ name: "v0", type: "float32", dims: [64, width(0)] }],
    outputs: [{ name: `v${layers}`, type: "float32", dims: [64, width(layers)] }],
    initializers,
    nodes: Array.from({ length: layers }, (_, i) => ({ op: "MatMul", inputs: [`v${i}`, `w${i}`], outputs: [`v${i + 1}`] })),
  });
}
