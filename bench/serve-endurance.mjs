// Does the server stay what it was? Resident memory after a million requests over what it was after ten thousand, and the event
// loop's p99.9 delay beside a model that takes about a second on every core, over an idle server's, on both backends.
// Usage: npm run bench serve-endurance [memory|loop …] [--requests=N] [--seconds=N]
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Tensor } from "../dist/index.js";
import { makeModel } from "../dist/onnx/index.js";
import { load, quantile, requestBytes, startServer, stopServer } from "./serving/server.mjs";
import { root } from "./zoo.mjs";

const option = (name, usual) => Number(process.argv.find((arg) => arg.startsWith(`--${name}=`))?.slice(name.length + 3) ?? usual);
const requests = option("requests", 1_000_000);
const seconds = option("seconds", 30);
const FIRST = 10_000;
/** How often memory is looked at, and how long it rests before. */
const LOOKS = 10;
const REST_MS = 1500;
const folder = join(root, ".cache/serve-endurance");
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const value = (name, dims) => ({ name, type: "float32", dims });

let failed = 0;
function report(what, measured, bound, unit, note) {
  const kept = measured <= bound;
  if (!kept) failed++;
  console.log(`${kept ? "kept  " : "BROKEN"} ${what.padEnd(72)} ${`${measured.toFixed(1)} ${unit}`.padStart(10)}  (at most ${bound} ${unit})  ${note}`);
}

function writeModel(name, model, config) {
  mkdirSync(join(folder, "models", name, "1"), { recursive: true });
  writeFileSync(join(folder, "models", name, "1/model.onnx"), makeModel(model));
  writeFileSync(join(folder, "models", name, "config.pbtxt"), config);
}

/** Rows are multiplied by one matrix again and again; input and output are small. */
function slowModel() {
  const [size, rows, times] = [4096, 1024, 10];
  const filled = (count, of) => Float32Array.from({ length: count }, (_, i) => of(i));
  return {
    inputs: [value("x", [1, size])], outputs: [value("y", [1, size])],
    initializers: {
      offsets: new Tensor("float32", filled(rows, (i) => i / rows), [rows, 1]), weights: new Tensor("float32", filled(size * size, (i) => (((i * 7) % 13) - 6) / size), [size, size]),
      axes: new Tensor("int64", [0n], [1]),
    },
    nodes: [
      { op: "Add", inputs: ["x", "offsets"], outputs: ["h0"] },
      ...Array.from({ length: times }, (_, i) => ({ op: "MatMul", inputs: [`h${i}`, "weights"], outputs: [`h${i + 1}`] })),
      { op: "ReduceMax", inputs: [`h${times}`, "axes"], outputs: ["y"], attributes: { keepdims: 1 } },
    ],
  };
}

const residentMiB = ({ child }) => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))[1]) / 1024;

const QUESTIONS = {
  memory: async () => {
    const data = Float32Array.from({ length: 256 }, (_, i) => i);
    const identity = { inputs: [value("INPUT0", ["batch", 256])], outputs: [value("OUTPUT0", ["batch", 256])], nodes: [{ op: "Identity", inputs: ["INPUT0"], outputs: ["OUTPUT0"] }] };
    writeModel("identity", identity, "max_batch_size: 16\ndynamic_batching { }\n");
    const server = await startServer(folder, { args: ["--allow-grpc", "false"] });
    try {
      const bodies = [requestBytes("identity", [["INPUT0", "FP32", [1, 256], data]])];
      const looks = [];
      const send = async (most) => {
        const { perSecond } = await load(server.http, "identity", { bodies, most, connections: 16, latencies: false });
        await sleep(REST_MS);
        looks.push(residentMiB(server));
        return perSecond;
      };
      await send(FIRST);
      let perSecond = 0;
      for (let i = 0; i < LOOKS; i++) perSecond = await send(Math.floor((requests - FIRST) / LOOKS));
      report(`resident memory after ${requests} requests over that after ${FIRST}`, 100 * (looks.at(-1) / looks[0] - 1), 5, "%", `MiB: ${looks.map((look) => look.toFixed(0)).join(" ")}; ${perSecond.toFixed(0)} requests/s`);
    } finally {
      await stopServer(server);
    }
  },
  loop: async () => {
    for (const backend of ["engine", "onnxruntime"]) {
      rmSync(join(folder, "models"), { recursive: true, force: true });
      writeModel("slow", slowModel(), `backend: "${backend}"\n`);
      const server = await startServer(folder, { args: ["--allow-grpc", "false"], tuned: backend === "engine" ? 1 : 0 });
      try {
        const bodies = [requestBytes("slow", [["x", "FP32", [1, 4096], new Float32Array(4096).fill(0.5)]])];
        await load(server.http, "slow", { bodies, most: 2, connections: 1 });
        await delays(server);
        await sleep(seconds * 1000);
        const idle = await delays(server);
        const { latenciesMs } = await load(server.http, "slow", { bodies, seconds, connections: 2 });
        const busy = await delays(server);
        report(`event loop's p99.9 delay beside runs of ${(quantile(latenciesMs, 0.5) / 2000).toFixed(1)} s on ${backend}, over an idle server's`, busy - idle, 15, "ms", `${busy.toFixed(1)} and ${idle.toFixed(1)} ms`);
      } finally {
        await stopServer(server);
      }
    }
  },
};

/** The event loop's p99.9 delay since the last time, in milliseconds, as the server counts it. */
async function delays({ metrics }) {
  const text = await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text();
  return 1000 * Number(/sinter_event_loop_delay_seconds\{percentile="99\.9"\} (\S+)/.exec(text)[1]);
}

const wanted = process.argv.slice(2).filter((arg) => !arg.startsWith("--"));
for (const [name, answer] of Object.entries(QUESTIONS)) {
  rmSync(join(folder, "models"), { recursive: true, force: true });
  if (wanted.length === 0 || wanted.includes(name)) await answer();
}
process.exit(failed ? 1 : 0);
