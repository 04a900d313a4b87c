/** Ensembles: maps, steps side by side, batches between models that batch and those that do not, and what is refused. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type InferenceServer, ServingError } from "../contract.ts";
import { ADD_CONFIG, addModel, floatInput, floatsOf, request, type TestRepository, testRepository, testServer } from "./testing.ts";

/** @param steps model, tensor in, tensor out */
function ensemble(steps: readonly (readonly [string, string, string])[], { max = 8, out = "OUT", more = "" } = {}): string {
  const step = ([model, input, output]: readonly [string, string, string]): string => `{ model_name: "${model}" model_version: -1 input_map { key: "x" value: "${input}" } output_map { key: "y" value: "${output}" } }`;
  const tensor = (name: string): string => `[ { name: "${name}" data_type: TYPE_FP32 dims: [ 4 ] ${name === out ? 'label_filename: "labels.txt"' : ""} } ]`;
  return `platform: "ensemble" max_batch_size: ${max} input ${tensor("IN")} output ${tensor(out)} ensemble_scheduling { step [ ${steps.map(step).join(",\n")} ] } ${more}`;
}

function writeModels(repository: TestRepository): void {
  for (const number of [1, 10]) {
    repository.write(`add${number}/1/model.onnx`, addModel(number));
    repository.write(`add${number}/config.pbtxt`, ADD_CONFIG);
  }
  repository.write("single/1/model.onnx", addModel(100, [4]));
  repository.write("single/config.pbtxt", ADD_CONFIG.replace("max_batch_size: 8", "max_batch_size: 0").replace("dynamic_batching { }", ""));
}

function writeEnsemble(repository: TestRepository, name: string, config: string): void {
  repository.write(`${name}/labels.txt`, "a\nb\nc\nd\n");
  repository.write(`${name}/1/.keep`, "");
  repository.write(`${name}/config.pbtxt`, config);
}

async function ask(server: InferenceServer, model: string, values: readonly number[], shape: readonly number[]): Promise<{ readonly shape: readonly number[]; readonly values: number[] }> {
  const response = await server.infer(request(model, [floatInput("IN", values, shape)]));
  const answer = { shape: response.outputs[0]!.shape, values: floatsOf(response.outputs[0]!) };
  response.release();
  return answer;
}

test("a pipeline answers as its models do, and all of them count", async () => {
  using repository = testRepository();
  writeModels(repository);
  writeEnsemble(repository, "chain", ensemble([["add10", "between", "OUT"], ["add1", "IN", "between"]]));
  writeEnsemble(repository, "mixed", ensemble([["add1", "IN", "p"], ["single", "p", "q"], ["chain", "q", "OUT"]].map(([model, a, b]) => [model!, a!, b!] as const)).replace('model_name: "chain" model_version: -1 input_map { key: "x"', 'model_name: "chain" model_version: 1 input_map { key: "IN"').replace('output_map { key: "y" value: "OUT" }', 'output_map { key: "OUT" value: "OUT" }'));
  await using running = await testServer(repository);
  const { server } = running;
  assert.deepEqual(server.modelMetadata("chain", ""), { name: "chain", versions: ["1"], platform: "ensemble", inputs: [{ name: "IN", datatype: "FP32", shape: [-1, 4] }], outputs: [{ name: "OUT", datatype: "FP32", shape: [-1, 4] }] });
  assert.deepEqual(await ask(server, "chain", [0, 1, 2, 3, 4, 5, 6, 7], [2, 4]), { shape: [2, 4], values: [11, 12, 13, 14, 15, 16, 17, 18] });
  assert.deepEqual(await ask(server, "mixed", [0, 0, 0, 0], [1, 4]), { shape: [1, 4], values: [112, 112, 112, 112] });
  await Promise.all(Array.from({ length: 20 }, async (_, i) => assert.deepEqual((await ask(server, "chain", [i, i, i, i], [1, 4])).values, [i + 11, i + 11, i + 11, i + 11])));
  const counts = ["chain", "add1", "add10"].map((model) => server.statistics(model, "")[0]!.success.count);
  assert.deepEqual(counts, [22, 23, 22], "mixed went through chain, too");
  const classes = await server.infer(request("chain", [floatInput("IN", [0, 5, 2, 3], [1, 4])], { outputs: [{ name: "OUT", classification: 1 }] }));
  assert.equal(Buffer.from(classes.outputs[0]!.bytes).toString("utf8", 4), "16.000000:1:b");
  classes.release();
  await assert.rejects(ask(server, "mixed", [0, 0, 0, 0, 0, 0, 0, 0], [2, 4]), (error) => error instanceof ServingError && error.status === "INVALID_ARG" && /in ensemble 'mixed', .*unexpected shape for input 'x' for model 'single'/.test(error.message));
  assert.equal(server.statistics("mixed", "")[0]!.fail.count, 1);
});

test("loading an ensemble loads its models; they go with it when asked, and it goes with them", async () => {
  using repository = testRepository();
  writeModels(repository);
  writeEnsemble(repository, "chain", ensemble([["add1", "IN", "between"], ["add10", "between", "OUT"]]));
  await using running = await testServer(repository, { mode: "explicit", load: ["chain"] });
  const { server } = running;
  const ready = (): string[] => server.repositoryIndex(true).map(({ name }) => name);
  assert.deepEqual(ready(), ["add1", "add10", "chain"]);
  await server.unloadModel("add1", false);
  assert.deepEqual(ready(), ["add10"]);
  await server.loadModel("chain", new Map());
  await server.unloadModel("chain", true);
  assert.deepEqual(ready(), []);
  const wrong: readonly (readonly [string, RegExp])[] = [
    [ensemble([["add1", "IN", "between"]]), /ensemble output 'OUT' for ensemble wrong is not used/],
    [ensemble([["add1", "IN", "OUT"], ["add10", "IN", "OUT"]]), /ensemble tensor 'OUT' can appear in an output map only once/],
    [ensemble([["add1", "loop", "OUT"], ["add10", "OUT", "loop"]]), /the maps have a circle/],
    [ensemble([["add1", "IN", "OUT"]], { max: 16 }), /allows maximum batch size 16, but it contains model add1 which only allows maximum batch size to be 8/],
    [ensemble([["add1", "IN", "OUT"]]).replace('key: "x"', 'key: "z"'), /mapping to non-existing input z in model add1/],
    [ensemble([["absent", "IN", "OUT"]]), /depends on 'absent' which has no loaded version/],
    [ensemble([["wrong", "IN", "OUT"]]), /circular dependency between ensembles: wrong -> wrong/],
    [ensemble([["add1", "IN", "OUT"]]).replace("TYPE_FP32", "TYPE_INT32"), /inconsistent data type: INT32 is inferred from model wrong while FP32 is inferred from model add1/],
  ];
  for (const [config, text] of wrong) {
    writeEnsemble(repository, "wrong", config);
    await assert.rejects(server.loadModel("wrong", new Map()), text);
  }
});

test("tensors are reshaped on the way in and out, and models of no file hand them through", async () => {
  using repository = testRepository();
  const tensor = (name: string, dims: string, shape = ""): string => `[ { name: "${name}" data_type: TYPE_FP32 dims: [ ${dims} ] ${shape} } ]`;
  repository.write("through/1/.keep", "");
  repository.write("through/config.pbtxt", `backend: "identity" max_batch_size: 8 input ${tensor("x", "2, 1, 2")} output ${tensor("y", "2, 1, 2")}`);
  writeEnsemble(repository, "reshaped", `platform: "ensemble" max_batch_size: 8 input ${tensor("IN", "4", "reshape: { shape: [ 2, 1, 2 ] }")} output ${tensor("OUT", "4", "reshape: { shape: [ 2, 1, 2 ] }")}
    ensemble_scheduling { step [ { model_name: "through" model_version: -1 input_map { key: "x" value: "IN" } output_map { key: "y" value: "OUT" } } ] }`);
  await using running = await testServer(repository);
  assert.deepEqual(await ask(running.server, "reshaped", [1, 2, 3, 4, 5, 6, 7, 8], [2, 4]), { shape: [2, 4], values: [1, 2, 3, 4, 5, 6, 7, 8] });
});

test("ensembles that need each other are refused, whoever loads first, and configurations that come with the load are seen", async () => {
  using repository = testRepository();
  writeModels(repository);
  for (const name of ["one", "two"]) writeEnsemble(repository, name, ensemble([["add1", "IN", "OUT"]]));
  await using running = await testServer(repository, { mode: "explicit" });
  const { server } = running;
  const load = (name: string, step: string): Promise<void> => {
    const tensors = { max_batch_size: 8, platform: "ensemble", input: [{ name: "IN", data_type: "TYPE_FP32", dims: [4] }], output: [{ name: "OUT", data_type: "TYPE_FP32", dims: [4] }] };
    const names = step.startsWith("add") ? { x: "IN", y: "OUT" } : { x: "IN", y: "OUT" };
    const [input, output] = step.startsWith("add") ? ["x", "y"] : ["IN", "OUT"];
    return server.loadModel(name, new Map([["config", JSON.stringify({ ...tensors, ensemble_scheduling: { step: [{ model_name: step, model_version: -1, input_map: { [input!]: names.x }, output_map: { [output!]: names.y } }] } })]]));
  };
  // Neither serves: each would wait for the other.
  const outcomes = await Promise.allSettled([load("one", "two"), load("two", "one")]);
  assert.ok(outcomes.some((outcome) => outcome.status === "rejected" && /circular dependency between ensembles/.test(String(outcome.reason))), JSON.stringify(outcomes));
  // One serves with the other as its step; the other may not take it.
  await load("two", "add1");
  await load("one", "two");
  await assert.rejects(load("two", "one"), /circular dependency between ensembles: two -> one -> two/);
  assert.deepEqual((await ask(server, "one", [1, 2, 3, 4], [1, 4])).values, [2, 3, 4, 5]);
});

test("a model goes with nobody it is needed by, and not from under an ensemble that is being loaded", async () => {
  using repository = testRepository();
  writeModels(repository);
  for (const name of ["one", "two"]) writeEnsemble(repository, name, ensemble([["add1", "IN", "between"], ["add10", "between", "OUT"]]));
  await using running = await testServer(repository, { mode: "explicit", load: ["one", "two"] });
  const { server } = running;
  const ready = (): string[] => server.repositoryIndex(true).map(({ name }) => name);
  await server.unloadModel("one", true);
  assert.deepEqual(ready(), ["add1", "add10", "two"], "another ensemble has the same steps");
  for (let round = 0; round < 10; round++) {
    await Promise.allSettled([server.loadModel("one", new Map()), server.unloadModel("add1", false), server.loadModel("two", new Map())]);
    const names = ready();
    assert.ok(names.includes("add1") || !(names.includes("one") || names.includes("two")), `${names}: an ensemble serves without its step`);
  }
});

test("mode poll loads an ensemble once the step that it lacked is there", async () => {
  using repository = testRepository();
  writeModels(repository);
  repository.write("add10/1/model.onnx", addModel(10).subarray(0, 40));
  writeEnsemble(repository, "chain", ensemble([["add1", "IN", "between"], ["add10", "between", "OUT"]]));
  await using running = await testServer(repository, { mode: "poll", pollSeconds: 0.1, exitOnError: false });
  const { server } = running;
  assert.match(server.repositoryIndex(false).find(({ name }) => name === "chain")!.reason!, /depends on 'add10' which has no loaded version/);
  repository.write("add10/1/model.onnx", addModel(10));
  for (let waited = 0; waited < 10_000 && !server.repositoryIndex(true).some(({ name }) => name === "chain"); waited += 50) await delay(50);
  assert.deepEqual((await ask(server, "chain", [0, 0, 0, 0], [1, 4])).values, [11, 11, 11, 11]);
});
