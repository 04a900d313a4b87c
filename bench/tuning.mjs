/**
 * How good are the tuner's choices? On 20 shapes of products and convolutions: the choice at level 3 against the
 * best of every candidate, and against level 0, which measures nothing.
 *
 * Candidates are timed by the processor time they take, the smallest of several samples; the best few and both choices
 * are then timed again in turns. Usage: node bench/tuning.mjs [--dist dist] [--isa avx2] [WORD…]
 */
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { pathToFileURL } from "node:url";

const { values: options, positionals: words } = parseArgs({ allowPositionals: true, options: { dist: { type: "string", default: "dist" }, isa: { type: "string", default: "avx512" } } });
const load = (path) => import(pathToFileURL(resolve(options.dist, path)).href);
const { convTactics, matmulTactics } = await load("codegen/x64/contraction/index.js");
const { BoundKernel, CpuDevice, tune } = await load("tune/index.js");

const isa = { name: options.isa, vectorBytes: options.isa === "avx2" ? 32 : 64, vnni: false, bf16: false, amx: false };
const FINALISTS = 5;
const ROUNDS = 9;

const buffer = (name, dims) => ({ name, dtype: "float32", dims });
const weightsOf = (size) => new Uint8Array(Float32Array.from({ length: size }, (_, i) => ((i * 37) % 101) / 101 - 0.5).buffer);

function matmul(m, k, n) {
  const [a, b, output] = [buffer("a", [m, k]), buffer("b", [k, n]), buffer("c", [m, n])];
  const bytes = weightsOf(k * n);
  const kernel = { kind: "matmul", name: "matmul", batch: [], m, n, k, output, a: { buffer: a, batchStrides: [], rowStride: k, columnStride: 1 }, b: { buffer: b, batchStrides: [], rowStride: n, columnStride: 1 } };
  return { name: `matmul ${m}x${k}x${n}`, tactics: () => matmulTactics(kernel, isa, (one) => (one === b ? bytes : undefined), new Map()) };
}

function conv(size, inChannels, outChannels, window, stride = 1) {
  const out = Math.ceil(size / stride);
  const pad = (window - 1) >> 1;
  const [input, weights, output] = [buffer("x", [1, size, size, inChannels]), buffer("w", [outChannels, inChannels, window, window]), buffer("y", [1, out, out, outChannels])];
  const bytes = weightsOf(outChannels * inChannels * window * window);
  const kernel = { kind: "conv", name: "conv", input, weights, output, groups: 1, kernel: [window, window], strides: [stride, stride], dilations: [1, 1], pads: [pad, pad] };
  return { name: `conv ${size} ${inChannels}->${outChannels} ${window}x${window}/${stride}`, tactics: () => convTactics(kernel, isa, (one) => (one === weights ? bytes : undefined), new Map()) };
}

const PROBLEMS = [
  matmul(128, 768, 768), matmul(128, 768, 3072), matmul(128, 3072, 768), matmul(128, 512, 2048), matmul(63, 1024, 1024),
  matmul(16, 768, 3072), matmul(7, 768, 768), matmul(1, 768, 3072), matmul(300, 384, 1536), matmul(64, 64, 64), matmul(1, 2048, 1000), matmul(32, 1280, 1000),
  conv(56, 64, 64, 3), conv(28, 128, 128, 3), conv(14, 256, 256, 3), conv(7, 512, 512, 3), conv(56, 64, 256, 1), conv(28, 512, 128, 1), conv(14, 1024, 512, 1, 2), conv(112, 16, 24, 1),
];

const processorUs = () => {
  const { user, system } = process.cpuUsage();
  return user + system;
};

/** Binds a tactic's kernel; `sample` gives microseconds per run. */
function bind(tactic) {
  const bound = new BoundKernel(tactic.compile(), new Map());
  for (const one of bound.buffers) {
    const bytes = bound.memory(one).view();
    new Float32Array(bytes.buffer, 0, bytes.byteLength >> 2).fill(0.25);
  }
  let repeats = 1;
  const time = () => {
    const begin = processorUs();
    for (let i = 0; i < repeats; i++) bound.run();
    return (processorUs() - begin) / repeats;
  };
  while (time() * repeats < 1500) repeats = Math.ceil(repeats * 1.7);
  return { name: tactic.name, sample: time, dispose: () => bound.dispose(), us: Number.POSITIVE_INFINITY };
}

function leastOf(candidates, rounds) {
  for (let round = 0; round < rounds; round++) for (const one of candidates) one.us = Math.min(one.us, one.sample());
}

const device = new CpuDevice(isa.name, 1);
const rows = [];
for (const problem of PROBLEMS.filter(({ name }) => words.every((word) => name.includes(word)))) {
  const tactics = problem.tactics();
  const choice = (level) => tune(problem.name, tactics, new Map(), { device, level }).tactic;
  const begun = performance.now();
  const [chosen, guessed] = [choice(3), choice(0)];
  const tuningMs = performance.now() - begun;
  const all = tactics.map((tactic) => {
    const bound = bind(tactic);
    leastOf([bound], 3);
    bound.dispose();
    return { tactic, us: bound.us };
  }).sort((a, b) => a.us - b.us);
  const named = (name) => all.find(({ tactic }) => tactic.name === name);
  const finalists = [...new Set([...all.slice(0, FINALISTS), named(chosen), named(guessed)])].map(({ tactic }) => bind(tactic));
  leastOf(finalists, ROUNDS);
  const best = finalists.reduce((a, b) => (a.us <= b.us ? a : b));
  const us = (name) => finalists.find((one) => one.name === name).us;
  for (const one of finalists) one.dispose();
  const row = { behind: us(chosen) / best.us, gain: us(guessed) / us(chosen) };
  rows.push(row);
  console.log(`${problem.name.padEnd(26)} ${String(tactics.length).padStart(3)} candidates  best ${best.us.toFixed(1).padStart(8)} us ${best.name.padEnd(36)} level 3 ${(100 * (row.behind - 1)).toFixed(1).padStart(5)} % behind, ${chosen.padEnd(36)} level 0 ${(100 * (us(guessed) / best.us - 1)).toFixed(1).padStart(5)} % behind, ${guessed} (${tuningMs.toFixed(0)} ms)`);
}
const mean = (list) => Math.exp(list.reduce((sum, value) => sum + Math.log(value), 0) / list.length);
const within = rows.filter(({ behind }) => behind <= 1.03).length;
console.log(`level 3 within 3 % of the exhaustive search on ${within} of ${rows.length} shapes, ${(100 * (mean(rows.map(({ behind }) => behind)) - 1)).toFixed(1)} % behind on average; ${(100 * (mean(rows.map(({ gain }) => gain)) - 1)).toFixed(1)} % faster than level 0 on average`);
