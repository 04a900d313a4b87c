/** Real models behind the real scheduler, asked through the interface that front ends use. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { build } from "../../compile.ts";
import { makeModel } from "../../onnx/index.ts";
import { floats, mlp, mlpReference, stringModel } from "../../testing/small-models.ts";
import { signEngine } from "../../trust/index.ts";
import { type InferenceRequest, type InferenceServer, type RequestInput, ServingError, type StatusCode } from "../contract.ts";
import { ADD_CONFIG, addModel, floatInput, floatsOf, request, testRepository, testServer } from "./testing.ts";

async function ask(server: InferenceServer, asked: InferenceRequest): Promise<{ readonly version: string; readonly shape: readonly number[]; readonly values: number[] }> {
  const response = await server.infer(asked);
  const [output] = response.outputs;
  const answer = { version: response.version, shape: output!.shape, values: floatsOf(output!) };
  response.release();
  return answer;
}

const refused = (status: StatusCode, text: RegExp) => (error: unknown): boolean => error instanceof ServingError && error.status === status && text.test(error.message);
const RELOADS = 200;
const ones = (rows: number, value = 1): RequestInput => floatInput("x", new Array<number>(rows * 4).fill(value), [rows, 4]);

test("a model without a configuration: metadata, answers in batches, statistics exact", async () => {
  using repository = testRepository();
  repository.write("mlp/1/model.onnx", mlp());
  await using running = await testServer(repository, { defaultMaxBatch: 8 });
  const { server } = running;
  assert.ok(server.ready());
  assert.deepEqual(server.modelMetadata("mlp", ""), { name: "mlp", versions: ["1"], platform: "engine", inputs: [{ name: "x", datatype: "FP32", shape: [-1, 16] }], outputs: [{ name: "y", datatype: "FP32", shape: [-1, 8] }] });
  const sizes = Array.from({ length: 200 }, (_, i) => 1 + (i % 3));
  await Promise.all(sizes.map(async (rows, i) => {
    const x = floats(rows * 16, i + 1);
    const { shape, values } = await ask(server, request("mlp", [floatInput("x", [...x], [rows, 16])]));
    assert.deepEqual(shape, [rows, 8]);
    const expected = mlpReference(x, rows);
    for (const [at, value] of values.entries()) assert.ok(Math.abs(value - expected[at]!) < 1e-5, `request ${i}`);
  }));
  await assert.rejects(server.infer(request("mlp", [])), refused("INVALID_ARG", /expected 1 inputs but got 0 inputs for model 'mlp'/));
  const [stats] = server.statistics("mlp", "1");
  const rows = sizes.reduce((sum, size) => sum + size, 0);
  assert.deepEqual([stats!.success.count, stats!.queue.count, stats!.computeInfer.count, stats!.inferenceCount, stats!.fail.count], [200, 200, 200, rows, 1]);
  assert.equal(stats!.batches.reduce((sum, batch) => sum + batch.computeInfer.count, 0), stats!.executionCount);
  assert.equal(stats!.batches.reduce((sum, batch) => sum + batch.batchSize * batch.computeInfer.count, 0), rows);
  assert.ok(stats!.executionCount < 150, `${stats!.executionCount} executions: batches formed`);
  const text = running.registry.render();
  assert.match(text, /nv_inference_request_success\{model="mlp",version="1"\} 200\n/);
  assert.match(text, new RegExp(`nv_inference_count\\{model="mlp",version="1"\\} ${rows}\\n`));
  assert.match(text, /sinter_request_phase_seconds_count\{model="mlp",version="1",phase="total"\} 200\n/);
});

test("wrong requests are refused with the reason, and harm nobody", async () => {
  using repository = testRepository();
  repository.write("add/3/model.onnx", addModel(3));
  repository.write("add/config.pbtxt", ADD_CONFIG);
  await using running = await testServer(repository);
  const { server } = running;
  const cases: readonly (readonly [InferenceRequest, StatusCode, RegExp])[] = [
    [request("nothing", []), "INVALID_ARG", /Request for unknown model: 'nothing' is not found/],
    [request("add", [ones(1)], { version: "9" }), "NOT_FOUND", /unknown model: 'add' version 9 is not found/],
    [request("add", []), "INVALID_ARG", /expected 1 inputs but got 0 inputs for model 'add'/],
    [request("add", [ones(1)], { version: "../1" }), "INVALID_ARG", /version/],
    [request("add", [{ ...ones(1), name: "z" }]), "INVALID_ARG", /unexpected inference input 'z' for model 'add'/],
    [request("add", [{ ...ones(1), datatype: "INT32" }]), "INVALID_ARG", /data-type is 'INT32', but model 'add' expects 'FP32'/],
    [request("add", [ones(9)]), "INVALID_ARG", /batch-size must be <= 8 for 'add'/],
    [request("add", [{ ...ones(1), shape: [1, 5] }]), "INVALID_ARG", /unexpected shape for input 'x' for model 'add'. Expected \[-1,4\], got \[1,5\]/],
    [request("add", [{ ...ones(2), shape: [1, 4] }]), "INVALID_ARG", /Expected 16, got 32/],
    [request("add", [ones(1)], { outputs: [{ name: "q", classification: 0 }] }), "INVALID_ARG", /unexpected inference output 'q'/],
    [request("add", [ones(1)], { outputs: [{ name: "y", classification: 0 }, { name: "y", classification: 0 }] }), "INVALID_ARG", /output 'y' already exists in request/],
  ];
  for (const [asked, status, text] of cases) await assert.rejects(server.infer(asked), refused(status, text));
  assert.deepEqual((await ask(server, request("add", [ones(2)]))).values, new Array(8).fill(4));
  await assert.rejects(server.loadModel("add", new Map()), refused("UNAVAILABLE", /explicit model load/));
});

test("reloads under load lose no answer and give none of a version that was not there", async () => {
  using repository = testRepository();
  repository.write("add/1/model.onnx", addModel(0));
  repository.write("add/config.pbtxt", ADD_CONFIG);
  await using running = await testServer(repository, { mode: "explicit", load: ["add"] });
  const { server } = running;
  // Generation g adds g modulo 3; from `current` on to `loading` any may answer.
  let [current, loading, done, answers] = [0, 0, false, 0];
  const client = async (): Promise<void> => {
    while (!done) {
      const least = current;
      const { values } = await ask(server, request("add", [ones(1, 0)]));
      const possible = Array.from({ length: Math.min(3, loading - least + 1) }, (_, i) => (least + i) % 3);
      assert.ok(possible.includes(values[0]!), `generation ${values[0]}; ${possible} were there`);
      answers++;
      await delay(1);
    }
  };
  const clients = Array.from({ length: 8 }, client);
  for (let generation = 1; generation <= RELOADS; generation++) {
    loading = generation;
    repository.write("add/1/model.onnx", addModel(generation % 3));
    await server.loadModel("add", new Map());
    current = generation;
  }
  done = true;
  await Promise.all(clients);
  assert.ok(answers > RELOADS, `${answers} answers`);
  assert.equal(server.statistics("add", "1")[0]!.success.count, answers);
});

test("a reload that fails leaves the old version serving, with the reason in the index", async () => {
  using repository = testRepository();
  repository.write("add/1/model.onnx", addModel(1));
  await using running = await testServer(repository, { mode: "explicit", load: ["*"] });
  const { server } = running;
  repository.write("add/1/model.onnx", addModel(2).subarray(0, 60));
  await assert.rejects(server.loadModel("add", new Map()), /load failed for model 'add': version 1 is at READY state: /);
  assert.deepEqual((await ask(server, request("add", [ones(1)]))).values, [2, 2, 2, 2]);
  const [entry] = server.repositoryIndex(false);
  assert.equal(entry!.state, "READY");
  assert.match(entry!.reason!, /the newer files were not loaded/);
  repository.write("add/config.pbtxt", 'dynamic_batching { }\nmax_batch_size: 4\nparameters { key: "latency_objective_ms" value: { string_value: "soon" } }');
  repository.write("add/1/model.onnx", addModel(2));
  await assert.rejects(server.loadModel("add", new Map()), /parameter "latency_objective_ms" is "soon"; expected a number above 0/);
  assert.match(running.registry.render(), /sinter_model_memory_bytes\{model="add",version="1"\} [1-9]/);
  await assert.rejects(server.loadModel("absent", new Map()), refused("INTERNAL", /failed to load 'absent', failed to poll from model repository/));
  await assert.rejects(server.loadModel("../add", new Map()), refused("INVALID_ARG", /invalid model name '..\/add', model name must not contain path traversal characters/));
  await server.unloadModel("add", false);
  await assert.rejects(server.infer(request("add", [ones(1)])), refused("UNAVAILABLE", /no available versions/));
  assert.deepEqual(server.repositoryIndex(false), [{ name: "add", version: "1", state: "UNAVAILABLE", reason: "unloaded" }]);
});

test("versions by policy, a configuration with the load, files only when allowed", async () => {
  using repository = testRepository();
  for (const version of [1, 2, 3]) repository.write(`add/${version}/model.onnx`, addModel(version));
  await using running = await testServer(repository, { mode: "explicit", load: ["add"], allowUpload: true });
  const { server } = running;
  assert.deepEqual(server.modelMetadata("add", "").versions, ["3"]);
  await server.loadModel("add", new Map([["config", JSON.stringify({ version_policy: { specific: { versions: [1, 3] } } })]]));
  assert.deepEqual(server.modelMetadata("add", "").versions, ["1", "3"]);
  assert.equal((await ask(server, request("add", [ones(1)], { version: "1" }))).values[0], 2);
  await assert.rejects(server.loadModel("add", new Map([["config", '{"max_batch": 3}']])), /config:1: unknown field "max_batch"/);
  await server.loadModel("sent", new Map<string, string | Uint8Array>([["config", "{}"], ["file:7/model.onnx", addModel(7)]]));
  assert.deepEqual(await ask(server, request("sent", [ones(1)])), { version: "7", shape: [1, 4], values: [8, 8, 8, 8] });
  await assert.rejects(server.loadModel("sent", new Map<string, string | Uint8Array>([["config", "{}"], ["file:../../x", addModel(7)]])), /expected "file:VERSION\/NAME"/);
  await using strict = await testServer(repository, { mode: "explicit" });
  await assert.rejects(strict.server.loadModel("sent", new Map<string, string | Uint8Array>([["config", "{}"], ["file:7/model.onnx", addModel(7)]])), refused("UNSUPPORTED", /--allow-model-upload/));
});

test("mode poll takes up what has come to rest, and never half of it", async () => {
  using repository = testRepository();
  repository.write("add/1/model.onnx", addModel(1));
  await using running = await testServer(repository, { mode: "poll", pollSeconds: 0.1 });
  const { server } = running;
  const until = async (what: () => boolean): Promise<void> => {
    for (let waited = 0; !what(); waited += 20) {
      assert.ok(waited < 20_000, "waited 20 s");
      await delay(20);
    }
  };
  const model = addModel(2);
  mkdirSync(join(repository.folder, "add", "2"));
  for (let at = 0; at < model.byteLength; at += 40) {
    writeFileSync(join(repository.folder, "add", "2", "model.onnx"), model.subarray(at, at + 40), { flag: "a" });
    assert.equal((await ask(server, request("add", [ones(1)]))).version, "1");
    await delay(150);
  }
  await until(() => server.modelMetadata("add", "").versions[0] === "2");
  assert.equal((await ask(server, request("add", [ones(1)]))).values[0], 3);
  repository.write("other/1/model.onnx", addModel(5));
  await until(() => server.repositoryIndex(true).some(({ name }) => name === "other"));
});

test("a full queue refuses, waiting requests whose client left are dropped, queued ones expire", async () => {
  using repository = testRepository();
  repository.write("add/1/model.onnx", addModel(1));
  repository.write("add/config.pbtxt", ADD_CONFIG.replace("dynamic_batching { }", "dynamic_batching { preferred_batch_size: 8 max_queue_delay_microseconds: 400000 default_queue_policy { max_queue_size: 4 default_timeout_microseconds: 200000 allow_timeout_override: true } }"));
  await using running = await testServer(repository);
  const { server } = running;
  const waiting = Array.from({ length: 4 }, (_, i) => request("add", [ones(1)], i === 1 ? { timeoutUs: 30_000 } : {}));
  const outcomes = waiting.map((asked) => server.infer(asked));
  const expired = assert.rejects(outcomes[1]!, refused("UNAVAILABLE", /Request timeout expired/));
  await assert.rejects(server.infer(request("add", [ones(1)])), refused("UNAVAILABLE", /Exceeds maximum queue size/));
  assert.throws(() => server.enter("add", "", 100), refused("UNAVAILABLE", /Exceeds maximum queue size/));
  waiting[0]!.cancelled = true;
  await Promise.all([expired, assert.rejects(outcomes[0]!, refused("CANCELLED", /cancelled/)), assert.rejects(outcomes[2]!, /timeout/), assert.rejects(outcomes[3]!, /timeout/)]);
  const [stats] = server.statistics("add", "");
  assert.deepEqual([stats!.success.count, stats!.executionCount], [0, 0]);
  const text = running.registry.render();
  assert.match(text, /nv_inference_request_failure\{model="add",version="1",reason="CANCELED"\} 1\n/);
});

test("a server that drains does not wait out the queue delay of a batch", async () => {
  using repository = testRepository();
  repository.write("add/1/model.onnx", addModel(1));
  repository.write("add/config.pbtxt", ADD_CONFIG.replace("dynamic_batching { }", "dynamic_batching { preferred_batch_size: 8 max_queue_delay_microseconds: 20000000 }"));
  await using running = await testServer(repository);
  const { server } = running;
  const waiting = [ask(server, request("add", [ones(1)])), ask(server, request("add", [ones(1, 2)]))];
  await delay(20);
  const began = performance.now();
  assert.equal(await running.stop(), 0);
  const answers = await Promise.all(waiting);
  assert.deepEqual(answers.map(({ values }) => values[0]), [2, 3]);
  assert.ok(performance.now() - began < 5000, "the queue delay was waited out");
});

test("lengths are grouped, or padded and cut again, as configured", async () => {
  using repository = testRepository();
  const config = (way: string): string => `max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1, 3 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1, 3 ] } ]
dynamic_batching { preferred_batch_size: 8 max_queue_delay_microseconds: 20000 }
parameters { key: "variable_lengths" value: { string_value: "${way}" } }
parameters { key: "pad:x" value: { string_value: "-1" } }
parameters { key: "profile:x" value: { string_value: "1x1x3,4x4x3,8x16x3" } }`;
  for (const way of ["pad", "group"]) {
    repository.write(`${way}/1/model.onnx`, addModel(10, ["n", "length", 3]));
    repository.write(`${way}/config.pbtxt`, config(way));
  }
  await using running = await testServer(repository);
  for (const way of ["pad", "group"]) {
    await Promise.all(Array.from({ length: 8 }, async (_, i) => {
      const length = 1 + (i % 4);
      const values = Array.from({ length: length * 3 }, (__, at) => i * 100 + at);
      const answer = await ask(running.server, request(way, [floatInput("x", values, [1, length, 3])]));
      assert.deepEqual(answer, { version: "1", shape: [1, length, 3], values: values.map((value) => value + 10) });
    }));
    const [stats] = running.server.statistics(way, "");
    assert.deepEqual(stats!.batches.map(({ batchSize }) => batchSize), way === "pad" ? [8] : [2]);
  }
  const text = running.registry.render();
  assert.match(text, /sinter_batch_padding_bytes_total\{model="pad",version="1"\} 144\n/);
  assert.match(text, /sinter_batch_padding_bytes_total\{model="group",version="1"\} 0\n/);
});

test("a shape outside the profile is answered all the same, and counted", async () => {
  using repository = testRepository();
  repository.write("add/1/model.onnx", addModel(1, ["n", "length"]));
  repository.write("add/config.pbtxt", `max_batch_size: 2
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] } ]
parameters { key: "profile:x" value: { string_value: "1x1,1x4,2x8" } }`);
  await using running = await testServer(repository);
  const lengths = [4, 8, 9, 16, 40, 3, 0];
  await Promise.all(lengths.map(async (length) => {
    const { shape, values } = await ask(running.server, request("add", [floatInput("x", new Array<number>(length).fill(2), [1, length])]));
    assert.deepEqual([shape, values], [[1, length], new Array(length).fill(3)]);
  }));
  // Below what the wide engine was made for, after shapes above it.
  for (const length of [100, 0]) assert.deepEqual((await ask(running.server, request("add", [floatInput("x", new Array<number>(length).fill(2), [1, length])]))).shape, [1, length]);
  assert.match(running.registry.render(), /sinter_requests_outside_profile_total\{model="add",version="1"\} 6\n/);
});

test("classification, labels, string tensors, order kept over several instances", async () => {
  using repository = testRepository();
  repository.write("add/1/model.onnx", addModel(0));
  repository.write("add/labels.txt", "ant\nbee\ncat\ndog\n");
  repository.write("add/config.pbtxt", ADD_CONFIG.replace("dims: [ 4 ] } ]\ndynamic", 'dims: [ 4 ] label_filename: "labels.txt" } ]\ndynamic').replace("{ }", "{ preserve_ordering: true }") + "instance_group { count: 3 }\n");
  repository.write("text/1/model.onnx", stringModel());
  await using running = await testServer(repository, { defaultMaxBatch: 0 });
  const { server } = running;
  const best = await server.infer(request("add", [floatInput("x", [1, 4, 2.5, 3, 8, 7, 6, 5], [2, 4])], { outputs: [{ name: "y", classification: 2 }] }));
  assert.equal(best.outputs[0]!.datatype, "BYTES");
  assert.deepEqual(best.outputs[0]!.shape, [2, 2]);
  assert.deepEqual(strings(best.outputs[0]!.bytes), ["4.000000:1:bee", "3.000000:3:dog", "8.000000:0:ant", "7.000000:1:bee"]);
  best.release();
  const order: number[] = [];
  await Promise.all(Array.from({ length: 30 }, (_, i) => ask(server, request("add", [ones(1 + (i % 8), i)])).then(() => order.push(i))));
  assert.deepEqual(order, order.map((_, i) => i));
  const text = (name: string, values: readonly string[]): RequestInput => ({ name, datatype: "BYTES", shape: [values.length], bytes: bytesOf(values) });
  const joined = await server.infer(request("text", [text("a", ["x", "é"]), text("b", ["1", ""])]));
  assert.deepEqual(strings(joined.outputs[0]!.bytes), ["x1", "é"]);
  await assert.rejects(server.infer(request("text", [{ ...text("a", ["x"]), bytes: new Uint8Array([9, 0, 0, 0, 1]) }, text("b", ["1"])])), refused("INVALID_ARG", /unexpected number of string elements/));
});

function bytesOf(values: readonly string[]): Uint8Array {
  return Buffer.concat(values.flatMap((value) => [Buffer.from(Uint32Array.of(Buffer.byteLength(value)).buffer), Buffer.from(value)]));
}

function strings(bytes: Uint8Array): string[] {
  const view = Buffer.from(bytes);
  const found: string[] = [];
  for (let at = 0; at < view.length; at += 4 + view.readUInt32LE(at)) found.push(view.toString("utf8", at + 4, at + 4 + view.readUInt32LE(at)));
  return found;
}

test("an engine is served if a trusted key signed it", async () => {
  using repository = testRepository();
  const path = join(repository.folder, "mlp", "1", "model.engine");
  mkdirSync(join(repository.folder, "mlp", "1"), { recursive: true });
  await build(mlp(), { output: path, level: 0 });
  await assert.rejects(testServer(repository), /the engine is not signed/);
  signEngine(path, join(repository.folder, "..", "foreign"));
  await assert.rejects(testServer(repository), /does not trust/);
  signEngine(path, repository.keys);
  await using running = await testServer(repository);
  const x = floats(16);
  const { values } = await ask(running.server, request("mlp", [floatInput("x", [...x], [1, 16])]));
  assert.ok(Math.abs(values[0]! - mlpReference(x, 1)[0]!) < 1e-5);
  // The server maps its own copy: what happens to the repository's file does not reach it.
  writeFileSync(path, readFileSync(path).subarray(0, 100));
  await ask(running.server, request("mlp", [floatInput("x", [...x], [1, 16])]));
});

test("a tuned engine takes over while requests go on", async () => {
  using repository = testRepository();
  repository.write("mlp/1/model.onnx", makeModel({ inputs: [{ name: "x", type: "float32", dims: ["n", 4] }], outputs: [{ name: "y", type: "float32", dims: ["n", 4] }], nodes: [{ op: "Mul", inputs: ["x", "x"], outputs: ["h"] }, { op: "Add", inputs: ["h", "x"], outputs: ["y"] }] }));
  await using running = await testServer(repository, { tuneLevel: 1 });
  const [version] = running.store.serving();
  for (let i = 0; i < 400 && !/level 1/.test(version!.summary); i++) {
    assert.deepEqual((await ask(running.server, request("mlp", [ones(1, 3)]))).values, [12, 12, 12, 12]);
    await delay(25);
  }
  assert.match(version!.summary, /level 1/);
  assert.deepEqual((await ask(running.server, request("mlp", [ones(1, 3)]))).values, [12, 12, 12, 12]);
});

test("onnxruntime in a process of its own: answers, refusals, and a new one after a crash", async () => {
  using repository = testRepository();
  repository.write("mlp/1/model.onnx", mlp());
  repository.write("mlp/config.pbtxt", 'backend: "onnxruntime"\n');
  await using running = await testServer(repository);
  const { server } = running;
  const x = floats(32);
  const asked = (): InferenceRequest => request("mlp", [floatInput("x", [...x], [2, 16])]);
  const check = ({ values }: { values: number[] }): void => {
    const expected = mlpReference(x, 2);
    assert.ok(values.every((value, i) => Math.abs(value - expected[i]!) < 1e-5));
  };
  (await Promise.all(Array.from({ length: 20 }, () => ask(server, asked())))).forEach(check);
  assert.match(running.store.serving()[0]!.summary, /onnxruntime 1\./);
  const children = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, "utf8").trim().split(" ").filter((id) => readFileSync(`/proc/${id}/cmdline`, "utf8").includes("onnxruntime/child.js"));
  assert.equal(children.length, 1);
  process.kill(Number(children[0]), "SIGKILL");
  const outcomes = await Promise.allSettled([ask(server, asked())]);
  if (outcomes[0]!.status === "rejected") assert.ok(refused("INTERNAL", /process that runs onnxruntime/)(outcomes[0]!.reason));
  check(await ask(server, asked()));
});

test("an engine in the cache that will not load is made anew", async () => {
  using repository = testRepository();
  repository.write("add/1/model.onnx", addModel(77));
  const cache = join(repository.folder, "..", "cache");
  for (const round of [1, 2]) {
    await using running = await testServer(repository, { cache });
    assert.equal((await ask(running.server, request("add", [ones(1)]))).values[0], 78, `round ${round}`);
    await running.stop();
    for (const name of readdirSync(cache).filter((entry) => entry.endsWith(".engine"))) writeFileSync(join(cache, name), "no engine");
  }
});

test("decoupled models answer a stream, with as many answers as they give, and nothing else", async () => {
  using repository = testRepository();
  const tensor = (name: string, type: string, dims: string): string => `{ name: "${name}" data_type: TYPE_${type} dims: [ ${dims} ] }`;
  const config = `backend: "repeat" max_batch_size: 0 model_transaction_policy { decoupled: true }
    input [ ${tensor("IN", "INT32", "-1")}, ${tensor("DELAY", "UINT32", "-1")}, ${tensor("WAIT", "UINT32", "1")} ] output [ ${tensor("OUT", "INT32", "1")}, ${tensor("IDX", "UINT32", "1")} ]`;
  repository.write("repeat/1/.keep", "");
  repository.write("repeat/config.pbtxt", config);
  repository.write("add/1/model.onnx", addModel(1));
  repository.write("add/config.pbtxt", `${ADD_CONFIG} model_transaction_policy { decoupled: true }`);
  await using running = await testServer(repository, { mode: "explicit", load: ["*"] });
  const { server } = running;
  const words = (name: string, datatype: "INT32" | "UINT32", values: readonly number[]): RequestInput => ({ name, datatype, shape: [values.length], bytes: new Uint8Array(Uint32Array.from(values).buffer) });
  const asked = (values: readonly number[], delayMs: number): InferenceRequest => request("repeat", [words("IN", "INT32", values), words("DELAY", "UINT32", values.map(() => delayMs)), words("WAIT", "UINT32", [0])]);
  const stream = async (one: InferenceRequest, after = (_count: number): void => undefined): Promise<number[][]> => {
    const answers: number[][] = [];
    await server.inferStream(one, (response, isLast) => {
      assert.equal(isLast, false, "the model does not know");
      answers.push(response.outputs.map(({ bytes }) => new Uint32Array(bytes.slice().buffer)[0]!));
      response.release();
      after(answers.length);
    });
    return answers;
  };
  assert.deepEqual(await Promise.all([stream(asked([7, 8, 9], 5)), stream(asked([], 0))]), [[[7, 0], [8, 1], [9, 2]], []]);
  await assert.rejects(server.infer(asked([1], 0)), refused("UNSUPPORTED", /doesn't support models with decoupled transaction policy/));
  await assert.rejects(stream(request("repeat", [words("IN", "INT32", [1]), words("DELAY", "UINT32", []), words("WAIT", "UINT32", [0])])), refused("INVALID_ARG", /IN and DELAY to have as many elements/));
  const left = asked([1, 2, 3, 4], 10);
  await assert.rejects(stream(left, (count) => { if (count === 2) left.cancelled = true; }), refused("CANCELLED", /cancelled/));
  const [statistics] = server.statistics("repeat", "");
  assert.deepEqual([statistics!.success.count, statistics!.fail.count, statistics!.executionCount], [2, 2, 2]);
  // A model that answers once says with its answer that it was the last.
  await server.inferStream(request("add", [ones(1)]), (response, isLast) => {
    assert.deepEqual([floatsOf(response.outputs[0]!), isLast], [[2, 2, 2, 2], true]);
    response.release();
  });
  await assert.rejects(server.infer(request("add", [ones(1)])), refused("UNSUPPORTED", /decoupled/));
  const running3 = stream(asked([1, 2, 3], 30));
  await server.unloadModel("repeat", false);
  assert.equal((await running3).length, 3, "what was accepted is answered before the model goes");
  repository.write("repeat/config.pbtxt", config.replace("decoupled: true", "decoupled: false"));
  await assert.rejects(server.loadModel("repeat", new Map()), /needs max_batch_size: 0 and model_transaction_policy/);
});
