/** The gRPC front end with an independent client: @grpc/grpc-js. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:http2";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type CallOptions, type ClientDuplexStream, type ClientReadableStream, Client, credentials, Metadata, type MetadataValue, type ServiceError, status } from "@grpc/grpc-js";
import { ProtoReader, ProtoWriter } from "../../base/index.ts";
import { Extensions } from "../extensions/extensions.ts";
import { IdentityServer } from "../testing.ts";
import { GrpcFrontEnd } from "./front-end.ts";
import { MESSAGE } from "./infer-codec.ts";
import { HealthRequest, HealthResponse, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse } from "./messages.ts";
import { METHODS } from "./methods.ts";
import { ReflectionRequest, ReflectionResponse } from "./reflection.ts";
import { ForwardedHeaders } from "../wire/forwarded.ts";
import { decode, encode, type Message, type Plain } from "./schema.ts";

const SERVICE = "/inference.GRPCInferenceService/";
let server: IdentityServer;
let frontEnd: GrpcFrontEnd;
let client: Client;

before(async () => {
  server = new IdentityServer();
  frontEnd = await GrpcFrontEnd.listen(server, { port: 0, extensions: new Extensions(), maxMessageBytes: 64 * 2 ** 20 });
  client = new Client(`127.0.0.1:${frontEnd.port}`, credentials.createInsecure(), { "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 });
});

after(async () => {
  client.close();
  assert.equal(await frontEnd.drain(2000), 0);
  assert.equal(server.claimed, 0, "every claim was given back");
});

const bytesOf = (type: Message) => (value: Plain): Buffer => {
  const writer = new ProtoWriter();
  encode(writer, type, value);
  return Buffer.concat(writer.finish());
};
const plainOf = (type: Message) => (bytes: Buffer): Plain => decode(new ProtoReader(bytes, MESSAGE), type);

function unary(path: string, request: Message, response: Message, value: Plain, options: CallOptions = {}, metadata = new Metadata()): Promise<Plain> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(path, bytesOf(request), plainOf(response), value, metadata, options, (error, answer) => (error ? reject(error) : resolve(answer!)));
  });
}

const control = (name: string, value: Plain = {}): Promise<Plain> => unary(`${SERVICE}${name}`, METHODS[name]!.request, METHODS[name]!.response, value);
const infer = (value: Plain, options?: CallOptions, metadata?: Metadata): Promise<Plain> => unary(`${SERVICE}ModelInfer`, ModelInferRequest, ModelInferResponse, value, options, metadata);

function fp32(values: readonly number[]): Buffer {
  return Buffer.from(Float32Array.from(values).buffer);
}

const one = (model: string, datatype: string, shape: readonly number[], raw: Uint8Array, more: Plain = {}): Plain => ({ model_name: model, inputs: [{ name: "INPUT0", datatype, shape }], raw_input_contents: [raw], ...more });

function fails(code: status, text: RegExp): (error: ServiceError) => boolean {
  return (error) => {
    assert.equal(error.code, code, error.message);
    assert.match(error.details, text);
    return true;
  };
}

test("health, metadata, configuration, statistics", async () => {
  assert.deepEqual(await control("ServerLive"), { live: true });
  assert.deepEqual(await control("ServerReady"), { ready: true });
  assert.deepEqual(await control("ModelReady", { name: "matrix" }), { ready: true });
  await assert.rejects(control("ModelReady", { name: "nope" }), fails(status.INVALID_ARGUMENT, /Request for unknown model: 'nope' is not found/));
  await assert.rejects(control("ModelReady", { name: "matrix", version: "9" }), fails(status.NOT_FOUND, /version 9 is not found/));
  const metadata = await control("ServerMetadata");
  assert.equal(metadata["name"], "triton");
  assert.ok((metadata["extensions"] as string[]).includes("binary_tensor_data"));
  const model = await control("ModelMetadata", { name: "matrix" });
  assert.deepEqual(model["inputs"], [{ name: "INPUT0", datatype: "FP32", shape: [-1, -1] }]);
  const { config } = (await control("ModelConfig", { name: "matrix" })) as { config: Record<string, unknown> };
  assert.equal((config["input"] as Plain[])[0]!["data_type"], 11);
  assert.equal(((config["dynamic_batching"] as Plain)["priority_queue_policy"] as Map<number, Plain>).get(1)!["max_queue_size"], 3);
  assert.equal((config["version_policy"] as { latest: Plain }).latest["num_versions"], 1);
  const { model_stats: rows } = (await control("ModelStatistics", { name: "matrix" })) as { model_stats: Plain[] };
  assert.equal(rows.length, 1);
  assert.deepEqual(rows[0]!["memory_usage"], [{ type: "CPU", id: 0, byte_size: 4096 }]);
});

test("repository, trace and log settings, shared memory", async () => {
  const { models } = (await control("RepositoryIndex", {})) as { models: Plain[] };
  assert.deepEqual(models.at(-1), { name: "broken", version: "1", state: "UNAVAILABLE", reason: "no file" });
  await assert.rejects(control("RepositoryIndex", { repository_name: "x" }), fails(status.UNIMPLEMENTED, /'repository_name'/));
  await control("RepositoryModelLoad", { model_name: "matrix", parameters: { config: { string_param: "{}" }, "file:1/model.onnx": { bytes_param: Buffer.from("abc") } } });
  assert.deepEqual(server.loads.at(-1), { model: "matrix", parameters: new Map<string, unknown>([["config", "{}"], ["file:1/model.onnx", Buffer.from("abc")]]) });
  await assert.rejects(control("RepositoryModelLoad", { model_name: "nope" }), fails(status.INTERNAL, /failed to load 'nope'/));
  const trace = (await control("TraceSetting", { settings: { trace_rate: { value: ["7"] }, trace_level: { value: ["TIMESTAMPS"] } } })) as { settings: Map<string, Plain> };
  assert.deepEqual(trace.settings.get("trace_rate"), { value: ["7"] });
  const cleared = (await control("TraceSetting", { settings: { trace_rate: {}, trace_level: {} } })) as { settings: Map<string, Plain> };
  assert.deepEqual(cleared.settings.get("trace_rate"), { value: ["1000"] });
  await assert.rejects(control("TraceSetting", { settings: { trace_file: { value: ["x"] } } }), fails(status.UNIMPLEMENTED, /trace file location/));
  const log = (await control("LogSettings", { settings: { log_verbose_level: { uint32_param: 1 } } })) as { settings: Map<string, Plain> };
  assert.deepEqual(log.settings.get("log_verbose_level"), { uint32_param: 1 });
  await assert.rejects(control("SystemSharedMemoryRegister", { name: "r", key: "/k", byte_size: 8 }), fails(status.UNIMPLEMENTED, /Client shared memory is disabled/));
  assert.deepEqual((await control("SystemSharedMemoryStatus", {}))["regions"], new Map());
  await assert.rejects(control("CudaSharedMemoryStatus", { name: "r" }), fails(status.NOT_FOUND, /Unable to find cuda/));
});

test("inference with raw and with typed contents gives the same bytes", async () => {
  const answer = await infer(one("matrix", "FP32", [2, 2], fp32([1, 2, 3, 4]), { id: "7" }));
  assert.deepEqual([answer["model_name"], answer["model_version"], answer["id"]], ["matrix", "1", "7"]);
  assert.deepEqual(Buffer.from((answer["raw_output_contents"] as Uint8Array[])[0]!), fp32([1, 2, 3, 4]));
  const typed: readonly [string, string, Plain, Uint8Array][] = [
    ["identity_fp32", "FP32", { fp32_contents: [1.5, -2] }, fp32([1.5, -2])],
    ["identity_fp64", "FP64", { fp64_contents: [1.5, -2] }, Buffer.from(Float64Array.of(1.5, -2).buffer)],
    ["identity_int8", "INT8", { int_contents: [-1, 127] }, Uint8Array.of(255, 127)],
    ["identity_int64", "INT64", { int64_contents: [-1, 2n ** 62n] }, Buffer.from(BigInt64Array.of(-1n, 2n ** 62n).buffer)],
    ["identity_uint16", "UINT16", { uint_contents: [1, 65535] }, Buffer.from(Uint16Array.of(1, 65535).buffer)],
    ["identity_uint64", "UINT64", { uint64_contents: [1, 2n ** 64n - 1n] }, Buffer.from(BigUint64Array.of(1n, 2n ** 64n - 1n).buffer)],
    ["identity_bool", "BOOL", { bool_contents: [true, false] }, Uint8Array.of(1, 0)],
    ["identity_bytes", "BYTES", { bytes_contents: [Buffer.from("ab"), Buffer.from("")] }, Uint8Array.of(2, 0, 0, 0, 97, 98, 0, 0, 0, 0)],
  ];
  for (const [model, datatype, contents, expected] of typed) {
    const { raw_output_contents: raw } = (await infer({ model_name: model, inputs: [{ name: "INPUT0", datatype, shape: [2], contents }] })) as { raw_output_contents: Uint8Array[] };
    assert.deepEqual(new Uint8Array(raw[0]!), new Uint8Array(expected), datatype);
  }
});

test("tensors of megabytes, requested outputs, parameters", async () => {
  const large = Buffer.alloc(6 * 2 ** 20, 7);
  const answer = await infer(one("identity_uint8", "UINT8", [large.length], large, { outputs: [{ name: "OUTPUT0" }] }));
  assert.ok(large.equals((answer["raw_output_contents"] as Uint8Array[])[0]!));
  await infer(one("identity_fp32", "FP32", [1], fp32([1]), { parameters: { priority: { uint64_param: 2 }, timeout: { int64_param: 5000 }, sequence_id: { string_param: "s" }, own: { double_param: 0.5 } } }));
  const { priority, timeoutUs, parameters } = server.requests.at(-1)!;
  assert.deepEqual([priority, timeoutUs, [...parameters]], [2, 5000, [["sequence_id", "s"], ["own", 0.5]]]);
  const top = await infer(one("identity_fp32", "FP32", [3], fp32([3, 2, 1]), { outputs: [{ name: "OUTPUT0", parameters: { classification: { int64_param: 2 } } }] }));
  assert.deepEqual((top["outputs"] as Plain[])[0]!["shape"], [2]);
});

test("what is wrong is told", async () => {
  const tensor = { name: "INPUT0", datatype: "FP32", shape: [2] };
  const cases: readonly [Plain, status, RegExp][] = [
    [{ model_name: "nope" }, status.INVALID_ARGUMENT, /unknown model: 'nope'/],
    [{ model_name: "identity_fp32", model_version: "3" }, status.NOT_FOUND, /version 3 is not found/],
    [one("identity_fp32", "FP32", [3], fp32([1])), status.INVALID_ARGUMENT, /input byte size mismatch for input 'INPUT0'.*Expected 12, got 4/],
    [one("identity_fp32", "FP33", [1], fp32([1])), status.INVALID_ARGUMENT, /invalid datatype 'FP33'/],
    [one("identity_fp32", "FP32", [-1], fp32([1])), status.INVALID_ARGUMENT, /invalid shape for input 'INPUT0'/],
    [{ model_name: "identity_fp32", inputs: [{ ...tensor, contents: { fp32_contents: [1, 2] } }], raw_input_contents: [fp32([1, 2])] }, status.INVALID_ARGUMENT, /contents field must not be specified/],
    [{ model_name: "identity_fp32", inputs: [tensor], raw_input_contents: [fp32([1, 2]), fp32([1])] }, status.INVALID_ARGUMENT, /expecting 1 raw_input_contents/],
    [{ model_name: "identity_fp32", inputs: [{ ...tensor, contents: { int_contents: [1, 2] } }] }, status.INVALID_ARGUMENT, /unexpected explicit tensor data/],
    [one("identity_fp32", "FP32", [1], fp32([1]), { parameters: { triton_x: { bool_param: true } } }), status.INVALID_ARGUMENT, /reserved for Triton/],
    [one("identity_fp32", "FP32", [1], fp32([1]), { outputs: [{ name: "nöpe %" }] }), status.INVALID_ARGUMENT, /unexpected inference output 'nöpe %'/],
    [one("repeat", "INT32", [1], Buffer.from(Int32Array.of(1).buffer)), status.UNIMPLEMENTED, /decoupled/],
    [one("fail", "FP32", [1], fp32([1])), status.INTERNAL, /^internal error/],
  ];
  for (const [request, code, text] of cases) await assert.rejects(infer(request), fails(code, text), JSON.stringify(request));
  await assert.rejects(unary("/inference.GRPCInferenceService/Nothing", HealthRequest, HealthResponse, {}), fails(status.UNIMPLEMENTED, /unknown method/));
});

test("a full queue refuses before the message is read; too large a message as well", async () => {
  server.most = 1000;
  await assert.rejects(infer(one("identity_uint8", "UINT8", [2000], Buffer.alloc(2000))), fails(status.UNAVAILABLE, /Exceeds maximum queue size/));
  server.most = Number.POSITIVE_INFINITY;
  await assert.rejects(infer(one("identity_uint8", "UINT8", [65 * 2 ** 20], Buffer.alloc(65 * 2 ** 20))), fails(status.RESOURCE_EXHAUSTED, /larger than max/));
});

test("compressed messages, both algorithms", async () => {
  for (const algorithm of [1, 2]) {
    const compressing = new Client(`127.0.0.1:${frontEnd.port}`, credentials.createInsecure(), { "grpc.default_compression_algorithm": algorithm });
    const answer = await new Promise<Plain>((resolve, reject) => {
      compressing.makeUnaryRequest(`${SERVICE}ModelInfer`, bytesOf(ModelInferRequest), plainOf(ModelInferResponse), one("identity_uint8", "UINT8", [9000], Buffer.alloc(9000, 3)), (error, value) => (error ? reject(error) : resolve(value!)));
    });
    assert.ok(Buffer.alloc(9000, 3).equals((answer["raw_output_contents"] as Uint8Array[])[0]!));
    compressing.close();
  }
});

test("deadlines and cancellation reach the work", async () => {
  await assert.rejects(infer(one("slow", "FP32", [1], fp32([1])), { deadline: Date.now() + 50 }), fails(status.DEADLINE_EXCEEDED, /./));
  await delay(50);
  assert.equal(server.requests.at(-1)!.cancelled, true);
  const call = client.makeUnaryRequest(`${SERVICE}ModelInfer`, bytesOf(ModelInferRequest), plainOf(ModelInferResponse), one("slow", "FP32", [1], fp32([1])), () => {});
  await delay(50);
  call.cancel();
  await delay(50);
  assert.equal(server.requests.at(-1)!.cancelled, true);
});

function openStream(metadata = new Metadata()): { call: ClientDuplexStream<Plain, Plain>; answers: Plain[]; ended: Promise<{ code: status; details: string }> } {
  const call = client.makeBidiStreamRequest(`${SERVICE}ModelStreamInfer`, bytesOf(ModelInferRequest), plainOf(ModelStreamInferResponse), metadata);
  const answers: Plain[] = [];
  call.on("data", (answer: Plain) => answers.push(answer));
  call.on("error", () => {});
  const ended = new Promise<{ code: status; details: string }>((resolve) => call.on("status", resolve));
  return { call, answers, ended };
}

test("a stream: answers in order, errors as messages, empty final responses", async () => {
  const { call, answers, ended } = openStream();
  for (let i = 0; i < 20; i++) call.write(one("identity_fp32", "FP32", [1], fp32([i]), { id: String(i) }));
  call.write(one("nope", "FP32", [1], fp32([1]), { id: "bad" }));
  call.write(one("repeat", "INT32", [1], Buffer.from(Int32Array.of(3).buffer), { id: "r", parameters: { triton_enable_empty_final_response: { bool_param: true } } }));
  call.end();
  assert.equal((await ended).code, status.OK);
  const ids = answers.map((answer) => (answer["infer_response"] as Plain)["id"]);
  assert.deepEqual(ids.filter((id) => !["bad", "r"].includes(String(id))), Array.from({ length: 20 }, (_, i) => String(i)));
  assert.match(String(answers.find((answer) => (answer["infer_response"] as Plain)["id"] === "bad")!["error_message"]), /unknown model: 'nope'/);
  const repeated = answers.filter((answer) => (answer["infer_response"] as Plain)["id"] === "r");
  assert.equal(repeated.length, 4);
  const final = repeated.at(-1)!["infer_response"] as { parameters: Map<string, Plain>; outputs: Plain[] };
  assert.deepEqual([final.parameters.get("triton_final_response"), final.outputs], [{ bool_param: true }, []]);
});

test("a stream whose client wants statuses ends with the first error", async () => {
  const metadata = new Metadata();
  metadata.set("triton_grpc_error", "true" satisfies MetadataValue);
  const { call, ended } = openStream(metadata);
  call.write(one("identity_fp32", "FP32", [3], fp32([1])));
  const { code, details } = await ended;
  assert.deepEqual([code, /mismatch/.test(details)], [status.INVALID_ARGUMENT, true]);
});

test("health by the standard service, watched as well", async () => {
  const check = (service: string): Promise<Plain> => unary("/grpc.health.v1.Health/Check", HealthRequest, HealthResponse, { service });
  assert.deepEqual([await check(""), await check("matrix")], [{ status: 1 }, { status: 1 }]);
  await assert.rejects(check("nope"), fails(status.NOT_FOUND, /unknown service 'nope'/));
  const watched: unknown[] = [];
  const watch: ClientReadableStream<Plain> = client.makeServerStreamRequest("/grpc.health.v1.Health/Watch", bytesOf(HealthRequest), plainOf(HealthResponse), { service: "" });
  watch.on("data", (answer: Plain) => watched.push(answer["status"]));
  watch.on("error", () => {});
  await delay(100);
  server.isReady = false;
  await delay(700);
  server.isReady = true;
  watch.cancel();
  assert.deepEqual(watched, [1, 2]);
});

test("draining finishes what was accepted and takes nothing new", async () => {
  const own = await GrpcFrontEnd.listen(server, { port: 0 });
  const other = new Client(`127.0.0.1:${own.port}`, credentials.createInsecure());
  const answer = new Promise<Plain>((resolve, reject) => {
    other.makeUnaryRequest(`${SERVICE}ModelInfer`, bytesOf(ModelInferRequest), plainOf(ModelInferResponse), one("slow", "FP32", [1], fp32([5])), (error, value) => (error ? reject(error) : resolve(value!)));
  });
  while (own.inFlight === 0) await delay(5);
  const drained = own.drain(2000);
  assert.deepEqual(Buffer.from(((await answer)["raw_output_contents"] as Uint8Array[])[0]!), fp32([5]));
  assert.equal(await drained, 0);
  other.close();
});

test("reflection tells the services and their messages, under both names", async () => {
  const ask = (path: string, request: Plain): Promise<Plain> => new Promise((resolve, reject) => {
    const call = client.makeBidiStreamRequest(path, bytesOf(ReflectionRequest), plainOf(ReflectionResponse));
    call.on("data", resolve).on("error", reject);
    call.write(request);
    call.end();
  });
  for (const version of ["v1", "v1alpha"]) {
    const path = `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`;
    const { list_services_response: services } = (await ask(path, { list_services: "*" })) as { list_services_response: { service: { name: string }[] } };
    assert.deepEqual(services.service.map(({ name }) => name), ["inference.GRPCInferenceService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]);
    const { file_descriptor_response: files } = (await ask(path, { file_containing_symbol: "inference.GRPCInferenceService" })) as { file_descriptor_response: { file_descriptor_proto: Uint8Array[] } };
    assert.ok(files.file_descriptor_proto[0]!.byteLength > 1000);
    assert.deepEqual((await ask(path, { file_by_filename: "nothing.proto" }))["error_response"], { error_code: 5, error_message: "nothing.proto is not found" });
    assert.equal(((await ask(path, { all_extension_numbers_of_type: "x" }))["error_response"] as Plain)["error_code"], 12);
  }
});

test("metadata whose names a pattern finds go with requests as parameters, and an old connection is left", async () => {
  const other = await GrpcFrontEnd.listen(server, { port: 0, forwarded: new ForwardedHeaders("^x-"), maxConnectionAgeMs: 150 });
  const second = new Client(`127.0.0.1:${other.port}`, credentials.createInsecure());
  const metadata = (name: string, value: string): Metadata => {
    const all = new Metadata();
    all.set(name, value);
    return all;
  };
  const ask = (all: Metadata): Promise<Plain> => new Promise((resolve, reject) => {
    second.makeUnaryRequest(`${SERVICE}ModelInfer`, bytesOf(ModelInferRequest), plainOf(ModelInferResponse), one("identity_fp32", "FP32", [1], fp32([1])), all, (error, answer) => (error ? reject(error) : resolve(answer!)));
  });
  await ask(metadata("x-team", "blue"));
  assert.deepEqual([...server.requests.at(-1)!.parameters], [["x-team", "blue"]]);
  await ask(metadata("y-team", "red"));
  assert.equal(server.requests.at(-1)!.parameters.size, 0);
  const session = connect(`http://127.0.0.1:${other.port}`);
  await once(session, "goaway");
  await once(session, "close");
  await ask(metadata("y-team", "red"));
  second.close();
  await other.drain(500);
});
