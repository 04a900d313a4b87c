import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { release } from "node:os";
import { test } from "node:test";
import { Worker } from "node:worker_threads";

const room = new URL("./", import.meta.url).href;

/** What every thread of these tests begins with: a program of `tiles` tiles that poll, and a counter of tiles run. */
const PRELUDE = `
  const { NativeMemory } = await import("${room}../native/index.js");
  const { Program, openPool } = await import("${room}index.js");
  const { assembleTestKernels } = await import("${room}test-kernels.js");
  const kernels = assembleTestKernels();
  function busy(tiles, polls) {
    const memory = NativeMemory.allocate(8);
    const program = new Program([kernels.work, kernels.work].map((code) => ({ code, params: 2, tiles, grain: 1 })));
    for (const step of [0, 1]) {
      program.setParam(step, 0, Number(memory.address));
      program.setParam(step, 1, polls);
    }
    return { program, total: () => Number(new BigInt64Array(memory.view().buffer)[0]) };
  }
`;

/** Runs module code in a worker thread. */
function startWorker(body: string): Worker {
  const code = `const { parentPort } = require("node:worker_threads"); (async () => { ${PRELUDE} ${body} })();`;
  return new Worker(code, { eval: true });
}

function nextMessage(worker: Worker): Promise<unknown> {
  return new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
}

/** Runs module code in a process of its own, which must end by itself. */
function runProcess(body: string): {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
} {
  const { stdout, stderr, status, signal } = spawnSync(process.execPath, ["--input-type=module", "-e", `${PRELUDE} ${body}`], {
    encoding: "utf8",
    timeout: 60_000,
  });
  return { stdout, stderr, status, signal };
}

test("workers share one pool", async () => {
  const workers = Array.from({ length: 4 }, () =>
    startWorker(`
      const pool = openPool({ threads: 3 });
      const { program, total } = busy(16, 20);
      for (let run = 0; run < 200; run++) await program.run({ threads: 3 });
      for (let run = 0; run < 200; run++) program.runSync({ threads: 3 });
      parentPort.postMessage({ address: pool.address, budget: pool.budget, threads: pool.threads, total: total() });
      await new Promise((resolve) => parentPort.once("message", resolve));
    `),
  );
  const answers = (await Promise.all(workers.map(nextMessage))) as { address: number; budget: number; threads: number; total: number }[];
  for (const answer of answers) assert.deepEqual(answer, { ...answers[0]!, total: 400 * 2 * 16 });
  assert.equal(answers[0]!.budget, 3);
  assert.equal(answers[0]!.threads, 3);
  for (const worker of workers) worker.postMessage("end");
  const codes = await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once("exit", resolve))));
  assert.deepEqual(codes, [0, 0, 0, 0]);
});

test("terminating workers with runs in flight harms nobody, and their channels are used again", () => {
  const outcome = runProcess(`
    import { Worker } from "node:worker_threads";
    import { readdirSync } from "node:fs";
    openPool({ threads: 2 });
    const worker = () => new Worker(${JSON.stringify(`const { parentPort } = require("node:worker_threads"); (async () => { ${PRELUDE}
      const programs = [1, 2, 3].map(() => busy(8, 20000));
      parentPort.postMessage("started");
      for (;;) await Promise.all(programs.map(({ program }) => program.run({ threads: 2 })));
    })();`)}, { eval: true, execArgv: [] });
    let descriptors = [];
    for (let round = 0; round < 12; round++) {
      const one = worker();
      await new Promise((resolve) => one.once("message", resolve));
      await new Promise((resolve) => setTimeout(resolve, 5));
      await one.terminate();
      const { program, total } = busy(32, 10);
      await program.run();
      if (total() !== 64) throw new Error("tiles lost");
      descriptors.push(readdirSync("/proc/self/fd").length);
    }
    // A worker may begin before the last one's run has ended, and so need a channel more; a leak would add one in each round.
    if (descriptors.at(-1) > descriptors[4] + 3) throw new Error("descriptors leak: " + descriptors);
    console.log("done");
  `);
  assert.deepEqual(outcome, { stdout: "done\n", stderr: "", status: 0, signal: null });
});

test("a process ends by itself after its runs, and not before", () => {
  const { stdout, status } = runProcess(`
    const { program } = busy(8, 100000);
    program.run().then(() => console.log("ended"));
  `);
  assert.deepEqual({ stdout, status }, { stdout: "ended\n", status: 0 });
});

test("a process may exit during a run", () => {
  const { status, signal } = runProcess(`
    const { program } = busy(8, 1000000);
    void program.run();
    setTimeout(() => process.exit(7), 5);
  `);
  assert.deepEqual({ status, signal }, { status: 7, signal: null });
});

test("lower priority is given to threads there are and to later ones", () => {
  const { stdout } = runProcess(`
    import { readdirSync, readFileSync } from "node:fs";
    const nices = () => readdirSync("/proc/self/task").map((id) => readFileSync("/proc/self/task/" + id + "/stat", "utf8").split(") ")[1].split(" ")[16]);
    const pool = openPool({ threads: 4 });
    const { program } = busy(8, 10);
    await program.run({ threads: 2 });
    pool.setPriority(5);
    await program.run({ threads: 4 });
    await new Promise((resolve) => setTimeout(resolve, 50));
    console.log(nices().filter((nice) => nice === "5").length);
  `);
  assert.equal(stdout, "4\n");
});

/** Linux takes a slice from 6.12 on, and shows it where it is built to. */
const [major = 0, minor = 0] = release().split(".").map(Number);
const showsSlices = major * 100 + minor >= 612 && existsSync("/proc/self/sched");

test("the pool's threads ask for long slices, so that whoever wakes goes first", { skip: !showsSlices && "this Linux shows no slices" }, () => {
  const { stdout } = runProcess(`
    import { readdirSync, readFileSync } from "node:fs";
    const slices = () => readdirSync("/proc/self/task").map((id) => /se.slice +: +100000000/.test(readFileSync("/proc/self/task/" + id + "/sched", "utf8")));
    openPool({ threads: 2 });
    await busy(8, 10).program.run({ threads: 2 });
    await new Promise((resolve) => setTimeout(resolve, 50));
    console.log(slices().filter((long) => long).length);
  `);
  assert.equal(stdout, "2\n");
});
