/**
 * What share of the processor's peak do matrix products reach on one thread, in float32, bfloat16 and 8-bit integers?
 *
 * Each round times a loop of multiplications on registers (multiply-adds, VDPBF16PS, VPDPBUSD; on AMX tiles TDPBF16PS and
 * TDPBUSD with the loads of their operands, with SINTER_CPU=avx512 the vectors') and then the product, so that both see
 * the same clock; the table gives the median of the rounds' ratios. A round whose peak is under 90 % of the best peak
 * is dropped.
 *
 *   node bench/matmul-peak.mjs [--isa avx2] [--type f32,bf16,u8,s8] [--dist dist] [--tactic TEXT] [--all] [MxKxN ...]
 */
import { parseArgs } from "node:util";
import { pathToFileURL } from "node:url";
import { resolve } from "node:path";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    isa: { type: "string" }, type: { type: "string", default: "f32,bf16,u8" }, dist: { type: "string", default: "dist" }, tactic: { type: "string" },
    all: { type: "boolean", default: false }, rounds: { type: "string", default: "15" }, try: { type: "string", default: "8" },
  },
});
const load = (path) => import(pathToFileURL(resolve(options.dist, path)).href);
const { compilePeak, matmulTactics } = await load("codegen/x64/contraction/index.js");
const { isaOf } = await load("codegen/index.js");
const { BoundKernel, CpuDevice, tune } = await load("tune/index.js");
const { detectCpu } = await load("native/index.js");

const isa = isaOf(detectCpu(options.isa ? { SINTER_CPU: options.isa } : process.env).features);
const TYPES = {
  f32: { a: "float32", b: "float32", c: "float32", peak: "float", bytes: 4, rate: 1 },
  bf16: { a: "bfloat16", b: "bfloat16", c: "bfloat16", peak: "bfloat", bytes: 2, rate: isa.amx ? 16 : 2 },
  u8: { a: "uint8", b: "int8", c: "int32", peak: "bytes", bytes: 1, rate: isa.amx ? 32 : 4 },
  s8: { a: "int8", b: "int8", c: "int32", peak: "bytes", bytes: 1, rate: isa.amx ? 32 : 4 },
};
const shapes = (positionals.length ? positionals : ["512x1024x4096", "126x768x3072", "126x3072x768", "128x768x768", "384x384x1536", "1x768x3072"]).map((text) => text.split("x").map(Number));

function problem([m, k, n], type) {
  const buffer = (name, dtype, dims) => ({ name, dtype, dims });
  const [a, b, c] = [buffer("a", type.a, [m, k]), buffer("b", type.b, [k, n]), buffer("c", type.c, [m, n])];
  // Small numbers in every type: a float32 pattern's bytes are none of a NaN's in any of them.
  const weights = new Uint8Array(k * n * type.bytes).map((_, i) => (type.bytes === 1 ? (i * 37) % 101 : i % type.bytes === type.bytes - 1 ? 0x3c + (i % 3) : (i * 37) % 101));
  const kernel = {
    kind: "matmul", name: "matmul", batch: [], m, n, k, output: c,
    a: { buffer: a, batchStrides: [], rowStride: k, columnStride: 1 },
    b: { buffer: b, batchStrides: [], rowStride: n, columnStride: 1 },
  };
  return { a, kernel, constants: (one) => (one === b ? weights : undefined) };
}

function seconds(bound, repeats) {
  const begin = process.hrtime.bigint();
  for (let i = 0; i < repeats; i++) bound.run();
  return Number(process.hrtime.bigint() - begin) / 1e9 / repeats;
}

const median = (list) => [...list].sort((x, y) => x - y)[list.length >> 1];
const device = new CpuDevice(isa.name, 1);

function measure(shape, type, compiled, a, peak) {
  const bound = new BoundKernel(compiled, new Map());
  bound.memory(a)?.view().fill(0x3c);
  const flops = 2 * shape[0] * shape[1] * shape[2];
  const repeats = Math.max(1, Math.round((5e8 * type.rate) / flops));
  const rounds = [];
  seconds(bound, repeats);
  for (let i = 0; i < Number(options.rounds); i++) {
    const limit = peak.flops / seconds(peak.bound, 3);
    rounds.push({ limit, reached: flops / seconds(bound, repeats) });
  }
  bound.dispose();
  const best = Math.max(...rounds.map((round) => round.limit));
  const kept = rounds.filter((round) => round.limit > 0.9 * best);
  return { gops: median(kept.map((round) => round.reached)) / 1e9, peak: median(kept.map((round) => round.limit)) / 1e9, share: median(kept.map((round) => round.reached / round.limit)), kept: kept.length };
}

console.log(`${device.identity}; G operations/s, the peak in the same rounds, and the share`);
for (const name of options.type.split(",")) {
  const type = TYPES[name];
  const compiled = compilePeak(isa, `${type.peak} tiles`) ?? compilePeak(isa, type.peak);
  if (!compiled) {
    console.log(`${name}: this processor has no instruction for it`);
    continue;
  }
  const peak = { flops: compiled.flops, bound: new BoundKernel(compiled, new Map()) };
  for (const shape of shapes) {
    const { kernel, constants, a } = problem(shape, type);
    const tactics = matmulTactics(kernel, isa, constants, new Map());
    const row = (tactic, code) => {
      const { gops, peak: limit, share, kept } = measure(shape, type, code, a, peak);
      console.log(`${name.padEnd(5)}${shape.join("x").padEnd(16)} ${tactic.padEnd(44)} ${gops.toFixed(1).padStart(7)} ${limit.toFixed(1).padStart(7)} ${(100 * share).toFixed(1).padStart(6)} % (${kept} rounds)`);
    };
    if (options.all || options.tactic) {
      for (const tactic of tactics.filter((one) => !options.tactic || one.name.includes(options.tactic)).slice(0, Number(options.try))) row(tactic.name, tactic.compile());
    } else {
      const tuned = tune(`${name} ${shape.join("x")}`, tactics, new Map(), { device, level: 3, budgetMs: 5000 });
      row(tuned.tactic, tuned.kernel);
    }
  }
  peak.bound.dispose();
}
