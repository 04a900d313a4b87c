/** `sinter load` against `sinter serve`, both as processes of their own: answers right, counts equal, metrics valid. */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { LoadReport } from "../load/index.ts";
import { makeModel } from "../onnx/index.ts";

const MAIN = fileURLToPath(new URL("./main.js", import.meta.url));
const root = mkdtempSync(join(tmpdir(), "sinter-load-cli-"));
let server: ChildProcess;
let ports: { readonly http: number; readonly grpc: number; readonly metrics: number };

before(async () => {
  const dims = ["n", 256];
  mkdirSync(join(root, "models/identity/1"), { recursive: true });
  writeFileSync(join(root, "models/identity/1/model.onnx"), makeModel({ inputs: [{ name: "x", type: "float32", dims }], outputs: [{ name: "y", type: "float32", dims }], nodes: [{ op: "Identity", inputs: ["x"], outputs: ["y"] }] }));
  const env = { ...process.env, XDG_CACHE_HOME: join(root, "cache"), XDG_CONFIG_HOME: join(root, "config") };
  server = spawn(process.execPath, [MAIN, "serve", "--model-repository", join(root, "models"), "--http-port", "0", "--grpc-port", "0", "--metrics-port", "0", "--tune-level", "0"], { env, stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: server.stdout! })) {
    const entry = JSON.parse(line) as { msg: string } & typeof ports;
    if (entry.msg !== "ready") continue;
    ports = entry;
    break;
  }
  assert.ok(ports, "the server ended before it was ready");
});

after(() => {
  server.kill("SIGKILL");
  rmSync(root, { recursive: true, force: true });
});

async function load(...args: readonly string[]): Promise<readonly LoadReport[]> {
  const { stdout } = await promisify(execFile)(process.execPath, [MAIN, "load", ...args, "-m", "identity", "--expect", "identity", "--json", "--duration", "0.5", "--warmup", "0.1"]);
  return (JSON.parse(stdout) as { runs: LoadReport[] }).runs;
}

test("closed and open loops over both protocols", async () => {
  const chart = join(root, "chart.html");
  for (const url of [`http://127.0.0.1:${ports.http}`, `grpc://127.0.0.1:${ports.grpc}`]) {
    const runs = await load(url, "--concurrency", "1,8", "--rate", "50", "--chart", chart);
    assert.deepEqual(runs.map(({ kind, value, failed, uncounted }) => [kind, value, failed, uncounted]), [["concurrency", 1, 0, 0], ["concurrency", 8, 0, 0], ["rate", 50, 0, 0]]);
    for (const { answered, server: phases } of runs) assert.ok(answered > 0 && phases.meanBatch >= 1 && phases.inferMs > 0);
    assert.match(readFileSync(chart, "utf8"), /<svg/);
  }
});

test("what cannot be measured ends with a text and a status", () => {
  const fails = (args: readonly string[], status: number, text: RegExp): void => {
    const result = spawnSync(process.execPath, [MAIN, "load", ...args], { encoding: "utf8" });
    assert.deepEqual([result.status, text.test(result.stderr)], [status, true], result.stderr);
  };
  fails([`http://127.0.0.1:${ports.http}`, "-m", "nope"], 2, /unknown model: 'nope'/);
  fails([`http://127.0.0.1:${ports.http}`, "-m", "identity", "--concurrency", "0"], 2, /--concurrency is "0"/);
  fails(["ftp://127.0.0.1", "-m", "identity"], 2, /use http:\/\/ or grpc:\/\//);
  fails(["http://127.0.0.1:1", "-m", "identity"], 5, /is a server listening there\?/);
});

const promtool = spawnSync("promtool", ["--version"]).status === 0;

test("the server's metrics are valid; what promtool would name otherwise has Triton's names", { skip: !promtool && "promtool is not installed" }, async () => {
  const text = await (await fetch(`http://127.0.0.1:${ports.metrics}/metrics`)).text();
  assert.match(text, /nv_inference_request_success\{model="identity",version="1"\} [1-9]/);
  const { stdout, stderr, status } = spawnSync("promtool", ["check", "metrics"], { input: text, encoding: "utf8" });
  assert.ok(status === 0 || status === 3, stdout + stderr);
  assert.deepEqual((stdout + stderr).split("\n").filter((line) => line !== "" && !line.startsWith("nv_")), []);
});
