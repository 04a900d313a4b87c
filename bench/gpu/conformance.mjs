// ONNX's own test cases, built for the GPU and run on it, divided among processes. As a program it runs one share: FOLDER INDEX COUNT.
import { spawn } from "node:child_process";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { ACCEPTED_FAILURES } from "../../dist/testing/conformance-accepted.js";
import { conformanceFolder } from "../../dist/testing/conformance-cases.js";
import { listCases, runCase } from "../../dist/testing/conformance.js";
import { runOnEngine } from "../../dist/testing/engine-executor.js";

const MAX_PROCESSES = 16;
/** Each case is a build of its own. */
const MOST_MS = 480_000;

export async function conformance({ root = process.cwd(), pattern = "" } = {}) {
  const folder = conformanceFolder(root);
  if (!folder) throw new Error("no test cases: ../shared/conformance/onnx-tests.tar.xz and .cache/conformance are not there");
  const count = Math.min(MAX_PROCESSES, availableParallelism());
  const shares = await Promise.all(Array.from({ length: count }, (_, index) => share(folder, index, count, pattern)));
  const outcomes = shares.flat();
  const accepted = new Set(Object.values(ACCEPTED_FAILURES).flat());
  const failed = outcomes.filter(({ failure, name }) => failure !== undefined && !accepted.has(name));
  const floats = outcomes.filter(({ isFloat32 }) => isFloat32);
  const cases = listCases(folder).filter(({ name }) => name.includes(pattern)).length;
  console.log(`conformance on the device: ${outcomes.length} of ${cases} cases run, ${failed.length} unexpected failures; of ${floats.length} float32 cases ${floats.filter(({ isNative }) => isNative).length} on kernels alone`);
  for (const { name, failure } of failed.slice(0, 40)) console.log(`  ${name}: ${failure}`);
}

function share(folder, index, count, pattern) {
  return new Promise((resolve) => {
    let text = "";
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url), folder, String(index), String(count), pattern], { stdio: ["ignore", "pipe", "inherit"] });
    const timer = setTimeout(() => child.kill("SIGKILL"), MOST_MS);
    child.stdout.on("data", (part) => { text += part; });
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      const outcomes = text.split("\n").filter((line) => line.endsWith("}")).map((line) => JSON.parse(line));
      if (code !== 0) console.log(`  the process of share ${index} ended with ${signal ?? code} after ${outcomes.length} cases`);
      resolve(outcomes);
    });
  });
}

async function runShare(folder, index, count, pattern) {
  const cases = listCases(folder).filter(({ name }) => name.includes(pattern));
  for (let i = index; i < cases.length; i += count) {
    const outcome = { name: cases[i].name, isFloat32: false, isNative: false };
    const { passed, reason } = await runCase(cases[i], async (graph, feeds, path) => {
      const { outputs, references } = await runOnEngine(graph, feeds, path, { build: { target: "cuda" } });
      outcome.isFloat32 = [...graph.inputs, ...graph.outputs].every((value) => value.kind === "tensor" && value.dtype === "float32");
      outcome.isNative = references.length === 0;
      return outputs;
    });
    console.log(JSON.stringify({ ...outcome, ...(passed ? {} : { failure: (reason ?? "").split("\n")[0].slice(0, 160) }) }));
  }
  process.exit(0);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await runShare(process.argv[2], Number(process.argv[3]), Number(process.argv[4]), process.argv[5] ?? "");
