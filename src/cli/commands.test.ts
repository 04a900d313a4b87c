/** The commands end to end, each in a process of its own. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { Tensor } from "../base/index.ts";
import { makeModel } from "../onnx/index.ts";
import { readNpy, writeNpy } from "../data/index.ts";
import { imageModel, type Outcome, smallModel, smallWeights, Workplace } from "./testing.ts";

const place = new Workplace();
after(() => place.dispose());

const x = new Tensor("float32", Float32Array.from({ length: 128 }, (_, i) => Math.cos(i)), [2, 64]);

/** What the small model's y is, row by row. */
function expectedY(): number[] {
  const w = smallWeights(0.1).data as Float32Array;
  const input = x.data as Float32Array;
  return Array.from({ length: 64 }, (_, at) => {
    const [row, column] = [at >> 5, at % 32];
    let sum = column / 32;
    for (let k = 0; k < 64; k++) sum += input[row * 64 + k]! * w[k * 32 + column]!;
    return Math.max(0, sum);
  });
}

async function json(args: readonly string[]): Promise<Record<string, unknown>> {
  const { status, stdout, stderr } = await place.sinter([...args, "--json"]);
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout) as Record<string, unknown>;
}

const succeeds = ({ status, stderr }: Outcome): void => assert.equal(status, 0, stderr);

before(async () => {
  place.write("small.onnx", smallModel());
  writeNpy(place.path("x.npy"), x);
  succeeds(await place.sinter(["build", "small.onnx", "--level", "0"]));
});

test("build names its output after the model, and says what it made", async () => {
  assert.ok(existsSync(place.path("small.engine")));
  const result = await json(["build", "small.onnx", "-o", "again.engine", "--level", "0"]);
  assert.equal(result["output"], "again.engine");
  assert.equal(result["nodesBefore"], 4);
  assert.deepEqual(result["referenceSteps"], []);
  assert.deepEqual(readFileSync(place.path("again.engine")), readFileSync(place.path("small.engine")));
});

test("run reads .npy and .pb files and writes .npy files", async () => {
  const { status, stdout, stderr } = await place.sinter(["run", "small.engine", "--input", "x=x.npy", "--output", "out"]);
  assert.equal(status, 0, stderr);
  assert.match(stdout, /y: float32\[2, 32\] {2}min 0 /);
  const y = readNpy(place.path("out/y.npy"));
  assert.deepEqual(y.dims, [2, 32]);
  for (const [i, value] of expectedY().entries()) assert.ok(Math.abs(value - Number(y.data[i])) < 1e-4, `element ${i}`);
  // TensorProto: dims 2 and 64, float, raw data.
  place.write("x.pb", Buffer.concat([Uint8Array.of(0x08, 2, 0x08, 64, 0x10, 1, 0x4a, 0x80, 0x04), x.bytes]));
  const again = await json(["run", "small.engine", "-i", "x=x.pb"]) as { outputs: { name: string; first: number[] }[] };
  assert.deepEqual(again.outputs.map((output) => output.name), ["y", "p"]);
  assert.ok(Math.abs(again.outputs[0]!.first[0]! - expectedY()[0]!) < 1e-4);
});

test("run takes a model and keeps its engine", async () => {
  const args = ["run", "small.onnx", "--shapes", "x:3x64"];
  succeeds(await place.sinter(args));
  const kept = readdirSync(place.path("cache/sinter")).filter((name) => name.endsWith(".engine"));
  assert.equal(kept.length, 1);
  const again = await place.sinter(args);
  assert.equal(again.stderr, "");
  assert.match(again.stdout, /y: float32\[3, 32\]/);
});

test("bench --json has what its readers expect", async () => {
  const result = await json(["bench", "small.engine", "--duration", "0.1", "--warmup", "0.01", "--profile", "--compare", "onnxruntime", "--model", "small.onnx", "--threads", "1"]);
  const latency = result["latencyMs"] as Record<string, number>;
  for (const key of ["min", "mean", "median", "p90", "p95", "p99"]) assert.ok(latency[key]! > 0, key);
  for (const key of ["throughput", "loadMs", "speedup"]) assert.ok((result[key] as number) > 0, key);
  assert.equal(result["threads"], 1);
  assert.equal(result["precision"], "fp32");
  assert.ok((result["maxRelativeError"] as number) < 1e-5);
  const peer = result["peer"] as { name: string; version: string; latencyMs: Record<string, number> };
  assert.equal(peer.name, "onnxruntime-node");
  assert.ok(peer.latencyMs["median"]! > 0);
  const kernels = result["kernels"] as Record<string, unknown>[];
  assert.deepEqual(kernels.map((kernel) => kernel["nodes"]), [["product", "bias", "activation"], ["probabilities"]]);
  for (const key of ["name", "ms", "share", "gflops", "gbps"]) assert.ok(key in kernels[0]!, key);
  assert.ok(Math.abs(kernels.reduce((sum, kernel) => sum + (kernel["share"] as number), 0) - 1) < 1e-9);
});

test("bench --trace writes a timeline with a track per thread", async () => {
  succeeds(await place.sinter(["bench", "small.engine", "--duration", "0.05", "--trace", "trace.json", "--threads", "1"]));
  const { traceEvents } = JSON.parse(readFileSync(place.path("trace.json"), "utf8")) as { traceEvents: { ph: string; name: string; tid: number; ts?: number; dur?: number }[] };
  const slices = traceEvents.filter(({ ph }) => ph === "X");
  assert.ok(slices.length > 0);
  assert.ok(slices.every(({ ts, dur, tid }) => ts! >= 0 && dur! >= 0 && tid === 0));
  assert.ok(traceEvents.some(({ ph, name }) => ph === "M" && name === "thread_name"));
});

test("bench prints a table, also with several contexts", async () => {
  const { status, stdout, stderr } = await place.sinter(["bench", "small.engine", "--duration", "0.1", "--contexts", "2", "--profile"]);
  assert.equal(status, 0, stderr);
  for (const text of [/p99/, /overhead/, /GFLOP\/s/, /2 contexts/]) assert.match(stdout, text);
});

test("inspect shows a model before it is built", async () => {
  const model = await json(["inspect", "small.onnx"]) as { operators: object; inputs: object[]; layers: { nodes: string[] }[] };
  assert.deepEqual(model.operators, { Add: 1, MatMul: 1, Relu: 1, Softmax: 1 });
  assert.deepEqual(model.inputs, [{ name: "x", type: "float32", dims: ["batch", 64] }]);
  assert.deepEqual(model.layers.map((layer) => layer.nodes), [["product", "bias", "activation"], ["probabilities"]]);
  const { stdout } = await place.sinter(["inspect", "small.onnx", "--layers", "--memory"]);
  assert.match(stdout, /product bias activation/);
});

test("inspect shows an engine: kernels, tactics, memory, machine code", async () => {
  const engine = await json(["inspect", "small.engine"]) as { kind: string; layers: { tactics: { outcome: string }[]; writes: string[] }[]; memory: object[] };
  assert.equal(engine.kind, "engine");
  assert.deepEqual(engine.layers.map((layer) => layer.writes), [["y"], ["p"]]);
  assert.ok(engine.layers[0]!.tactics.some((tactic) => tactic.outcome === "chosen"));
  assert.equal(engine.memory.length, 1);
  const { status, stdout } = await place.sinter(["inspect", "small.engine", "--layers", "--memory"]);
  assert.equal(status, 0);
  assert.match(stdout, /tactic {3}matmul/);
  const asm = await json(["inspect", "small.engine", "--asm", "product"]) as { by: string; text: string };
  assert.match(asm.text, asm.by === "objdump" ? /vfmadd231ps/ : /^ +0: /);
  assert.equal((await place.sinter(["inspect", "small.engine", "--asm", "nothing"])).status, 2);
});

test("compare --double tells how far both are from double precision", async () => {
  const { outputs } = await json(["compare", "small.onnx", "small.engine", "--shapes", "x:5x64", "--double"]) as { outputs: { errorToDouble: number; peerErrorToDouble: number }[] };
  assert.ok(outputs.length > 0);
  for (const { errorToDouble, peerErrorToDouble } of outputs) assert.ok(errorToDouble < 1e-6 && peerErrorToDouble < 1e-6, `${errorToDouble} ${peerErrorToDouble}`);
});

test("compare agrees on outputs and layers, and fails on another model's engine", async () => {
  const same = await json(["compare", "small.onnx", "small.engine", "--shapes", "x:5x64", "--layers"]) as { outputs: { matches: boolean }[]; layers: { matches: boolean }[]; firstDeparture: null };
  assert.deepEqual(same.outputs.map((output) => output.matches), [true, true]);
  assert.deepEqual(same.layers.map((layer) => layer.matches), [true, true]);
  assert.equal(same.firstDeparture, null);
  place.write("other.onnx", smallModel(0.2));
  const other = await place.sinter(["compare", "other.onnx", "small.engine", "--layers"]);
  assert.equal(other.status, 1);
  assert.match(other.stdout, /first that departs: product, at value "y"/);
  assert.match(other.stderr, /2 of 2 outputs differ/);
});

test("layers are found when the engine turns images, folds scales and writes concatenations in parts", async () => {
  place.write("image.onnx", imageModel());
  const { layers, outputs } = await json(["compare", "image.onnx", "--layers"]) as { outputs: { matches: boolean }[]; layers: { value: string; matches?: boolean }[] };
  assert.ok(outputs.every((output) => output.matches));
  assert.ok(layers.some((layer) => layer.value === "joined" || layer.value === "y"));
  assert.ok(layers.every((layer) => layer.matches !== false), JSON.stringify(layers));
  assert.ok(layers.filter((layer) => layer.matches).length >= 2, JSON.stringify(layers));
});

test("verify reads every byte", async () => {
  succeeds(await place.sinter(["verify", "small.engine"]));
  const bytes = readFileSync(place.path("small.engine"));
  const { sizeBytes } = await json(["verify", "small.engine"]) as { sizeBytes: number };
  assert.equal(sizeBytes, bytes.length);
  const flipped = Buffer.from(bytes);
  flipped[flipped.length - 8192]! ^= 1;
  place.write("flipped.engine", flipped);
  const { status, stderr } = await place.sinter(["verify", "flipped.engine"]);
  assert.equal(status, 3);
  assert.match(stderr, /damaged in section "weights"/);
});

test("doctor says what will be used", async () => {
  const { isa, threads } = await json(["doctor"]) as { isa: string; threads: { used: number } };
  assert.ok(["avx2", "avx512"].includes(isa));
  assert.ok(threads.used >= 1);
  const old = await place.sinter(["doctor"], { env: { SINTER_CPU: "baseline" } });
  assert.equal(old.status, 4);
  assert.match(old.stderr, /AVX2/);
});

test("an operator without native code is reported, and refused with --strict", async () => {
  place.write("unique.onnx", makeModel({
    inputs: [{ name: "x", type: "float32", dims: [4] }], outputs: [{ name: "y", type: "float32", dims: ["n"] }],
    nodes: [{ op: "Unique", name: "distinct", inputs: ["x"], outputs: ["y"] }],
  }));
  const kept = await place.sinter(["build", "unique.onnx", "--level", "0"]);
  assert.equal(kept.status, 0, kept.stderr);
  assert.match(kept.stdout, /run on the reference.*distinct/);
  const strict = await place.sinter(["build", "unique.onnx", "--strict", "-o", "strict.engine"]);
  assert.equal(strict.status, 4);
  assert.match(strict.stderr, /Unique "distinct"/);
  const results = await json(["run", "unique.engine"]) as { outputs: { type: string; dims: number[] }[] };
  assert.deepEqual(results.outputs.map(({ type, dims }) => [type, dims]), [["float32", [4]]]);
  const compared = await json(["compare", "unique.onnx", "unique.engine", "--layers"]) as { layers: { matches: boolean }[] };
  assert.deepEqual(compared.layers.map((layer) => layer.matches), [true]);
  succeeds(await place.sinter(["bench", "unique.engine", "--duration", "0.05", "--profile"]));
  assert.ok(!existsSync(place.path("strict.engine")));
});
