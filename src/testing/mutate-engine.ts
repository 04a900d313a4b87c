/**
 * Changes an engine file in thousands of ways and loads each: every change must be refused in words, found by the
 * weights' digest, or change nothing. A program of its own, since what goes wrong here ends the process:
 * `node dist/testing/mutate-engine.js FILE COUNT SEED`. Prints counts as JSON.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SinterError, Tensor, UserError } from "../base/index.ts";
import { EngineFile } from "../engine/index.ts";
import { Engine, type Results } from "../runtime/index.ts";

export interface MutationCounts {
  /** Refused at load. */
  refused: number;
  /** Loaded; the weights' digest differs. */
  weights: number;
  /** Loaded, verified, and answered as the original does. */
  unchanged: number;
}

type Random = (below: number) => number;

function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** The ways in which a file is changed; each gets a copy of its own. */
const MUTATIONS: readonly ((bytes: Buffer, random: Random) => Buffer)[] = [
  (bytes, random) => flip(bytes, random, bytes.length),
  (bytes, random) => flip(bytes, random, Math.min(bytes.length, 512)),
  (bytes, random) => bytes.subarray(0, random(bytes.length)),
  (bytes, random) => bytes.fill(random(2) * 255, random(bytes.length), random(bytes.length)),
  (bytes, random) => Buffer.concat([bytes, Buffer.alloc(1 + random(5000), 1)]),
  (bytes, random) => {
    const [from, to, length] = [random(bytes.length), random(bytes.length), random(300)];
    bytes.copyWithin(to, from, from + length);
    return bytes;
  },
];

function flip(bytes: Buffer, random: Random, end: number): Buffer {
  for (let count = 1 + random(3); count > 0; count--) bytes[random(end)]! ^= 1 << random(8);
  return bytes;
}

function answer(path: string): Results {
  using engine = Engine.loadSync(path, { threads: 1 });
  using context = engine.createContext();
  const feeds = engine.inputs.map((input) => {
    const dims = (input.dims ?? []).map((dim) => (typeof dim === "number" ? dim : 2));
    return [input.name, new Tensor("float32", Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => (i % 7) - 3), dims)];
  });
  return context.runSync(Object.fromEntries(feeds));
}

function verified(path: string): boolean {
  const file = EngineFile.open(path);
  try {
    file.verifyWeights();
    return true;
  } catch (error) {
    if (error instanceof UserError && error.code === "engine-damaged") return false;
    throw error;
  } finally {
    file.close();
  }
}

export function mutate(path: string, count: number, seed: number): MutationCounts {
  const original = readFileSync(path);
  const expected = JSON.stringify(answer(path));
  const random = randomFrom(seed);
  const folder = mkdtempSync(join(tmpdir(), "sinter-mutate-"));
  const counts: MutationCounts = { refused: 0, weights: 0, unchanged: 0 };
  try {
    for (let i = 0; i < count; i++) {
      const changed = join(folder, `${i % 2}.engine`);
      writeFileSync(changed, MUTATIONS[i % MUTATIONS.length]!(Buffer.from(original), random));
      counts[judge(changed, expected, `mutation ${i} of seed ${seed}`)]++;
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  return counts;
}

function judge(path: string, expected: string, which: string): keyof MutationCounts {
  let results: string;
  try {
    results = JSON.stringify(answer(path));
  } catch (error) {
    if (error instanceof SinterError && (error.code === "engine-damaged" || error.code === "engine-incompatible")) return "refused";
    throw new Error(`${which}: ${(error as Error).message}`, { cause: error });
  }
  if (!verified(path)) return "weights";
  if (results !== expected) throw new Error(`${which} loads, verifies and answers ${results} instead of ${expected}`);
  return "unchanged";
}

const [, program, path, count, seed] = process.argv;
if (program?.endsWith("mutate-engine.js") && path) console.log(JSON.stringify(mutate(path, Number(count ?? 10_000), Number(seed ?? 1))));
