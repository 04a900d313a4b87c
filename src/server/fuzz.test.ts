/**
 * Whatever arrives, the front ends answer it: no crash, no hang, no 500 where the request is at fault. Cases are changes of valid ones, from a
 * seed that is printed; a failing one can be had again by SINTER_FUZZ_SEED.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ProtoReader, ProtoWriter } from "../base/index.ts";
import { ServingError } from "./contract.ts";
import { MESSAGE, readInferRequest } from "./grpc/infer-codec.ts";
import { ModelInferRequest } from "./grpc/messages.ts";
import { METHODS } from "./grpc/methods.ts";
import { decode, encode } from "./grpc/schema.ts";
import { HttpFrontEnd } from "./http/front-end.ts";
import { readInferHeader } from "./http/infer-json.ts";
import { IdentityServer } from "./testing.ts";

const CASES = 10_000;
const SEED = Number(process.env["SINTER_FUZZ_SEED"] ?? Date.now() % 2 ** 31);

class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0 || 1;
  }

  below(most: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % most;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }
}

const SPLICES = ["{", "}", "[", "]", '"', ",", ":", "null", "true", "-", "1e999", "-0", "9007199254740993", "18446744073709551616", "NaN", "\\u0000", "\\", "\u00e4", '"shape":[-1]', '"data":[[]]', '"datatype":"BYTES"', '"binary_data_size":-1', '"parameters":{}', "0".repeat(40), "[".repeat(120)];

/** A few bytes changed, dropped, doubled, or replaced by something that means something. */
function change(random: Random, bytes: Buffer, splices: readonly (string | Buffer)[]): Buffer {
  let changed = Buffer.from(bytes);
  for (let i = random.below(4); i >= 0; i--) {
    const at = random.below(changed.length + 1);
    const length = random.below(12);
    const before = changed.subarray(0, at);
    switch (random.below(5)) {
      case 0: if (at < changed.length) changed[at] = random.below(256); break;
      case 1: changed = Buffer.concat([before, changed.subarray(at + length)]); break;
      case 2: changed = Buffer.concat([before, changed.subarray(at, at + length), changed.subarray(at)]); break;
      case 3: changed = Buffer.concat([before, Buffer.from(random.pick(splices)), changed.subarray(at + random.below(4))]); break;
      default: changed = changed.subarray(0, at);
    }
  }
  return changed;
}

const JSON_REQUESTS = [
  { id: "1", inputs: [{ name: "INPUT0", datatype: "FP32", shape: [2, 2], data: [[1, 2.5e-3], [-3, 4]] }] },
  { inputs: [{ name: "INPUT0", datatype: "BYTES", shape: [2], data: ["a\n", "b"] }], outputs: [{ name: "OUTPUT0", parameters: { classification: 2, binary_data: false } }], parameters: { priority: 1, timeout: 100, sequence_id: "x", binary_data_output: true } },
  { inputs: [{ name: "INPUT0", datatype: "INT64", shape: [1], parameters: { binary_data_size: 8 } }, { name: "INPUT1", datatype: "BOOL", shape: [1], parameters: { shared_memory_region: "r", shared_memory_offset: 0, shared_memory_byte_size: 1 } }] },
].map((request) => Buffer.from(JSON.stringify(request)));

/** Runs `use` and lets pass what a request's fault may throw. */
function refusedOrRead(what: string, bytes: Buffer, use: () => void): void {
  const begin = performance.now();
  try {
    use();
  } catch (error) {
    assert.ok(error instanceof ServingError && error.status !== "INTERNAL", `seed ${SEED}, ${what}: ${String(error)}\n${bytes.toString("latin1")}`);
  }
  assert.ok(performance.now() - begin < 2000, `seed ${SEED}, ${what} took long:\n${bytes.toString("latin1")}`);
}

test("JSON bodies", () => {
  console.log(`seed ${SEED}`);
  const random = new Random(SEED);
  for (let i = 0; i < CASES; i++) {
    const bytes = change(random, random.pick(JSON_REQUESTS), SPLICES);
    refusedOrRead("JSON", bytes, () => readInferHeader(bytes, 0, bytes.length, (size) => new Uint8Array(size)));
  }
});

function messageOf(type: typeof ModelInferRequest, value: Readonly<Record<string, unknown>>): Buffer {
  const writer = new ProtoWriter();
  encode(writer, type, value);
  return Buffer.concat(writer.finish());
}

const MESSAGES = [
  { model_name: "m", id: "1", inputs: [{ name: "INPUT0", datatype: "FP32", shape: [2, 2] }], raw_input_contents: [Buffer.alloc(16)], parameters: { priority: { uint64_param: 3 }, own: { double_param: 0.5 } } },
  { model_name: "m", inputs: [{ name: "INPUT0", datatype: "INT32", shape: [2], contents: { int_contents: [1, -1] } }, { name: "INPUT1", datatype: "BYTES", shape: [1], contents: { bytes_contents: [Buffer.from("a")] } }], outputs: [{ name: "OUTPUT0", parameters: { classification: { int64_param: 2 } } }] },
  { model_name: "m", inputs: [{ name: "INPUT0", datatype: "FP64", shape: [1], parameters: { shared_memory_region: { string_param: "r" }, shared_memory_byte_size: { int64_param: 8 } } }] },
].map((value) => messageOf(ModelInferRequest, value));
const PROTO_SPLICES = [[0xff, 0xff, 0xff, 0xff, 0x0f], [0x0a, 0xff, 0x7f], [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01], [0x0b], [0x2a, 0x00], [0x3a, 0x00]].map((bytes) => Buffer.from(bytes));

test("protobuf messages", () => {
  const random = new Random(SEED + 1);
  const controls = Object.values(METHODS);
  for (let i = 0; i < CASES; i++) {
    const bytes = change(random, random.pick(MESSAGES), PROTO_SPLICES);
    refusedOrRead("message", bytes, () => readInferRequest(bytes));
    const { request } = random.pick(controls);
    refusedOrRead("control message", bytes, () => decode(new ProtoReader(bytes, MESSAGE), request));
  }
});

test("requests over HTTP: JSON with binary tensors behind", async () => {
  const random = new Random(SEED + 2);
  const server = new IdentityServer();
  const frontEnd = await HttpFrontEnd.listen(server, { port: 0 });
  const models = ["identity_fp32", "identity_bytes", "identity_int64", "matrix", "pair", "text"];
  const json = Buffer.from(JSON.stringify({ inputs: [{ name: "INPUT0", datatype: "INT64", shape: [2], parameters: { binary_data_size: 16 } }], parameters: { binary_data_output: true } }));
  for (let i = 0; i < CASES; i += 20) {
    await Promise.all(Array.from({ length: 20 }, async () => {
      const text = random.below(3) === 0 ? json : change(random, random.pick([json, ...JSON_REQUESTS]), SPLICES);
      const body = Buffer.concat([text, Buffer.alloc(random.pick([0, 7, 8, 16, 17]), random.below(256))]);
      const length = random.pick([String(text.length), String(text.length), String(text.length), String(random.below(2 * body.length + 1)), "0", "-3", "x", "1e3", ""]);
      const answer = await fetch(`http://127.0.0.1:${frontEnd.port}/v2/models/${random.pick(models)}/${random.pick(["infer", "infer", "infer", "generate"])}`, { method: "POST", body, headers: { "Inference-Header-Content-Length": length } });
      const said = await answer.text();
      assert.ok([200, 400, 501].includes(answer.status), `seed ${SEED}: ${answer.status} ${said}\n${length}\n${body.toString("latin1")}`);
    }));
  }
  assert.equal(server.claimed, 0, "every claim was given back");
  await frontEnd.drain(500);
});
