/** Traces from requests over both protocols to files, sampled as the settings say. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { UserError } from "../base/index.ts";
import { ADD_CONFIG, addModel, testRepository, testServer } from "./models/testing.ts";
import { readTraceOptions } from "./extensions/trace-settings.ts";

interface Line {
  readonly id: number;
  readonly model_name?: string;
  readonly model_version?: number;
  readonly request_id?: string;
  readonly parent_id?: number;
  readonly activity?: string;
  readonly tensor?: { readonly name: string; readonly data: string; readonly shape: string; readonly dtype: string };
  readonly timestamps?: readonly { readonly name: string; readonly ns: number }[];
}

const STEPS = ["HTTP_RECV_START", "HTTP_RECV_END", "REQUEST_START", "QUEUE_START", "COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END", "REQUEST_END", "INFER_RESPONSE_COMPLETE", "HTTP_SEND_START", "HTTP_SEND_END"];

test("every second request is traced, in files of two and one at the end", async () => {
  using repository = testRepository();
  repository.write("add/1/model.onnx", addModel(1));
  repository.write("add/config.pbtxt", ADD_CONFIG);
  const folder = mkdtempSync(join(tmpdir(), "sinter-trace-"));
  const file = join(folder, "trace.json");
  const read = (path: string): Line[] => JSON.parse(readFileSync(path, "utf8")) as Line[];
  try {
    {
      await using running = await testServer(repository, { httpPort: 0, trace: readTraceOptions([`triton,file=${file}`, "level=TIMESTAMPS", "rate=2", "log-frequency=2"]) });
      const base = `http://127.0.0.1:${running.httpPort}/v2`;
      const send = async (path: string, body: unknown): Promise<unknown> => (await fetch(base + path, { method: "POST", body: JSON.stringify(body) })).json();
      const infer = (id: number): Promise<unknown> => send("/models/add/infer", { id: `r${id}`, inputs: [{ name: "x", shape: [1, 4], datatype: "FP32", data: [1, 2, 3, 4] }] });
      for (let id = 1; id <= 4; id++) await infer(id);
      await assert.doesNotReject(async () => assert.deepEqual(await send("/models/add/trace/setting", { trace_count: "1", log_frequency: "0" }), { trace_level: ["TIMESTAMPS"], trace_rate: "2", trace_count: "1", log_frequency: "0", trace_file: file, trace_mode: "triton" }));
      for (let id = 5; id <= 12; id++) await infer(id);
      await send("/models/add/infer", { inputs: [] });
      assert.deepEqual(((await send("/trace/setting", { trace_level: ["OFF"] })) as { trace_level: string[] }).trace_level, ["OFF"]);
    }
    const lines = read(`${file}.0`);
    assert.deepEqual(lines.filter(({ model_name }) => model_name).map(({ model_name, model_version, request_id }) => [model_name, model_version, request_id]), [["add", 1, "r2"], ["add", 1, "r4"]]);
    const first = lines.filter(({ id }) => id === 1).flatMap(({ timestamps = [] }) => timestamps);
    assert.deepEqual(first.map(({ name }) => name), STEPS);
    assert.ok(first.every(({ ns }, i) => i === 0 || STEPS[i] === "INFER_RESPONSE_COMPLETE" || ns >= first[i - 1]!.ns - 1), "in the order of time");
    assert.deepEqual(read(`${file}.1`).filter(({ request_id }) => request_id).map(({ request_id }) => request_id), ["r6"], "the count was one");
    assert.ok(!existsSync(`${file}.2`) && !existsSync(file));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("steps of an ensemble have traces of their own, tensors are written, and models with settings of their own are kept apart", async () => {
  using repository = testRepository();
  for (const name of ["add", "own"]) {
    repository.write(`${name}/1/model.onnx`, addModel(1));
    repository.write(`${name}/config.pbtxt`, ADD_CONFIG);
  }
  const tensor = (name: string): string => `[ { name: "${name}" data_type: TYPE_FP32 dims: [ 4 ] } ]`;
  repository.write("chain/1/.keep", "");
  repository.write("chain/config.pbtxt", `platform: "ensemble" max_batch_size: 8 input ${tensor("x")} output ${tensor("y")}
    ensemble_scheduling { step [ { model_name: "add" model_version: -1 input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } } ] }`);
  const folder = mkdtempSync(join(tmpdir(), "sinter-trace-"));
  const file = join(folder, "trace.json");
  try {
    {
      await using running = await testServer(repository, { httpPort: 0, trace: readTraceOptions([`triton,file=${file}`, "level=TIMESTAMPS", "level=TENSORS", "rate=1"]) });
      const post = (path: string, body: unknown): Promise<Response> => fetch(`http://127.0.0.1:${running.httpPort}/v2/models/${path}`, { method: "POST", body: JSON.stringify(body) });
      const infer = (model: string, id: string): Promise<Response> => post(`${model}/infer`, { id, inputs: [{ name: "x", shape: [1, 4], datatype: "FP32", data: [1, 2, 3, 4] }] });
      await post("own/trace/setting", { log_frequency: "2", trace_level: ["TIMESTAMPS"] });
      for (const [model, id] of [["own", "o1"], ["chain", "c1"], ["own", "o2"], ["own", "o3"]] as const) await infer(model, id);
    }
    const read = (path: string): Line[] => JSON.parse(readFileSync(path, "utf8")) as Line[];
    const idsIn = (path: string): (string | undefined)[] => read(path).filter(({ model_name }) => model_name).map(({ request_id }) => request_id);
    assert.deepEqual([idsIn(`${file}.0`), idsIn(`${file}.1`), idsIn(file)], [["o1", "o2"], ["o3"], ["c1", "c1"]]);
    const lines = read(file);
    const [whole, step] = lines.filter(({ model_name }) => model_name);
    assert.deepEqual([whole!.model_name, step!.model_name, step!.parent_id, whole!.parent_id], ["chain", "add", whole!.id, undefined]);
    const names = (id: number): string[] => lines.filter((line) => line.id === id).flatMap(({ timestamps = [] }) => timestamps.map(({ name }) => name));
    assert.deepEqual(names(whole!.id), ["HTTP_RECV_START", "HTTP_RECV_END", "REQUEST_START", "REQUEST_END", "INFER_RESPONSE_COMPLETE", "HTTP_SEND_START", "HTTP_SEND_END"]);
    assert.deepEqual(names(step!.id), STEPS.slice(2, 9));
    assert.deepEqual(lines.flatMap(({ id, activity, tensor: one }) => (one ? [[id, activity, one]] : [])), [
      [step!.id, "TENSOR_QUEUE_INPUT", { name: "x", data: "1,2,3,4", shape: "1,4", dtype: "FP32" }],
      [step!.id, "TENSOR_BACKEND_OUTPUT", { name: "y", data: "2,3,4,5", shape: "1,4", dtype: "FP32" }],
    ]);
    assert.ok(read(`${file}.0`).every(({ activity }) => activity === undefined));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("options that make no sense are refused", () => {
  assert.deepEqual(readTraceOptions(["mode=triton", "level=TIMESTAMPS", "count=5"]), { levels: ["TIMESTAMPS"], count: 5 });
  assert.throws(() => readTraceOptions(["opentelemetry,url=x"]), /Trace setting "opentelemetry,url=x": expected level/);
  assert.throws(() => readTraceOptions(["rate=often"]), (error) => error instanceof UserError && error.code === "option-invalid" && /Trace setting "rate=often": Unable to parse 'trace_rate'/.test(error.message));
  assert.throws(() => readTraceOptions(["level=ALL"]), UserError);
});
