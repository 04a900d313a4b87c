// Large bfloat16 products and attention on this machine's GPU, beside cuBLASLt, FlashAttention and cuDNN as PyTorch calls them.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, Engine, Tensor } from "../../dist/index.js";
import { makeModel } from "../../dist/onnx/index.js";
import { floats } from "../../dist/testing/small-models.js";

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

/** Milliseconds of PyTorch's runs by name; nothing where there is no PyTorch. */
function peers(...what) {
  const { stdout } = spawnSync("python3", [fileURLToPath(new URL("./peers.py", import.meta.url)), ...what], { encoding: "utf8" });
  return new Map((stdout ?? "").split("\n").filter((line) => line.startsWith("{")).map((line) => { const { name, ms: time } = JSON.parse(line); return [name, time]; }));
}

const teraflops = (flops, time) => `${(flops / time / 1e9).toFixed(0).padStart(4)} TFLOP/s`;
const bfloat16 = (count, seed) => { const bits = new Uint32Array(floats(count, seed).buffer); return Uint16Array.from(bits, (item) => item >>> 16); };

/** Milliseconds of the kernel whose operators include this one. */
function kernelTime(context, feeds, operator) {
  const once = () => context.profile(feeds).filter(({ label }) => label.operators.includes(operator));
  once();
  const runs = Array.from({ length: 20 }, once);
  return { time: median(runs.map((steps) => steps.reduce((sum, { ns }) => sum + ns, 0))) / 1e6, tactic: runs[0].map(({ label }) => label.tactic).join(", ") };
}

/** Large products. @param folder for engines */
export async function matmul(folder) {
  const theirs = peers("matmul");
  for (const [m, n, k] of [[8192, 8192, 8192], [4096, 4096, 4096], [4096, 3072, 768]]) {
    const output = join(folder, "matmul.engine");
    const model = makeModel({
      opset: 21, inputs: [{ name: "x", type: "bfloat16", dims: [m, k] }], outputs: [{ name: "y", type: "bfloat16", dims: [m, n] }],
      initializers: { w: new Tensor("bfloat16", bfloat16(k * n, 2), [k, n]) }, nodes: [{ op: "MatMul", name: "product", inputs: ["x", "w"], outputs: ["y"] }],
    });
    await build(model, { output, target: "cuda", level: 3 });
    const engine = Engine.loadSync(output);
    const context = engine.createContext();
    const feeds = { x: new Tensor("bfloat16", bfloat16(m * k, 1), [m, k]) };
    context.deviceTimes(feeds, 5);
    const time = median(context.deviceTimes(feeds, 30));
    const peer = theirs.get(`${m}x${n}x${k}`);
    console.log(`matmul bf16 ${m}x${n}x${k}: ${time.toFixed(4)} ms ${teraflops(2 * m * n * k, time)} (${kernelTime(context, feeds, "MatMul").tactic})${peer ? `, cuBLASLt ${teraflops(2 * m * n * k, peer)}: ${((100 * peer) / time).toFixed(0)} % of it` : ""}`);
    engine.dispose();
  }
}

/** Attention forward over 2,048 tokens. @param folder for engines */
export async function attention(folder) {
  const theirs = peers("attention");
  const [batch, heads, length] = [8, 16, 2048];
  for (const size of [64, 128]) for (const causal of [false, true]) {
    const output = join(folder, "attention.engine");
    const dims = [batch, heads, length, size];
    const model = makeModel({
      opset: 23, inputs: ["q", "k", "v"].map((name) => ({ name, type: "float32", dims })), outputs: [{ name: "y", type: "float32", dims }], initializers: {},
      nodes: [{ op: "Attention", name: "attention", inputs: ["q", "k", "v"], outputs: ["y"], attributes: { is_causal: Number(causal) } }],
    });
    await build(model, { output, target: "cuda", precision: "bf16", level: 3 });
    const engine = Engine.loadSync(output);
    const context = engine.createContext();
    const feeds = Object.fromEntries(["q", "k", "v"].map((name, i) => [name, new Tensor("float32", floats(batch * heads * length * size, i + 1).map((value) => 3 * value), dims)]));
    const { time, tactic } = kernelTime(context, feeds, "Attention");
    const flops = 4 * batch * heads * length * length * size * (causal ? 0.5 : 1);
    const name = `head ${size}${causal ? " causal" : ""}`;
    const beside = ["FLASH_ATTENTION", "CUDNN_ATTENTION"].flatMap((backend) => { const peer = theirs.get(`${name} ${backend}`); return peer ? [`${backend} ${teraflops(flops, peer)}: ${((100 * peer) / time).toFixed(0)} % of it`] : []; });
    console.log(`attention bf16 ${length} tokens, ${name}: ${time.toFixed(4)} ms ${teraflops(flops, time)} (${tactic})${beside.map((text) => `, ${text}`).join("")}`);
    engine.dispose();
  }
}
