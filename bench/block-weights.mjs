// Weights of four and eight bits with a scale per block (MatMulNBits): how fast are products of 1 to 16 rows (and many)
// beside onnxruntime's run of the same file, how many bytes of weights are read per second, and how large are they in the
// engine beside fp32? One chain of square products, larger than any cache.
// Usage: npm run bench block-weights [--bits=4,8] [--rows=1,4,16,128] [--threads=1] [--seconds=N] [--build]
import { existsSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openOnnxruntime } from "../dist/cli/peer.js";
import { EngineFile } from "../dist/engine/index.js";
import { build, Engine, Tensor } from "../dist/index.js";
import { makeModel } from "../dist/onnx/index.js";
import { folder } from "./quantization-data.mjs";
import { inTurns, machine, parseArguments, PeakMeter, timed } from "./side-by-side.mjs";
import { root } from "./zoo.mjs";

const { flags } = parseArguments();
const numbers = (name, absent) => (flags[name] ?? absent).split(",").map(Number);
const SIZE = 2048;
const LAYERS = 12;
const BLOCK = 32;
/** Scales included, of the bytes as float32. */
const MOST_SHARE = { 4: 0.17, 8: 0.3 };

/** A chain of products whose values stay about as large as they are. */
function modelOf(bits) {
  const path = join(folder, `blocks-${bits}.onnx`);
  if (existsSync(path)) return path;
  let state = 1;
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) | 0) >>> 8;
  const initializers = {};
  const nodes = Array.from({ length: LAYERS }, (_, i) => {
    initializers[`b${i}`] = new Tensor("uint8", Uint8Array.from({ length: (SIZE * SIZE * bits) / 8 }, random), [SIZE, SIZE / BLOCK, (BLOCK * bits) / 8]);
    initializers[`s${i}`] = new Tensor("float32", Float32Array.from({ length: (SIZE * SIZE) / BLOCK }, () => (0.5 + (random() % 100) / 100) / (2 ** (bits - 2) * Math.sqrt(SIZE))), [(SIZE * SIZE) / BLOCK]);
    return { op: "MatMulNBits", domain: "com.microsoft", name: `product${i}`, inputs: [i === 0 ? "x" : `y${i - 1}`, `b${i}`, `s${i}`], outputs: [i === LAYERS - 1 ? "y" : `y${i}`], attributes: { K: SIZE, N: SIZE, bits, block_size: BLOCK } };
  });
  writeFileSync(path, makeModel({ opset: 21, opsets: { "com.microsoft": 1 }, inputs: [{ name: "x", type: "float32", dims: ["rows", SIZE] }], outputs: [{ name: "y", type: "float32" }], initializers, nodes }));
  return path;
}

async function engineOf(bits, path) {
  const output = join(folder, `blocks-${bits}.engine`);
  const profile = { x: { min: [1, SIZE], opt: [1, SIZE], max: [256, SIZE] } };
  if (!existsSync(output) || statSync(output).mtimeMs < statSync(join(root, "dist/index.js")).mtimeMs) await build(path, { output, profiles: [profile], timingCache: join(folder, "timings.json") });
  return output;
}

function weightBytes(path) {
  const file = EngineFile.open(path);
  const size = file.sizeOf("weights");
  file.close();
  return size;
}

/** The largest difference of two results, over the largest value. */
function difference(a, b) {
  let [far, large] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    far = Math.max(far, Math.abs(a[i] - b[i]));
    large = Math.max(large, Math.abs(b[i]));
  }
  return far / large;
}

console.log(machine);
console.log("bits", "rows", "threads", "   ours ms", "onnxruntime ms", "times faster", "weights GB/s", "bytes, of fp32", "difference");
let broken = 0;
for (const bits of numbers("bits", "4,8")) {
  const model = modelOf(bits);
  const path = await engineOf(bits, model);
  if ("build" in flags) continue;
  const bytes = weightBytes(path);
  const share = bytes / (LAYERS * SIZE * SIZE * 4);
  if (share > MOST_SHARE[bits]) broken++;
  for (const threads of numbers("threads", "1")) for (const rows of numbers("rows", "1,4,16,128")) {
    const engine = await Engine.load(path, { threads });
    const context = engine.createContext();
    const feeds = { x: new Tensor("float32", Float32Array.from({ length: rows * SIZE }, (_, i) => Math.sin(i)), [rows, SIZE]) };
    const peer = await openOnnxruntime(model, feeds, threads);
    const meter = new PeakMeter(threads);
    try {
      const apart = difference((await context.run(feeds)).y.data, (await peer.run()).y.data);
      const { sides: [ours, theirs] } = await inTurns([timed(() => context.run(feeds)), timed(() => peer.start())], { seconds: Number(flags.seconds ?? 2), meter });
      console.log(String(bits).padStart(4), String(rows).padStart(4), String(threads).padStart(7), ours.median.toFixed(3).padStart(10), theirs.median.toFixed(3).padStart(14), (theirs.median / ours.median).toFixed(2).padStart(12), (bytes / ours.median / 1e6).toFixed(1).padStart(12), `${(100 * share).toFixed(1)} %`.padStart(14), apart.toExponential(1).padStart(10));
    } finally {
      await peer.release();
      meter.dispose();
      engine.dispose();
    }
  }
}
process.exit(broken ? 1 : 0);
