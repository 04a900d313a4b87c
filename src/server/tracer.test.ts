/** Traces from requests over both protocols to files, sampled as the settings say. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ADD_CONFIG, addModel, testRepository, testServer } from "./models/testing.ts";
import { readTraceOptions } from "./extensions/trace-settings.ts";

interface Line {
  readonly id: number;
  readonly model_name?: string;
  readonly model_version?: number;
  readonly request_id?: string;
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

test("options that make no sense are refused", () => {
  assert.deepEqual(readTraceOptions(["mode=triton", "level=TIMESTAMPS", "count=5"]), { levels: ["TIMESTAMPS"], count: 5 });
  assert.throws(() => readTraceOptions(["opentelemetry,url=x"]), /Trace setting "opentelemetry,url=x": expected level/);
  assert.throws(() => readTraceOptions(["rate=often"]), /Unable to parse 'trace_rate'/);
});
