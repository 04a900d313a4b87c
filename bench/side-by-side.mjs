// What the benchmarks measure with: the processor's name, its multiply-add peak, and two sides in turns.
import { isaOf } from "../dist/codegen/index.js";
import { compilePeak } from "../dist/codegen/x64/contraction/index.js";
import { allocateExecutable, detectCpu } from "../dist/native/index.js";
import { Program } from "../dist/program/index.js";

/** A round whose peak is under this share of the best round's was disturbed. */
const DISTURBED = 0.9;
/** Before each side's turn: onnxruntime's threads keep a core busy for a while after a run. */
const REST_MS = 150;
const BLOCK_MS = 200;
const PEAK_TILES = 64;

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export function quantile(list, q) {
  return [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(list.length * q))];
}

export const median = (list) => quantile(list, 0.5);
export const geometricMean = (list) => Math.exp(list.reduce((sum, value) => sum + Math.log(value), 0) / list.length);

/** Words and `--name=value` flags of the command line. */
export function parseArguments() {
  const given = process.argv.slice(2);
  return {
    flags: Object.fromEntries(given.filter((arg) => arg.startsWith("--")).map((arg) => arg.slice(2).split("="))),
    words: given.filter((arg) => !arg.startsWith("--")),
  };
}

const cpu = detectCpu(process.env);
/** Vendor, family and model: what recorded ratios belong to. */
export const processor = `${cpu.vendor}-${cpu.family}-${cpu.model}`;
export const machine = `${cpu.brand} (${processor}), ${isaOf(cpu.features).name}`;

/** Measures the multiply-add peak on so many threads: a few hundred microseconds a sample. */
export class PeakMeter {
  constructor(threads) {
    const kernel = compilePeak(isaOf(cpu.features), "float");
    this.threads = threads;
    this.flops = (kernel.flops / kernel.tiles) * PEAK_TILES * threads;
    this.code = allocateExecutable(kernel.code);
    this.program = new Program([{ code: this.code.address, params: 0, tiles: PEAK_TILES * threads, scratchBytes: kernel.scratchBytes }]);
  }

  /** @returns GFLOP/s, the better of two */
  sample() {
    let best = Number.POSITIVE_INFINITY;
    for (let i = 0; i < 2; i++) {
      const before = process.hrtime.bigint();
      this.program.runSync({ threads: this.threads });
      best = Math.min(best, Number(process.hrtime.bigint() - before));
    }
    return this.flops / best;
  }

  dispose() {
    this.program.dispose();
    this.code.dispose();
  }
}

/** Milliseconds of one run. */
export function timed(run) {
  return async () => {
    const before = process.hrtime.bigint();
    await run();
    return Number(process.hrtime.bigint() - before) / 1e6;
  };
}

/**
 * Blocks of runs in turn, each side after a rest and a run that does not count, each round after a sample of the peak;
 * disturbed rounds are dropped.
 * @param sides functions that run once and return milliseconds
 * @returns per side its median, quartiles and samples; the median peak; how many rounds were kept of how many
 */
export async function inTurns(sides, { seconds, meter, leastRounds = 3 }) {
  const first = await sides[0]();
  const block = Math.max(1, Math.min(200, Math.round(BLOCK_MS / Math.max(0.001, Math.min(first, await sides[0]())))));
  const rounds = [];
  const started = performance.now();
  while (performance.now() - started < seconds * 1000 || rounds.length < leastRounds) {
    const samples = [];
    const peak = meter.sample();
    for (const run of sides) {
      await sleep(REST_MS);
      await run();
      const own = [];
      for (let n = 0; n < block; n++) own.push(await run());
      samples.push(own);
    }
    rounds.push({ peak: Math.min(peak, meter.sample()), samples });
  }
  const best = Math.max(...rounds.map(({ peak }) => peak));
  const kept = rounds.filter(({ peak }) => peak >= DISTURBED * best);
  return {
    sides: sides.map((_, i) => {
      const all = kept.flatMap(({ samples }) => samples[i]);
      return { samples: all, median: median(all), spread: (quantile(all, 0.75) - quantile(all, 0.25)) / median(all) };
    }),
    peak: median(kept.map(({ peak }) => peak)), kept: kept.length, rounds: rounds.length,
  };
}

/** Floating-point operations of a run, as the engine's kernels count them. */
export function flopsOf(context, feeds) {
  return context.profile(feeds).reduce((sum, { flops }) => sum + flops, 0);
}
