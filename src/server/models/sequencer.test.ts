/** Sequences of requests: controls, states, order, places, and what is refused. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { makeModel } from "../../onnx/index.ts";
import { type InferenceServer, type ParameterValue, ServingError } from "../contract.ts";
import { floatInput, floatsOf, request, testRepository, testServer } from "./testing.ts";

/** y = 1000 START + 100 END + 10 READY + id, plus what the sequence's x have summed up to. */
function summingModel(): Uint8Array {
  const row = (name: string, type: "float32" | "int32" | "uint64") => ({ name, type, dims: ["n", 1] });
  const scaled = (name: string, by: string) => [{ op: "Cast", inputs: [name], outputs: [`${name}_f`], attributes: { to: 1 } }, { op: "Mul", inputs: [`${name}_f`, by], outputs: [`${name}_s`] }];
  return makeModel({
    inputs: [row("x", "float32"), row("START", "int32"), row("END", "int32"), row("READY", "float32"), row("ID", "uint64"), row("before", "float32")],
    outputs: [row("y", "float32"), row("after", "float32")],
    nodes: [
      { op: "Constant", inputs: [], outputs: ["c1000"], attributes: { value_float: { float: 1000 } } }, { op: "Constant", inputs: [], outputs: ["c100"], attributes: { value_float: { float: 100 } } },
      { op: "Constant", inputs: [], outputs: ["c10"], attributes: { value_float: { float: 10 } } }, ...scaled("START", "c1000"), ...scaled("END", "c100"), ...scaled("READY", "c10"),
      { op: "Cast", inputs: ["ID"], outputs: ["ID_f"], attributes: { to: 1 } }, { op: "Add", inputs: ["x", "before"], outputs: ["after"] },
      { op: "Sum", inputs: ["after", "START_s", "END_s", "READY_s", "ID_f"], outputs: ["y"] },
    ],
  });
}

const CONFIG = `max_batch_size: 4
input [ { name: "x" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 1 ] } ]
sequence_batching {
  max_sequence_idle_microseconds: 200000
  STRATEGY
  control_input [
    { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },
    { name: "END" control [ { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } ] },
    { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY fp32_false_true: [ 0, 1 ] } ] },
    { name: "ID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } ] }
  ]
  state [ { input_name: "before" output_name: "after" data_type: TYPE_FP32 dims: [ 1 ] } ]
}
`;

async function step(server: InferenceServer, id: ParameterValue, x: number, flags = ""): Promise<number> {
  const parameters = new Map<string, ParameterValue>([["sequence_id", id], ["sequence_start", flags.includes("start")], ["sequence_end", flags.includes("end")]]);
  const response = await server.infer(request("sum", [floatInput("x", [x], [1, 1])], { parameters }));
  assert.deepEqual(response.outputs.map(({ name }) => name), ["y"], "states are not shown");
  const [value] = floatsOf(response.outputs[0]!);
  response.release();
  return value!;
}

for (const strategy of ["direct { }", "oldest { max_candidate_sequences: 4 max_queue_delay_microseconds: 2000 }"]) {
  test(`controls and states of many sequences at once: ${strategy}`, async () => {
    using repository = testRepository();
    repository.write("sum/1/model.onnx", summingModel());
    repository.write("sum/config.pbtxt", CONFIG.replace("STRATEGY", strategy));
    await using running = await testServer(repository);
    const { server } = running;
    assert.deepEqual(server.modelMetadata("sum", "").inputs.map(({ name }) => name), ["x"]);
    // Twelve sequences for four places; each sends all it has without waiting.
    await Promise.all(Array.from({ length: 12 }, async (_, i) => {
      const id = i + 1;
      const answers = await Promise.all([step(server, id, 1, "start"), step(server, id, 2), step(server, id, 3), step(server, id, 4, "end")]);
      assert.deepEqual(answers, [1000 + 10 + id + 1, 10 + id + 3, 10 + id + 6, 100 + 10 + id + 10]);
    }));
    const [statistics] = server.statistics("sum", "");
    assert.equal(statistics!.success.count, 48);
    assert.ok(statistics!.executionCount < 48, `${statistics!.executionCount} executions: sequences share batches`);
  });
}

test("a sequence that rests loses its place, and its state; what says nothing of a sequence is refused", async () => {
  using repository = testRepository();
  repository.write("sum/1/model.onnx", summingModel());
  repository.write("sum/config.pbtxt", CONFIG.replace("STRATEGY", "oldest { max_candidate_sequences: 1 }"));
  await using running = await testServer(repository);
  const { server } = running;
  const refused = (text: RegExp) => (error: unknown): boolean => error instanceof ServingError && error.status === "INVALID_ARG" && text.test(error.message);
  await assert.rejects(server.infer(request("sum", [floatInput("x", [1], [1, 1])])), refused(/must specify a non-zero or non-empty correlation ID/));
  await assert.rejects(step(server, 7, 1), refused(/sequence 7 to model 'sum' must specify the START flag on the first request/));
  await assert.rejects(step(server, "seven", 1, "start"), refused(/correlation ID control is TYPE_UINT64/));
  await assert.rejects(server.infer(request("sum", [floatInput("x", [1, 1], [2, 1])], { parameters: new Map<string, ParameterValue>([["sequence_id", 1], ["sequence_start", true]]) })), refused(/must specify batch-size 1/));
  assert.equal(await step(server, 7, 1, "start"), 1018);
  assert.equal(await step(server, 7, 1, "start"), 1018, "a second START begins anew");
  const second = step(server, 8, 1, "start end");
  await delay(20);
  assert.equal(await step(server, 7, 1), 19);
  assert.equal(await second, 1119, "the place was given on");
  await assert.rejects(step(server, 7, 1), refused(/START flag/));
});

test("who leaves before the turn of the sequence gives it up, and counts as waiting once", async () => {
  using repository = testRepository();
  repository.write("sum/1/model.onnx", summingModel());
  repository.write("sum/config.pbtxt", CONFIG.replace("STRATEGY", "oldest { max_candidate_sequences: 1 }").replace("200000", "400000"));
  await using running = await testServer(repository);
  const { server, registry } = running;
  await step(server, 1, 1, "start");
  const flags = (start: boolean): ReadonlyMap<string, ParameterValue> => new Map<string, ParameterValue>([["sequence_id", 2], ["sequence_start", start]]);
  const waiting = [true, false].map((start) => request("sum", [floatInput("x", [1], [1, 1])], { parameters: flags(start) }));
  const outcomes = waiting.map((one) => server.infer(one).then(() => "answered", (error: ServingError) => error.status));
  assert.match(registry.render(), /nv_inference_pending_request_count\{model="sum",version="1"\} 2\n/);
  waiting[1]!.cancelled = true;
  assert.deepEqual(await Promise.all(outcomes), ["CANCELLED", "CANCELLED"]);
  assert.match(registry.render(), /nv_inference_pending_request_count\{model="sum",version="1"\} 0\n/);
  assert.match(registry.render(), /nv_inference_request_failure\{model="sum",version="1",reason="CANCELED"\} 2\n/);
  assert.equal(await step(server, 1, 1, "end"), 113, "the sequence in the place goes on");
});
