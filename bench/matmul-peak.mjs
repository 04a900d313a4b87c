/**
 * What share of the processor's multiply-add peak do matrix products reach on one thread?
 *
 * Each round times a loop of multiply-adds on registers and then the product, so that both see the same clock; the
 * table gives the median of the rounds' ratios. A round whose peak is under 90 % of the best peak is dropped.
 *
 *   node bench/matmul-peak.mjs [--isa avx2] [--dist dist] [--tactic TEXT] [--all] [MxKxN ...]
 */
import { parseArgs } from "node:util";
import { pathToFileURL } from "node:url";
import { resolve } from "node:path";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { isa: { type: "string", default: "avx512" }, dist: { type: "string", default: "dist" }, tactic: { type: "string" }, all: { type: "boolean", default: false }, rounds: { type: "string", default: "15" }, try: { type: "string", default: "8" } },
});
const load = (path) => import(pathToFileURL(resolve(options.dist, path)).href);
const { compileFmaPeak, matmulTactics } = await load("codegen/x64/contraction/index.js");
const { BoundKernel, CpuDevice, tune } = await load("tune/index.js");

const isa = { name: options.isa, vectorBytes: options.isa === "avx2" ? 32 : 64, vnni: false, bf16: false, amx: false };
const shapes = (positionals.length ? positionals : ["512x1024x4096", "126x768x3072", "126x3072x768", "128x768x768", "384x384x1536", "1x768x3072"]).map((text) => text.split("x").map(Number));

function problem([m, k, n]) {
  const buffer = (name, dims) => ({ name, dtype: "float32", dims });
  const [a, b, c] = [buffer("a", [m, k]), buffer("b", [k, n]), buffer("c", [m, n])];
  const weights = new Float32Array(k * n).map((_, i) => ((i * 37) % 101) / 101 - 0.5);
  const kernel = {
    kind: "matmul", name: "matmul", batch: [], m, n, k, output: c,
    a: { buffer: a, batchStrides: [], rowStride: k, columnStride: 1 },
    b: { buffer: b, batchStrides: [], rowStride: n, columnStride: 1 },
  };
  return { a, kernel, constants: (one) => (one === b ? new Uint8Array(weights.buffer) : undefined) };
}

function seconds(bound, repeats) {
  const begin = process.hrtime.bigint();
  for (let i = 0; i < repeats; i++) bound.run();
  return Number(process.hrtime.bigint() - begin) / 1e9 / repeats;
}

const median = (list) => [...list].sort((x, y) => x - y)[list.length >> 1];

const peakKernel = compileFmaPeak(isa);
const peak = new BoundKernel(peakKernel, new Map());
const device = new CpuDevice(isa.name, 1);

function measure(shape, compiled, a) {
  const bound = new BoundKernel(compiled, new Map());
  const input = bound.memory(a)?.view();
  if (input) new Float32Array(input.buffer, 0, input.byteLength >> 2).fill(0.25);
  const flops = 2 * shape[0] * shape[1] * shape[2];
  const repeats = Math.max(1, Math.round(5e8 / flops));
  const rounds = [];
  seconds(bound, repeats);
  for (let i = 0; i < Number(options.rounds); i++) {
    const limit = peakKernel.flops / seconds(peak, 3);
    rounds.push({ limit, reached: flops / seconds(bound, repeats) });
  }
  bound.dispose();
  const best = Math.max(...rounds.map((round) => round.limit));
  const kept = rounds.filter((round) => round.limit > 0.9 * best);
  return { gflops: median(kept.map((round) => round.reached)) / 1e9, peak: median(kept.map((round) => round.limit)) / 1e9, share: median(kept.map((round) => round.reached / round.limit)), kept: kept.length };
}

console.log(`${device.identity}; GFLOP/s, the peak in the same rounds, and the share`);
for (const shape of shapes) {
  const { kernel, constants, a } = problem(shape);
  const tactics = matmulTactics(kernel, isa, constants, new Map());
  const row = (name, compiled) => {
    const { gflops, peak: limit, share, kept } = measure(shape, compiled, a);
    console.log(`${shape.join("x").padEnd(16)} ${name.padEnd(40)} ${gflops.toFixed(1).padStart(7)} ${limit.toFixed(1).padStart(7)} ${(100 * share).toFixed(1).padStart(6)} % (${kept} rounds)`);
  };
  if (options.all || options.tactic) {
    for (const tactic of tactics.filter((one) => !options.tactic || one.name.includes(options.tactic)).slice(0, Number(options.try))) row(tactic.name, tactic.compile());
  } else {
    const tuned = tune(shape.join("x"), tactics, new Map(), { device, level: 3, budgetMs: 5000 });
    row(tuned.tactic, tuned.kernel);
  }
}
peak.dispose();
