/**
 * What does the server add to a bare Node server? An identity of 1 KB at 16 in flight (wrk, h2load) and one in flight (1 KB;
 * 600 KB in, 4 KB out), over HTTP and gRPC, beside a node:http and a node:http2 that answer the same bytes, in turns in one run.
 * The server has one processor and the client another.
 *
 * Goals: at 16 in flight at least 35 % of the bare server's requests per second; one in flight a median at most 60 us above the bare
 * one's for 1 KB and 0.25 ms for 600 KB. Answers are checked before and the server's own count after.
 * Usage: npm run bench serve-overhead -- [--front-ends] [--rounds 5] [--seconds 2] [--dist dist]
 */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect as connect2 } from "node:http2";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({ options: { "front-ends": { type: "boolean", default: false }, rounds: { type: "string", default: "5" }, seconds: { type: "string", default: "2" }, calls: { type: "string", default: "2000" }, dist: { type: "string", default: "dist" } } });
const here = dirname(fileURLToPath(import.meta.url));
const load = (path) => import(pathToFileURL(resolve(options.dist, path)).href);
const { makeModel } = await load("onnx/index.js");
const { ProtoWriter, Tensor } = await load("base/index.js");
const { encode, ModelInferRequest } = await load("server/grpc/index.js");

const [SERVER_CPU, CLIENT_CPU] = ["0", "1"];
const LARGE = 153_600;
const folder = mkdtempSync(join(tmpdir(), "sinter-overhead-"));
const children = [];
// This process is the client of one in flight.
execFileSync("taskset", ["-cp", CLIENT_CPU, String(process.pid)], { stdio: "ignore" });

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

/** The HTTP body and the gRPC message of one input; `Inference-Header-Content-Length` for the first. */
function requestOf(model, count) {
  const data = Buffer.from(Float32Array.from({ length: count }, (_, i) => i).buffer);
  const json = Buffer.from(JSON.stringify({ inputs: [{ name: "INPUT0", shape: [1, count], datatype: "FP32", parameters: { binary_data_size: data.length } }], parameters: { binary_data_output: true } }));
  const writer = new ProtoWriter();
  encode(writer, ModelInferRequest, { model_name: model, inputs: [{ name: "INPUT0", datatype: "FP32", shape: [1, count] }], raw_input_contents: [data] });
  const message = Buffer.concat(writer.finish());
  const frame = Buffer.alloc(5 + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, 5);
  return { model, data, headerBytes: json.length, http: Buffer.concat([json, data]), grpc: frame };
}

function start(args) {
  const child = spawn("taskset", ["-c", SERVER_CPU, process.execPath, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  return child;
}

async function portsOf(child) {
  for await (const line of createInterface({ input: child.stdout })) if (line.startsWith("{")) return JSON.parse(line);
  throw new Error("a server ended before it listened");
}

function makeRepository() {
  const value = (name, dims) => ({ name, type: "float32", dims });
  const list = (...items) => new Tensor("int64", BigInt64Array.from(items), [items.length]);
  const models = {
    identity: { inputs: [value("INPUT0", ["batch", 256])], outputs: [value("OUTPUT0", ["batch", 256])], nodes: [{ op: "Identity", inputs: ["INPUT0"], outputs: ["OUTPUT0"] }] },
    slice: {
      inputs: [value("INPUT0", ["batch", LARGE])], outputs: [value("OUTPUT0", ["batch", 1024])], nodes: [{ op: "Slice", inputs: ["INPUT0", "from", "to", "axes"], outputs: ["OUTPUT0"] }],
      initializers: { from: list(0n), to: list(1024n), axes: list(1n) },
    },
  };
  for (const [name, model] of Object.entries(models)) {
    mkdirSync(join(folder, "models", name, "1"), { recursive: true });
    writeFileSync(join(folder, "models", name, "1", "model.onnx"), makeModel(model));
  }
}

/** The real server on ports that are free now; ready when it says so. */
async function startServer() {
  makeRepository();
  const [http, grpc, metrics] = [18_640, 18_641, 18_642];
  start([join(options.dist, "cli/main.js"), "serve", "--model-repository", join(folder, "models"), "--http-port", String(http), "--grpc-port", String(grpc), "--metrics-port", String(metrics), "--engine-cache", join(folder, "cache")]);
  for (let i = 0; i < 300; i++) {
    const ready = await fetch(`http://127.0.0.1:${http}/v2/health/ready`).then((answer) => answer.ok, () => false);
    if (ready) return { http, grpc };
    await new Promise((done) => setTimeout(done, 200));
  }
  throw new Error("the server was not ready within a minute");
}

/** One keep-alive connection that sends the same request and waits for an answer of a known size. */
async function httpCaller(port, request) {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  await new Promise((done) => socket.once("connect", done));
  const head = Buffer.from(`POST /v2/models/${request.model}/infer HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: ${request.headerBytes}\r\nContent-Length: ${request.http.length}\r\n\r\n`);
  const bytes = Buffer.concat([head, request.http]);
  let wanted = Number.POSITIVE_INFINITY;
  let got = [];
  let size = 0;
  let done;
  socket.on("data", (chunk) => {
    size += chunk.length;
    if (wanted === Number.POSITIVE_INFINITY) {
      got.push(chunk);
      const text = Buffer.concat(got).toString("latin1");
      const end = text.indexOf("\r\n\r\n");
      if (end < 0) return;
      wanted = end + 4 + Number(/content-length: (\d+)/i.exec(text)[1]);
    }
    if (size >= wanted) done(size);
  });
  const call = () => new Promise((resolve) => {
    size = 0;
    done = resolve;
    socket.write(bytes);
  });
  await call();
  const first = Buffer.concat(got);
  got = [];
  return { call, first, close: () => socket.destroy() };
}

async function grpcCaller(port, request) {
  const session = connect2(`http://127.0.0.1:${port}`, { settings: { initialWindowSize: 4 * 2 ** 20 } });
  await new Promise((done) => session.once("connect", done));
  const call = () => new Promise((resolve, reject) => {
    const stream = session.request({ ":method": "POST", ":path": "/inference.GRPCInferenceService/ModelInfer", "content-type": "application/grpc", te: "trailers" });
    const chunks = [];
    stream.on("data", (chunk) => chunks.push(chunk));
    stream.on("trailers", (trailers) => (trailers["grpc-status"] === "0" ? undefined : reject(new Error(`grpc-status ${trailers["grpc-status"]}`))));
    stream.on("response", (headers) => (headers["grpc-status"] === undefined ? undefined : reject(new Error(String(headers["grpc-message"])))));
    stream.on("end", () => resolve(Buffer.concat(chunks)));
    stream.on("error", reject);
    stream.end(request.grpc);
  });
  return { call, first: await call(), close: () => session.destroy() };
}

async function medianUs(caller, calls) {
  const times = [];
  for (let i = 0; i < calls; i++) {
    const begin = process.hrtime.bigint();
    await caller.call();
    times.push(Number(process.hrtime.bigint() - begin) / 1000);
  }
  return median(times);
}

function client(command, args) {
  return execFileSync("taskset", ["-c", CLIENT_CPU, command, ...args], { encoding: "utf8" });
}

/** Requests per second at 16 in flight. */
function wrk(port, request, seconds) {
  const script = join(folder, "post.lua");
  writeFileSync(join(folder, "body"), request.http);
  writeFileSync(script, `local file = io.open("${join(folder, "body")}", "rb")\nwrk.method = "POST"\nwrk.body = file:read("*a")\nwrk.headers["Inference-Header-Content-Length"] = "${request.headerBytes}"\n`);
  const text = client("wrk", ["-t1", "-c16", `-d${seconds}s`, "-s", script, `http://127.0.0.1:${port}/v2/models/${request.model}/infer`]);
  assert.ok(!/Non-2xx|Socket errors/.test(text), text);
  return Number(/Requests\/sec:\s+([\d.]+)/.exec(text)[1]);
}

function h2load(port, request, seconds) {
  writeFileSync(join(folder, "frame"), request.grpc);
  const text = client("h2load", ["-c1", "-m16", "-D", String(seconds), "--warm-up-time", "0", "-d", join(folder, "frame"), "-H", "content-type: application/grpc", "-H", "te: trailers", `http://127.0.0.1:${port}/inference.GRPCInferenceService/ModelInfer`]);
  const [, failed] = /(\d+) failed/.exec(text);
  assert.equal(failed, "0", text);
  return Number(/finished in [\d.]+s, ([\d.]+) req\/s/.exec(text)[1]);
}

async function countOf(port, model) {
  const { model_stats: rows } = await (await fetch(`http://127.0.0.1:${port}/v2/models/${model}/stats`)).json();
  return rows.reduce((sum, row) => sum + row.inference_stats.success.count, 0);
}

function row(name, ours, bare, text, good) {
  console.log(`${name.padEnd(34)}${ours.padStart(12)}${bare.padStart(12)}  ${text}  ${good ? "reached" : "missed"}`);
}

try {
  const small = requestOf("identity", 256);
  const large = requestOf("slice", LARGE);
  const ours = options["front-ends"] ? await portsOf(start([join(here, "overhead/front-ends.mjs"), options.dist])) : await startServer();
  const openers = { http: httpCaller, grpc: grpcCaller };
  const probes = {};
  for (const protocol of ["http", "grpc"]) for (const request of [small, large]) probes[`${protocol} ${request.model}`] = await openers[protocol](ours[protocol], request);
  for (const [name, { first }] of Object.entries(probes)) {
    const request = name.endsWith("identity") ? small : large;
    const answer = request === small ? request.data : request.data.subarray(0, 4096);
    assert.ok(first.subarray(first.length - answer.length).equals(answer), `${name}: the answer is not the input`);
  }
  const bodyOf = (first) => first.length - first.indexOf("\r\n\r\n") - 4;
  const bare = {};
  for (const request of [small, large]) bare[request.model] = await portsOf(start([join(here, "overhead/echo.mjs"), String(bodyOf(probes[`http ${request.model}`].first)), String(probes[`grpc ${request.model}`].first.length)]));
  console.log(`${"".padEnd(34)}${"sinter".padStart(12)}${"bare".padStart(12)}`);
  const load16 = { http: wrk, grpc: h2load };
  for (const protocol of ["http", "grpc"]) {
    const rates = { ours: [], bare: [] };
    const before = await countOf(ours.http, "identity");
    for (let round = 0; round < Number(options.rounds); round++) {
      rates.ours.push(load16[protocol](ours[protocol], small, options.seconds));
      rates.bare.push(load16[protocol](bare.identity[protocol], small, options.seconds));
    }
    assert.ok((await countOf(ours.http, "identity")) > before, "the server counted no request");
    const ratio = median(rates.ours.map((rate, i) => rate / rates.bare[i]));
    row(`${protocol}, 1 KB, 16 in flight, req/s`, median(rates.ours).toFixed(0), median(rates.bare).toFixed(0), `${(100 * ratio).toFixed(0)} % of bare (goal 35 %)`, ratio >= 0.35);
  }
  for (const [request, goalUs] of [[small, 60], [large, 250]]) {
    for (const protocol of ["http", "grpc"]) {
      const own = probes[`${protocol} ${request.model}`];
      const peer = await openers[protocol](bare[request.model][protocol], request);
      const times = { ours: [], bare: [] };
      const calls = Math.ceil(Number(options.calls) / (request === large ? 4 : 1));
      const before = await countOf(ours.http, request.model);
      for (let round = 0; round < Number(options.rounds); round++) {
        times.ours.push(await medianUs(own, calls));
        times.bare.push(await medianUs(peer, calls));
      }
      assert.equal((await countOf(ours.http, request.model)) - before, calls * Number(options.rounds), "the server counted other requests than were sent");
      peer.close();
      const over = median(times.ours.map((time, i) => time - times.bare[i]));
      row(`${protocol}, ${request === small ? "1 KB" : "600 KB in, 4 KB out"}, one, p50 us`, median(times.ours).toFixed(0), median(times.bare).toFixed(0), `${over.toFixed(0)} us above bare (goal ${goalUs})`, over <= goalUs);
    }
  }
  for (const { close } of Object.values(probes)) close();
} finally {
  for (const child of children) child.kill();
  rmSync(folder, { recursive: true, force: true });
}
