/** `sinter serve` as a process of its own, over real sockets. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { makeModel } from "../onnx/index.ts";
import { makeProgram } from "./program.ts";

const root = mkdtempSync(join(tmpdir(), "sinter-serve-cli-"));
const running = new Set<ChildProcess>();
after(() => {
  for (const child of running) child.kill("SIGKILL");
  rmSync(root, { recursive: true, force: true });
});

/** A model that answers its input, whose batches wait so long. */
function repository(name: string, delayUs: number, model: Uint8Array = identity()): string {
  const folder = join(root, name);
  mkdirSync(join(folder, "identity", "1"), { recursive: true });
  writeFileSync(join(folder, "identity", "1", "model.onnx"), model);
  writeFileSync(join(folder, "identity", "config.pbtxt"), `max_batch_size: 64
input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ -1 ] }
dynamic_batching { max_queue_delay_microseconds: ${delayUs} }
`);
  return folder;
}

function identity(): Uint8Array {
  const dims = ["n", "m"];
  return makeModel({ inputs: [{ name: "x", type: "float32", dims }], outputs: [{ name: "y", type: "float32", dims }], nodes: [{ op: "Identity", inputs: ["x"], outputs: ["y"] }] });
}

/** Takes more than a second for a row of a thousand, and next to nothing for a short one. */
function slow(): Uint8Array {
  const products = Array.from({ length: 400 }, (_, i) => ({ op: "MatMul", inputs: [`square${i}`, `square${i}`], outputs: [`square${i + 1}`] }));
  return makeModel({
    inputs: [{ name: "x", type: "float32", dims: ["n", "m"] }], outputs: [{ name: "y", type: "float32", dims: ["n", "m"] }],
    nodes: [{ op: "Transpose", inputs: ["x"], outputs: ["column"] }, { op: "MatMul", inputs: ["column", "x"], outputs: ["square0"] }, ...products, { op: "MatMul", inputs: ["x", `square${products.length}`], outputs: ["y"] }],
  });
}

interface Started {
  readonly child: ChildProcess;
  readonly lines: readonly string[];
  readonly ended: Promise<number | null>;
  /** Resolves with the log entry of that message. @throws when the process ends first */
  until(message: RegExp): Promise<Record<string, unknown>>;
}

function start(...args: string[]): Started {
  const env = { ...process.env, XDG_CACHE_HOME: join(root, "cache"), XDG_CONFIG_HOME: join(root, "config") };
  const child = spawn(process.execPath, [fileURLToPath(new URL("./main.js", import.meta.url)), "serve", "--http-port", "0", "--grpc-port", "0", "--metrics_port=0", "--tune-level", "0", ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
  running.add(child);
  const ended = once(child, "exit").then(([status]) => {
    running.delete(child);
    return status as number | null;
  });
  const lines: string[] = [];
  const listeners = new Set<() => void>();
  const add = (line: string): void => {
    lines.push(line);
    for (const listener of listeners) listener();
  };
  for (const stream of [child.stdout!, child.stderr!]) createInterface({ input: stream }).on("line", add);
  const until = (message: RegExp): Promise<Record<string, unknown>> => new Promise((resolve, reject) => {
    const look = (): void => {
      const found = lines.find((line) => line.startsWith("{") && message.test((JSON.parse(line) as { msg: string }).msg));
      if (found) resolve(JSON.parse(found) as Record<string, unknown>);
    };
    listeners.add(look);
    look();
    void ended.then((status) => reject(new Error(`ended with ${status}: ${lines.join("\n")}`)));
  });
  return { child, lines, ended, until };
}

async function infer(port: unknown, value: number, width = 2): Promise<{ readonly status: number; readonly value: number | undefined }> {
  const reply = await fetch(`http://127.0.0.1:${port}/v2/models/identity/infer`, { method: "POST", body: JSON.stringify({ inputs: [{ name: "x", datatype: "FP32", shape: [1, width], data: [value, ...new Array<number>(width - 1).fill(0)] }] }) });
  const body = (await reply.json()) as { outputs?: { data: number[] }[] };
  return { status: reply.status, value: body.outputs?.[0]?.data[0] };
}

test("it says what it loaded, is ready, answers, is measured, and ends in order", async () => {
  const server = start("--model_repository", repository("plain", 0));
  const { from, on, ms } = await server.until(/^loaded identity version 1$/);
  assert.match(String(from), /identity\/1\/model\.onnx$/);
  assert.match(String(on), /^engine, level 0/);
  assert.ok(Number(ms) > 0);
  const { http, grpc, metrics } = await server.until(/^ready$/);
  assert.ok(Number(grpc) > 0);
  assert.equal((await fetch(`http://127.0.0.1:${http}/v2/health/ready`)).status, 200);
  const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => infer(http, i)));
  assert.deepEqual(answers, answers.map((_, value) => ({ status: 200, value })));
  const { model_stats: [stats] } = (await (await fetch(`http://127.0.0.1:${http}/v2/models/identity/stats`)).json()) as { model_stats: [{ inference_count: number }] };
  assert.equal(stats.inference_count, 50);
  assert.match(await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text(), /nv_inference_request_success\{model="identity",version="1"\} 50\n/);
  server.child.kill("SIGTERM");
  assert.equal(await server.ended, 0);
});

test("SIGTERM finishes all that was accepted, and no more is", async () => {
  const server = start("--model-repository", repository("slow", 1_500_000));
  const { http } = await server.until(/^ready$/);
  const accepted = Array.from({ length: 30 }, (_, i) => infer(http, i));
  await delay(700);
  server.child.kill("SIGTERM");
  await server.until(/^stopping/);
  await assert.rejects(fetch(`http://127.0.0.1:${http}/v2/health/live`));
  assert.deepEqual(await Promise.all(accepted), accepted.map((_, value) => ({ status: 200, value })));
  assert.equal(await server.ended, 0);
});

test("a second signal, and the end of the time given, end it at once", async () => {
  const server = start("--model-repository", repository("stuck", 0, slow()));
  const { http } = await server.until(/^ready$/);
  const lost = infer(http, 1, 1000).catch(() => "cut off");
  await delay(300);
  server.child.kill("SIGTERM");
  await server.until(/^stopping/);
  server.child.kill("SIGTERM");
  assert.equal(await server.ended, 130);
  assert.equal(await lost, "cut off");
  const hasty = start("--model-repository", repository("hasty", 0, slow()), "--exit-timeout-secs", "0.3");
  const { http: port } = await hasty.until(/^ready$/);
  const cut = infer(port, 1, 1000).catch(() => "cut off");
  await delay(300);
  hasty.child.kill("SIGTERM");
  assert.equal(await hasty.ended, 1);
  assert.equal(await cut, "cut off");
});

test("a model that cannot be loaded ends it with the reason, or is left out", async () => {
  const folder = repository("broken", 0, identity().subarray(0, 30));
  const strict = start("--model-repository", folder);
  assert.notEqual(await strict.ended, 0);
  assert.match(strict.lines.join("\n"), /load failed for model 'identity': version 1 is at UNAVAILABLE state: .*model\.onnx/);
  const lenient = start("--model-repository", folder, "--exit-on-error=false");
  const { http } = await lenient.until(/not ready/);
  assert.equal((await fetch(`http://127.0.0.1:${http}/v2/health/ready`)).status, 400);
  assert.equal((await fetch(`http://127.0.0.1:${http}/v2/health/live`)).status, 200);
  lenient.child.kill("SIGTERM");
  assert.equal(await lenient.ended, 0);
});

test("options that mean nothing are refused", async () => {
  const parse = (...args: string[]): Promise<unknown> => {
    const program = makeProgram();
    for (const command of [program, ...program.commands]) command.exitOverride().configureOutput({ writeErr: () => undefined });
    return program.parseAsync(["node", "sinter", "serve", ...args]);
  };
  await assert.rejects(parse(), /--model-repository/);
  await assert.rejects(parse("--model-repository", "x", "--exit-on-error", "perhaps"), /neither true nor false/);
  await assert.rejects(parse("--model-repository", "x", "--model-control-mode", "sometimes"), /none, poll, explicit/);
  await assert.rejects(parse("--model-repository", "x", "--grpc-use-ssl=true"), /--grpc-use-ssl true: there is no TLS here; put a proxy in front/);
  await assert.rejects(parse("--model-repository", "x", "--model-namespacing", "1"), /a model's name is its own in all repositories/);
  await assert.rejects(parse("--model-repository", "x", "--trace-rate", "often"), /Trace setting "rate=often"/);
  await assert.rejects(parse("--model-repository", root, "--http-header-forward-pattern", "("), /Header forward pattern "\("/);
});

test("a start line written for Triton works, and what changes nothing is named", async () => {
  const folder = repository("triton", 0);
  const file = join(root, "triton.log");
  const server = start(
    "--model-store", folder, "--strict-model-config=true", "--strict-readiness=true", "--http-thread-count=8", "--pinned-memory-pool-byte-size=268435456", "--cuda-memory-pool-byte-size=0:67108864", "--backend-directory", "/opt/tritonserver/backends",
    "--log-verbose=1", "--log-format=ISO8601", "--log-info=true", "--model-load-thread-count=2", "--http-address", "127.0.0.1", "--allow-gpu-metrics=false", "--rate-limit=off", "--grpc-use-ssl=false", "--backend-config=onnxruntime,default-max-batch-size=8", "--trace-file", join(root, "trace.json"),
  );
  const { http, time } = await server.until(/^ready$/);
  assert.match(String(time), /^\d{4}-\d\d-\d\dT/);
  await server.until(/^--http-thread-count changes nothing here: one thread parses and writes/);
  assert.ok(server.lines.some((line) => line.includes('"--backend-directory changes nothing here: backends are built in"')));
  const logging = async (body?: unknown): Promise<Record<string, unknown>> => (await (await fetch(`http://127.0.0.1:${http}/v2/logging`, body ? { method: "POST", body: JSON.stringify(body) } : {})).json()) as Record<string, unknown>;
  assert.deepEqual(await logging(), { log_file: "", log_info: true, log_warning: true, log_error: true, log_verbose_level: 1, log_format: "ISO8601" });
  await logging({ log_format: "default" });
  server.child.kill("SIGTERM");
  assert.equal(typeof (await server.until(/^stopped$/))["time"], "number");
  assert.equal(await server.ended, 0);
  const silent = start("--model-repository", folder, "--log-file", file, "--http-port", String(http));
  while (!existsSync(file) || !readFileSync(file, "utf8").includes('"ready"')) await delay(20);
  const second = start("--model-repository", folder, "--http-port", String(http));
  assert.equal(await second.ended, 5);
  assert.match(second.lines.join("\n"), new RegExp(`failed to start HTTP service: Unavailable - Socket '127.0.0.1:${http}' already in use`));
  assert.deepEqual(silent.lines, []);
  silent.child.kill("SIGTERM");
  await silent.ended;
});

test("a model without a configuration, a load that is tried again, another configuration by name", async () => {
  const bare = repository("bare", 0);
  rmSync(join(bare, "identity", "config.pbtxt"));
  const strict = start("--model-repository", bare, "--disable-auto-complete-config", "--model-load-retry-count", "1");
  assert.notEqual(await strict.ended, 0);
  assert.match(strict.lines.join("\n"), /failed to open text file for read .*identity\/config\.pbtxt: No such file or directory/);
  mkdirSync(join(bare, "identity", "configs"));
  writeFileSync(join(bare, "identity", "configs", "small.pbtxt"), "max_batch_size: 3");
  const other = start("--model-repository", bare, "--model-config-name", "small");
  assert.equal((await other.until(/^loaded identity/))["max_batch_size"], 3);
  other.child.kill("SIGTERM");
  await other.ended;
  const broken = start("--model-repository", repository("again", 0, identity().subarray(0, 30)), "--model-load-retry-count=2", "--exit-on-error=false", "--strict-readiness=false");
  assert.equal((await broken.until(/is tried again/))["left"], 2);
  const { http } = await broken.until(/^ready$/);
  assert.equal((await fetch(`http://127.0.0.1:${http}/v2/health/ready`)).status, 200);
  assert.equal(broken.lines.filter((line) => line.includes("is tried again")).length, 2);
  broken.child.kill("SIGTERM");
  await broken.ended;
});
