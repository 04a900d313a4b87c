/** The HTTP front end with independent clients: Node's fetch, curl, and bare sockets where a client misbehaves. */
import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { unlinkSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { deflateSync, gunzipSync, gzipSync } from "node:zlib";
import { Extensions } from "../extensions/extensions.ts";
import { IdentityServer } from "../testing.ts";
import { ForwardedHeaders } from "../wire/forwarded.ts";
import { HttpFrontEnd } from "./front-end.ts";

const MIB = 2 ** 20;
let server: IdentityServer;
let frontEnd: HttpFrontEnd;
let base: string;

before(async () => {
  server = new IdentityServer();
  frontEnd = await HttpFrontEnd.listen(server, { port: 0, maxInputBytes: 4 * MIB, headersTimeoutMs: 300, requestTimeoutMs: 600 });
  base = `http://127.0.0.1:${frontEnd.port}`;
});

after(async () => {
  assert.equal(await frontEnd.drain(1000), 0);
  assert.equal(server.claimed, 0, "every claim was given back");
});

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly bytes: Buffer;
}

async function send(method: string, path: string, body?: string | Uint8Array, headers: Record<string, string> = {}): Promise<Answer> {
  const response = await fetch(base + path, { method, headers, ...(body === undefined ? {} : { body }) });
  const bytes = Buffer.from(await response.arrayBuffer());
  return { status: response.status, headers: response.headers, text: bytes.toString(), bytes };
}

const get = (path: string): Promise<Answer> => send("GET", path);
const post = (path: string, body?: unknown): Promise<Answer> => send("POST", path, body === undefined ? undefined : JSON.stringify(body));
const infer = (model: string, body: unknown): Promise<Answer> => post(`/v2/models/${model}/infer`, body);
const tensor = (datatype: string, shape: readonly number[], data: unknown, more: object = {}): object => ({ inputs: [{ name: "INPUT0", datatype, shape, data }], ...more });

function binaryBody(json: unknown, ...tensors: readonly Uint8Array[]): { body: Buffer; headers: Record<string, string> } {
  const text = Buffer.from(JSON.stringify(json));
  return { body: Buffer.concat([text, ...tensors]), headers: { "Inference-Header-Content-Length": String(text.length) } };
}

test("health, metadata and statistics", async () => {
  for (const path of ["/v2/health/live", "/v2/health/ready", "/v2/models/matrix/ready", "/v2/models/matrix/versions/1/ready"]) {
    const answer = await get(path);
    assert.deepEqual([answer.status, answer.text], [200, ""], path);
  }
  server.isReady = false;
  assert.deepEqual([(await get("/v2/health/ready")).status, (await get("/v2/health/ready")).text], [400, ""]);
  server.isReady = true;
  const about = JSON.parse((await get("/v2")).text) as { name: string; extensions: string[] };
  assert.deepEqual([about.name, about.extensions.length], ["triton", 13]);
  assert.deepEqual(JSON.parse((await get("/v2/models/matrix")).text), {
    name: "matrix", versions: ["1"], platform: "identity", inputs: [{ name: "INPUT0", datatype: "FP32", shape: [-1, -1] }], outputs: [{ name: "OUTPUT0", datatype: "FP32", shape: [-1, -1] }],
  });
  assert.equal((JSON.parse((await get("/v2/models/matrix/config")).text) as { backend: string }).backend, "identity");
  const { model_stats: rows } = JSON.parse((await get("/v2/models/matrix/stats")).text) as { model_stats: { inference_stats: { cache_hit: object } }[] };
  assert.deepEqual(rows[0]!.inference_stats.cache_hit, { count: 0, ns: 0 });
  assert.equal((JSON.parse((await get("/v2/models/stats")).text) as { model_stats: unknown[] }).model_stats.length, server.models.size);
});

test("statuses and texts of what is wrong", async () => {
  const cases: readonly [string, string, string | undefined, number, RegExp][] = [
    ["GET", "/", undefined, 404, /^\{"error":"Not Found"\}$/],
    ["GET", "/v2/models", undefined, 404, /Not Found/],
    ["GET", "/v2/models/matrix/versions/x/ready", undefined, 404, /Not Found/],
    ["GET", "/v2/models/..%2f..%2fetc%2fpasswd", undefined, 404, /Not Found/],
    ["POST", "/v2/repository/models/%2e%2e/load", undefined, 404, /Not Found/],
    ["GET", "/v2/models/%zz", undefined, 404, /Not Found/],
    ["PUT", "/v2", undefined, 405, /^\{"error":"Method Not Allowed"\}$/],
    ["GET", "/v2/models/matrix/infer", undefined, 405, /Method Not Allowed/],
    ["GET", "/v2/models/nope", undefined, 400, /Request for unknown model: 'nope' is not found/],
    ["GET", "/v2/models/matrix/versions/9", undefined, 404, /version 9 is not found/],
    ["POST", "/v2/models/nope/infer", "{}", 400, /Request for unknown model/],
    ["POST", "/v2/models/matrix/infer", "", 400, /failed to parse the request JSON buffer: the end at 0/],
    ["POST", "/v2/models/matrix/infer", "[1,]", 400, /failed to parse the request JSON buffer/],
    ["POST", "/v2/models/matrix/infer", "[".repeat(500), 400, /nesting depth exceeds maximum allowed limit \(100\)/],
    ["POST", "/v2/models/matrix/infer", '{"inputs":3}', 400, /Unable to parse 'inputs'/],
    ["POST", "/v2/models/matrix/infer", '{"inputs":[{"name":"INPUT0"}]}', 400, /Unable to parse 'datatype'/],
    ["POST", "/v2/models/fail/infer", JSON.stringify(tensor("FP32", [1], [1])), 500, /^\{"error":"internal error; the server's log says more"\}$/],
    ["POST", "/v2/models/repeat/infer", JSON.stringify(tensor("INT32", [1], [1])), 501, /decoupled/],
    ["POST", "/v2/repository/other/models/matrix/load", undefined, 501, /'repository_name' specification is not supported/],
    ["POST", "/v2/repository/models/nope/load", undefined, 500, /failed to load 'nope', failed to poll/],
    ["POST", "/v2/systemsharedmemory/region/r/register", '{"key":"/k","byte_size":8}', 501, /Client shared memory is disabled/],
    ["GET", "/v2/systemsharedmemory/region/r/status", undefined, 404, /Unable to find system shared memory region: 'r'/],
    ["POST", "/v2/cudasharedmemory/region/r/register", "{}", 501, /Client shared memory is disabled/],
    ["POST", "/v2/trace/setting", '{"trace_file":"x"}', 501, /trace file location/],
    ["GET", "/v2/models/nope/trace/setting", undefined, 400, /Request for unknown model : nope/],
    ["POST", "/v2/logging", '{"log_format":"x"}', 400, /log_format/],
  ];
  for (const [method, path, body, status, text] of cases) {
    const answer = await send(method, path, body);
    assert.equal(answer.status, status, `${method} ${path}: ${answer.text}`);
    assert.match(answer.text, text);
    assert.equal(answer.headers.get("content-type"), "application/json");
  }
});

test("tensors as JSON, exact in every type", async () => {
  const cases: readonly [string, readonly unknown[], string][] = [
    ["BOOL", [true, false], "[true,false]"],
    ["UINT8", [0, 255], "[0,255]"],
    ["INT8", [-128, 127], "[-128,127]"],
    ["UINT16", [65535], "[65535]"],
    ["INT16", [-32768], "[-32768]"],
    ["UINT32", [4294967295], "[4294967295]"],
    ["INT32", [-2147483648], "[-2147483648]"],
    ["FP32", [0.5, -1e-3], "[0.5,-0.0010000000474974513]"],
    ["FP64", [0.1, 1e300, 12345678901234567890], "[0.1,1e+300,12345678901234567000]"],
    ["BYTES", ["a\"\\\n", "ä😀", ""], JSON.stringify(["a\"\\\n", "ä😀", ""])],
  ];
  for (const [datatype, data, text] of cases) {
    const answer = await infer(`identity_${datatype.toLowerCase()}`, tensor(datatype, [data.length], data, { id: "x" }));
    assert.equal(answer.text, `{"id":"x","model_name":"identity_${datatype.toLowerCase()}","model_version":"1","outputs":[{"name":"OUTPUT0","datatype":"${datatype}","shape":[${data.length}],"data":${text}}]}`);
  }
  const exact = "[9007199254740993,-9223372036854775808,9223372036854775807]";
  const answer = await send("POST", "/v2/models/identity_int64/infer", `{"inputs":[{"name":"INPUT0","datatype":"INT64","shape":[3],"data":${exact}}]}`);
  assert.ok(answer.text.includes(`"data":${exact}`), answer.text);
  const special = await send("POST", "/v2/models/identity_fp32/infer", '{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[3],"data":[NaN,-Infinity,Inf]}]}');
  assert.ok(special.text.includes('"data":[NaN,-Infinity,Infinity]'), special.text);
  assert.ok((await infer("matrix", tensor("FP32", [2, 2], [[1, 2], [3, 4]]))).text.includes('"shape":[2,2],"data":[1,2,3,4]'));
  assert.ok((await infer("matrix", tensor("FP32", [0, 4], []))).text.includes('"shape":[0,4],"data":[]'));
});

test("tensors that do not fit are refused", async () => {
  const cases: readonly [string, object, RegExp][] = [
    ["identity_fp32", tensor("FP32", [3], [1, 2]), /Unable to parse 'data': .*expected 3 elements, got 2/],
    ["identity_fp32", tensor("FP32", [1], ["1"]), /Unable to parse 'data'/],
    ["identity_uint8", tensor("UINT8", [1], [256]), /256 is not an integer from 0 to 255/],
    ["identity_int32", tensor("INT32", [1], [1.5]), /1.5 is not an integer/],
    ["identity_fp16", tensor("FP16", [1], [1]), /FP16 data via JSON is not supported/],
    ["identity_fp32", tensor("FP99", [1], [1]), /invalid datatype for input INPUT0/],
    ["identity_fp32", tensor("FP32", [-1], [1]), /Unable to parse 'shape'/],
    ["identity_fp32", tensor("FP32", [2 ** 40, 2 ** 40], [1]), /exceed maximum size/],
    ["identity_fp32", { inputs: [{ name: "INPUT0", datatype: "FP32", shape: [1], data: [1], parameters: { binary_data_size: 4 } }] }, /exactly one of/],
    ["identity_fp32", tensor("FP32", [1], [1], { parameters: { triton_x: 1 } }), /reserved for Triton/],
    ["identity_fp32", tensor("FP32", [1], [1], { parameters: { priority: -1 } }), /Unable to parse 'priority'/],
    ["identity_fp32", tensor("FP32", [1], [1], { outputs: [{ name: "nope" }] }), /unexpected inference output 'nope'/],
    ["pair", tensor("INT32", [1], [1]), /expected 2 inputs but got 1/],
  ];
  for (const [model, body, text] of cases) {
    const answer = await infer(model, body);
    assert.equal(answer.status, 400, answer.text);
    assert.match((JSON.parse(answer.text) as { error: string }).error, text);
  }
});

test("JSON of megabytes is a worker's work, and says the same", async () => {
  const data = Array.from({ length: 150_000 }, (_, i) => i / 8);
  const answer = await infer("identity_fp32", tensor("FP32", [data.length], data));
  assert.deepEqual((JSON.parse(answer.text) as { outputs: { data: number[] }[] }).outputs[0]!.data, data);
  const refused = await send("POST", "/v2/models/identity_fp32/infer", `{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[200000],"data":[${"1,".repeat(200_000)}]}]}`);
  assert.deepEqual([refused.status, /failed to parse the request JSON buffer: no value/.test(refused.text)], [400, true]);
});

test("binary tensors, mixed with JSON, both ways", async () => {
  const first = Buffer.from(Int32Array.of(1, 2, 3).buffer);
  const { body, headers } = binaryBody({
    id: "b", inputs: [{ name: "INPUT0", datatype: "INT32", shape: [3], parameters: { binary_data_size: 12 } }, { name: "INPUT1", datatype: "INT32", shape: [2], data: [7, 8] }],
    outputs: [{ name: "OUTPUT0", parameters: { binary_data: true } }, { name: "OUTPUT1", parameters: { binary_data: false } }],
  }, first);
  const answer = await send("POST", "/v2/models/pair/infer", body, headers);
  assert.equal(answer.headers.get("content-type"), "application/octet-stream");
  const length = Number(answer.headers.get("inference-header-content-length"));
  assert.deepEqual(JSON.parse(answer.bytes.toString("utf8", 0, length)), {
    id: "b", model_name: "pair", model_version: "1",
    outputs: [{ name: "OUTPUT0", datatype: "INT32", shape: [3], parameters: { binary_data_size: 12 } }, { name: "OUTPUT1", datatype: "INT32", shape: [2], data: [7, 8] }],
  });
  assert.ok(first.equals(answer.bytes.subarray(length)));
  const all = await send("POST", "/v2/models/identity_int32/infer", ...Object.values(binaryBody({ inputs: [{ name: "INPUT0", datatype: "INT32", shape: [3], parameters: { binary_data_size: 12 } }], parameters: { binary_data_output: true } }, first)) as [Buffer, Record<string, string>]);
  assert.ok(first.equals(all.bytes.subarray(Number(all.headers.get("inference-header-content-length")))));
  assert.equal(server.requests.at(-1)!.parameters.size, 0);
});

test("binary tensors that do not fit their headers are refused", async () => {
  const input = (size: number) => ({ inputs: [{ name: "INPUT0", datatype: "FP32", shape: [2], parameters: { binary_data_size: size } }] });
  const cases: readonly [Record<string, string>, Buffer, RegExp][] = [
    [{ "Inference-Header-Content-Length": "9999" }, Buffer.from("{}"), /inference header size should be in range \(0, 2\), got: 9999/],
    [{ "Inference-Header-Content-Length": "-1" }, Buffer.from("{}"), /inference header size should be in range/],
    [{ "Inference-Header-Content-Length": "x" }, Buffer.from("{}"), /Unable to parse Inference-Header-Content-Length, got: x/],
    [binaryBody(input(8), Buffer.alloc(12)).headers, binaryBody(input(8), Buffer.alloc(12)).body, /unexpected additional input data for model/],
    [binaryBody(input(8), Buffer.alloc(5)).headers, binaryBody(input(8), Buffer.alloc(5)).body, /expecting 3 additional bytes for model/],
    [binaryBody(input(4), Buffer.alloc(4)).headers, binaryBody(input(4), Buffer.alloc(4)).body, /input byte size mismatch for input 'INPUT0'.*Expected 8, got 4/],
    [{}, Buffer.from(JSON.stringify(input(8))), /expecting 8 additional bytes/],
  ];
  for (const [headers, body, text] of cases) {
    const answer = await send("POST", "/v2/models/identity_fp32/infer", body, headers);
    assert.equal(answer.status, 400);
    assert.match((JSON.parse(answer.text) as { error: string }).error, text);
  }
  const strings = binaryBody({ inputs: [{ name: "INPUT0", datatype: "BYTES", shape: [1], parameters: { binary_data_size: 6 } }] }, Uint8Array.of(9, 0, 0, 0, 1, 2));
  assert.match((await send("POST", "/v2/models/identity_bytes/infer", strings.body, strings.headers)).text, /incomplete string data/);
});

test("a raw request is one tensor and no JSON", async () => {
  const raw = (model: string, body: Uint8Array): Promise<Answer> => send("POST", `/v2/models/${model}/infer`, body, { "Inference-Header-Content-Length": "0" });
  const floats = Buffer.from(Float32Array.of(1, 2, 3).buffer);
  const answer = await raw("identity_fp32", floats);
  assert.ok(floats.equals(answer.bytes.subarray(Number(answer.headers.get("inference-header-content-length")))));
  const text = await raw("text", Buffer.from("427"));
  assert.equal(text.bytes.subarray(Number(text.headers.get("inference-header-content-length")) + 4).toString(), "427");
  assert.match((await raw("identity_bytes", Buffer.from("x"))).text, /the model must have input shape \[1\]/);
  assert.match((await raw("matrix", floats)).text, /more than one variable-sized dimension/);
  assert.match((await raw("pair", floats)).text, /Raw request must only have 1 input \(found 1\) to be deduced but got 2 inputs/);
  assert.equal((await raw("identity_fp32", Buffer.alloc(5))).status, 400);
});

test("compression both ways, with a bound on what a body inflates to", async () => {
  const body = JSON.stringify(tensor("FP32", [2000], Array(2000).fill(1)));
  for (const [encoding, compressed] of [["gzip", gzipSync(body)], ["deflate", deflateSync(body)]] as const) {
    const answer = await send("POST", "/v2/models/identity_fp32/infer", compressed, { "Content-Encoding": encoding, "Accept-Encoding": `identity;q=0.1, ${encoding};q=0.9` });
    assert.equal(answer.headers.get("content-encoding"), encoding);
    assert.equal((JSON.parse(answer.text) as { outputs: { data: number[] }[] }).outputs[0]!.data.length, 2000);
  }
  const plain = await send("POST", "/v2/models/identity_fp32/infer", body, { "Accept-Encoding": "gzip;q=0, br" });
  assert.equal(plain.headers.get("content-encoding"), null);
  // Clients that ask for compression decompress answers to inference only.
  const statistics = await send("GET", "/v2/models/stats", undefined, { "Accept-Encoding": "gzip" });
  assert.deepEqual([statistics.headers.get("content-encoding"), statistics.text.length > 512], [null, true]);
  const bomb = await send("POST", "/v2/models/identity_fp32/infer", gzipSync(Buffer.alloc(64 * MIB)), { "Content-Encoding": "gzip" });
  assert.deepEqual([bomb.status, /exceeds the maximum allowed value of 4194304 bytes/.test(bomb.text)], [400, true], bomb.text);
  const other = await send("POST", "/v2/models/identity_fp32/infer", body, { "Content-Encoding": "br" });
  assert.deepEqual([other.status, other.headers.get("accept-encoding")], [501, "gzip, deflate"]);
  assert.equal((await send("POST", "/v2/models/identity_fp32/infer", body, { "Content-Encoding": "gzip" })).status, 400);
});

test("bodies above the limit and beyond the queue are refused", async () => {
  const large = await send("POST", "/v2/models/identity_uint8/infer", Buffer.alloc(5 * MIB), { "Inference-Header-Content-Length": "0" });
  assert.deepEqual([large.status, /exceeds the maximum allowed .*Use --http-max-input-size to increase the limit/.test(large.text)], [400, true], large.text);
  const json = await send("POST", "/v2/models/identity_uint8/infer", Buffer.alloc(5 * MIB, 32));
  assert.match(json.text, /request JSON size of 5242880 bytes exceeds the maximum allowed input size of 4194304 bytes/);
  server.most = 100;
  const full = await infer("identity_fp32", tensor("FP32", [50], Array(50).fill(1)));
  assert.deepEqual([full.status, full.text], [503, '{"error":"Exceeds maximum queue size"}']);
  server.most = Number.POSITIVE_INFINITY;
});

test("generate and generate_stream", async () => {
  assert.deepEqual(JSON.parse((await post("/v2/models/text/generate", { INPUT0: "hello", id: "42", temperature: 0.5 })).text), { id: "42", model_name: "text", model_version: "1", OUTPUT0: "hello" });
  assert.equal(server.requests.at(-1)!.parameters.get("temperature"), 0.5);
  assert.match((await post("/v2/models/text/generate", { INPUT0: 123 })).text, /attempt to access JSON non-string as string/);
  assert.match((await send("POST", "/v2/models/text/generate", '{"INPUT0":"a","INPUT0":"b"}')).text, /input 'INPUT0' already exists in request/);
  assert.match((await post("/v2/models/repeat/generate", { INPUT0: 2 })).text, /expects model to produce exactly 1 response/);
  const stream = await post("/v2/models/repeat/generate_stream", { INPUT0: 3 });
  assert.equal(stream.headers.get("content-type"), "text/event-stream; charset=utf-8");
  assert.equal(stream.text, 'data: {"model_name":"repeat","model_version":"1","OUTPUT0":3}\n\n'.repeat(3));
  const failed = await post("/v2/models/fail/generate_stream", { INPUT0: 3 });
  assert.deepEqual([failed.status, failed.headers.get("content-type")], [500, "application/json"]);
});

test("settings are kept and changed whole", async () => {
  const changed = JSON.parse((await post("/v2/trace/setting", { trace_level: ["TIMESTAMPS"], trace_rate: "5", trace_count: "-1" })).text) as object;
  assert.deepEqual(changed, { trace_level: ["TIMESTAMPS"], trace_rate: "5", trace_count: "-1", log_frequency: "0", trace_file: "", trace_mode: "triton" });
  await post("/v2/models/matrix/trace/setting", { trace_rate: "9" });
  await post("/v2/trace/setting", { trace_rate: null, trace_level: null });
  assert.equal((JSON.parse((await get("/v2/models/matrix/trace/setting")).text) as { trace_rate: string }).trace_rate, "9");
  assert.equal((JSON.parse((await get("/v2/trace/setting")).text) as { trace_rate: string }).trace_rate, "1000");
  assert.equal((await post("/v2/trace/setting", { trace_rate: "3", trace_count: "x" })).status, 400);
  assert.equal((JSON.parse((await get("/v2/trace/setting")).text) as { trace_rate: string }).trace_rate, "1000");
  const log = JSON.parse((await post("/v2/logging", { log_verbose_level: 1, log_info: false })).text) as { log_verbose_level: number; log_info: boolean };
  assert.deepEqual([log.log_verbose_level, log.log_info], [1, false]);
});

test("the repository: index, load with files, unload", async () => {
  assert.deepEqual((JSON.parse((await post("/v2/repository/index")).text) as unknown[]).at(-1), { name: "broken", version: "1", state: "UNAVAILABLE", reason: "no file" });
  assert.equal((JSON.parse((await post("/v2/repository/index", { ready: true })).text) as unknown[]).length, server.models.size);
  assert.equal((await post("/v2/repository/models/matrix/load", { parameters: { config: "{}", "file:1/model.onnx": Buffer.from("abc").toString("base64") } })).status, 200);
  assert.deepEqual(server.loads.at(-1), { model: "matrix", parameters: new Map<string, unknown>([["config", "{}"], ["file:1/model.onnx", Buffer.from("abc")]]) });
  assert.equal((await post("/v2/repository/models/matrix/load", { parameters: { config: "{}", "file:1/model.onnx": "***" } })).status, 400);
  assert.equal((await post("/v2/repository/models/identity_uint32/unload", { parameters: { unload_dependents: true } })).status, 200);
  assert.equal((await get("/v2/models/identity_uint32")).status, 400);
});

test("tensors in shared memory, inside registered regions only", async () => {
  const extensions = new Extensions({ allowClientSharedMemory: true });
  const own = await HttpFrontEnd.listen(server, { port: 0, extensions });
  const at = (path: string, body?: unknown) => fetch(`http://127.0.0.1:${own.port}${path}`, { method: "POST", ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
  const key = `sintertest-${process.pid}`.replace("sinter", "s");
  writeFileSync(`/dev/shm/${key}`, Buffer.concat([Buffer.alloc(16), Buffer.from(Float32Array.of(4, 5).buffer), Buffer.alloc(8)]));
  try {
    const register = (name: string, more: object) => at(`/v2/systemsharedmemory/region/${name}/register`, { key: `/${key}`, offset: 0, byte_size: 32, ...more });
    assert.equal((await register("r", {})).status, 200);
    assert.match(await (await register("r", {})).text(), /shared memory region 'r' already in manager/);
    assert.equal((await register("s", { byte_size: 33 })).status, 400);
    assert.equal((await register("s", { key: "/../etc/passwd" })).status, 400);
    assert.equal((await register("s", { key: "triton_python_backend_shm_region_1" })).status, 400);
    assert.deepEqual(await (await fetch(`http://127.0.0.1:${own.port}/v2/systemsharedmemory/status`)).json(), [{ name: "r", key: `/${key}`, offset: 0, byte_size: 32 }]);
    const place = (offset: number, size: number) => ({ shared_memory_region: "r", shared_memory_offset: offset, shared_memory_byte_size: size });
    const request = (offset: number, out: number) => ({ inputs: [{ name: "INPUT0", datatype: "FP32", shape: [2], parameters: place(offset, 8) }], outputs: [{ name: "OUTPUT0", parameters: place(out, 8) }] });
    const answer = await at("/v2/models/identity_fp32/infer", request(16, 24));
    assert.deepEqual(await answer.json(), { model_name: "identity_fp32", model_version: "1", outputs: [{ name: "OUTPUT0", datatype: "FP32", shape: [2] }] });
    const back = await at("/v2/models/identity_fp32/infer", { inputs: [{ name: "INPUT0", datatype: "FP32", shape: [2], parameters: place(24, 8) }] });
    assert.deepEqual(((await back.json()) as { outputs: { data: number[] }[] }).outputs[0]!.data, [4, 5]);
    assert.match(await (await at("/v2/models/identity_fp32/infer", request(28, 0))).text(), /Invalid offset \+ byte size/);
    assert.equal((await at("/v2/systemsharedmemory/unregister")).status, 200);
    assert.match(await (await at("/v2/models/identity_fp32/infer", request(16, 24))).text(), /Unable to find shared memory region: 'r'/);
  } finally {
    unlinkSync(`/dev/shm/${key}`);
    await own.drain(100);
    extensions.close();
  }
});

/** What a bare socket gets back until the server closes it, or for half a second. */
function raw(bytes: string | Buffer, waitMs = 1500): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(frontEnd.port, "127.0.0.1");
    let answer = "";
    const timer = setTimeout(() => socket.destroy(), waitMs);
    socket.on("data", (chunk) => (answer += chunk.toString("latin1")));
    socket.on("error", (error: NodeJS.ErrnoException) => (error.code === "ECONNRESET" ? undefined : reject(error)));
    socket.on("close", () => {
      clearTimeout(timer);
      resolve(answer);
    });
    socket.write(bytes);
  });
}

test("clients that misbehave are refused in time", async () => {
  assert.match(await raw(`GET /v2 HTTP/1.1\r\nHost: x\r\nX-Long: ${"a".repeat(40_000)}\r\n\r\n`), /^HTTP\/1.1 431 /);
  assert.match(await raw("nonsense\r\n\r\n"), /^HTTP\/1.1 400 /);
  const started = Date.now();
  assert.match(await raw("GET /v2 HTTP/1.1\r\nHost: x\r\nX-Slow", 3000), /^HTTP\/1.1 408 /);
  assert.ok(Date.now() - started < 2500, "slow headers are cut off");
  await raw("POST /v2/models/identity_uint8/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc", 3000);
  assert.ok(Date.now() - started < 6000, "slow bodies are cut off");
  assert.match(await raw("POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n"), /^HTTP\/1.1 400 /);
  assert.equal(server.claimed, 0);
});

test("a client that hangs up cancels its request", async () => {
  const body = JSON.stringify(tensor("FP32", [1], [1]));
  const socket = connect(frontEnd.port, "127.0.0.1");
  socket.write(`POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
  await delay(60);
  socket.destroy();
  await delay(60);
  assert.equal(server.requests.at(-1)!.cancelled, true);
});

test("a body in chunks, and one that waits to be asked for", async () => {
  const body = JSON.stringify(tensor("FP32", [2], [1, 2]));
  const chunks = [body.slice(0, 10), body.slice(10)].map((part) => `${part.length.toString(16)}\r\n${part}\r\n`).join("");
  assert.match(await raw(`POST /v2/models/identity_fp32/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n${chunks}0\r\n\r\n`), /"data":\[1,2\]/);
  assert.match(await raw(`POST /v2/models/identity_fp32/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: ${body.length}\r\n\r\n${body}`), /^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 OK/);
  const refused = await raw("POST /v2/models/nope/infer HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999\r\n\r\n");
  assert.match(refused, /^HTTP\/1.1 400 /);
});

test("a client that does not read its reply is cut off, and one that reads keeps its connection", async () => {
  const own = await HttpFrontEnd.listen(server, { port: 0, replyTimeoutMs: 200 });
  const head = (size: number): string => `POST /v2/models/identity_uint8/infer HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: 0\r\nContent-Length: ${size}\r\n\r\n`;
  const stuck = connect(own.port, "127.0.0.1");
  stuck.on("error", () => {});
  const size = 32 * MIB;
  stuck.write(head(size));
  stuck.write(Buffer.alloc(size));
  stuck.pause();
  const { released } = server;
  for (let waited = 0; server.released === released && waited < 5000; waited += 50) await delay(50);
  assert.equal(server.released, released + 1, "the reply's memory was given back");
  stuck.destroy();
  const reader = connect(own.port, "127.0.0.1");
  let received = 0;
  reader.on("data", (chunk) => (received += chunk.length));
  for (let i = 1; i <= 3; i++) {
    reader.write(head(MIB));
    reader.write(Buffer.alloc(MIB));
    for (let waited = 0; received < i * MIB && waited < 5000; waited += 20) await delay(20);
    await delay(250);
  }
  assert.ok(received > 3 * MIB && !reader.destroyed);
  reader.destroy();
  assert.equal(await own.drain(500), 0);
});

test("draining finishes what was accepted and takes nothing new", async () => {
  const own = await HttpFrontEnd.listen(server, { port: 0 });
  const url = `http://127.0.0.1:${own.port}/v2/models/slow/infer`;
  const answer = fetch(url, { method: "POST", body: JSON.stringify(tensor("FP32", [1], [5])) });
  while (own.inFlight === 0) await delay(5);
  const drained = own.drain(2000);
  await assert.rejects(fetch(url));
  assert.equal((await answer).headers.get("connection"), "close");
  assert.match(await (await answer).text(), /"data":\[5\]/);
  assert.equal(await drained, 0);
});

const curl = spawnSync("curl", ["--version"]).status === 0;

test("curl, with a body that is asked for and one that is compressed", { skip: !curl && "curl is not installed" }, async () => {
  const run = async (...args: readonly string[]): Promise<Buffer> => {
    const { stdout } = await promisify(execFile)("curl", ["-s", ...args], { encoding: "buffer", maxBuffer: 64 * MIB });
    return stdout;
  };
  const file = `/tmp/sinter-curl-${process.pid}`;
  try {
    writeFileSync(file, Buffer.alloc(2 * MIB, 9));
    const large = await run("--data-binary", `@${file}`, "-H", "Expect: 100-continue", "-H", "Inference-Header-Content-Length: 0", `${base}/v2/models/identity_uint8/infer`);
    assert.ok(Buffer.alloc(2 * MIB, 9).equals(large.subarray(large.length - 2 * MIB)));
    writeFileSync(file, gzipSync(JSON.stringify(tensor("FP32", [300], Array(300).fill(2)))));
    const compressed = await run("--data-binary", `@${file}`, "-H", "Content-Encoding: gzip", "-H", "Accept-Encoding: gzip", `${base}/v2/models/identity_fp32/infer`);
    assert.match(gunzipSync(compressed).toString(), /"shape":\[300\]/);
  } finally {
    unlinkSync(file);
  }
});

test("headers whose names a pattern finds go with requests as parameters; reserved ones are refused", async () => {
  const inner = new IdentityServer();
  const front = await HttpFrontEnd.listen(inner, { port: 0, forwarded: new ForwardedHeaders("(?i)^X-|priority") });
  const infer = (headers: Record<string, string>, path = "infer", body: unknown = { parameters: { own: 1 }, inputs: [{ name: "INPUT0", datatype: "FP32", shape: [1], data: [1] }] }): Promise<Response> => fetch(`http://127.0.0.1:${front.port}/v2/models/identity_fp32/${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  assert.equal((await infer({ "X-Team": "blue", other: "no" })).status, 200);
  assert.deepEqual([...inner.requests.at(-1)!.parameters].map(([name, value]) => [name.toLowerCase(), value]), [["own", 1], ["x-team", "blue"]]);
  assert.equal((await infer({ "x-team": "red" }, "generate", { INPUT0: 2 })).status, 200);
  assert.equal(inner.requests.at(-1)!.parameters.size, 1);
  const refused = await infer({ priority: "1" });
  assert.deepEqual([refused.status, await refused.json()], [400, { error: "Header 'priority' is reserved for Triton usage and cannot be forwarded." }]);
  assert.equal(inner.claimed, 0);
  await front.drain(500);
});
