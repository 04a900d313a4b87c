/**
 * Changes real models in thousands of ways, byte by byte and message by message, and reads each, infers its types and sends some through the passes:
 * every change must end in a graph or in an error of ours, soon. A program of its own, since what goes wrong here may not
 * end by itself: `node dist/testing/mutate-model.js COUNT SEED FILE…`. Prints counts as JSON.
 *
 * Weights beside the files are zeros that are there in any amount, so that graphs stripped of theirs are as good.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SinterError, UserError } from "../base/index.ts";
import { importModel } from "../onnx/index.ts";
import { inferTypes } from "../ops/index.ts";
import { runPasses } from "../passes/index.ts";
import { evaluateNode } from "../reference/index.ts";
import { assumeProfiles, resolveProfiles } from "../schedule/index.ts";
import { mutateMessage } from "./mutate-message.ts";
import { type Random, randomFrom } from "./random.ts";

export interface ModelMutationCounts {
  /** Refused while it was read, or while its types were inferred. */
  refused: number;
  /** Went through. */
  accepted: number;
  /** Of those, how many went through the passes too; refusals there count as refused. */
  optimized: number;
  /** The longest that one change took. */
  slowestMs: number;
  slowest: string;
}

/** Passes take much longer than reading: one model in so many goes through them. */
const OPTIMIZED = 16;
const MOST_WEIGHT_BYTES = 1 << 28;

/** The ways in which a model is changed; each gets a copy of its own. */
const MUTATIONS: readonly ((bytes: Uint8Array, random: Random) => Uint8Array)[] = [
  (bytes, random) => flip(bytes, random),
  mutateMessage,
  (bytes, random) => bytes.subarray(0, random(bytes.length)),
  mutateMessage,
  (bytes, random) => {
    const [from, to, length] = [random(bytes.length), random(bytes.length), random(64)];
    return bytes.copyWithin(to, from, from + length);
  },
  (bytes, random) => mutateMessage(mutateMessage(bytes, random), random),
];

function flip(bytes: Uint8Array, random: Random): Uint8Array {
  for (let count = 1 + random(4); count > 0; count--) bytes[random(bytes.length)]! ^= 1 << random(8);
  return bytes;
}

class Weights {
  readonly #folder = mkdtempSync(join(tmpdir(), "sinter-mutate-"));
  readonly #zeros = new Uint8Array(MOST_WEIGHT_BYTES);

  /** A path for the model, beside which files of these names exist. */
  pathBeside(locations: readonly string[]): string {
    for (const location of locations) writeFileSync(join(this.#folder, location), "");
    return join(this.#folder, "model.onnx");
  }

  readonly mapFile = (): { size: number; bytes: (offset: number, length: number) => Uint8Array; close: () => void } => ({
    size: Number.MAX_SAFE_INTEGER,
    bytes: (_, length) => {
      if (length > MOST_WEIGHT_BYTES) throw new UserError("external-data", `${length} bytes of weights; ${MOST_WEIGHT_BYTES} are there.`);
      return this.#zeros.subarray(0, length);
    },
    close: () => undefined,
  });

  dispose(): void {
    rmSync(this.#folder, { recursive: true });
  }
}

function take(bytes: Uint8Array, path: string, weights: Weights, optimize: boolean): void {
  const imported = importModel(bytes, { path, mapFile: weights.mapFile });
  try {
    const { graph } = imported;
    assumeProfiles(graph, resolveProfiles(graph, []));
    inferTypes(graph);
    if (optimize) runPasses(graph, { evaluate: evaluateNode });
  } finally {
    imported.close();
  }
}

/** @param files models, changed in turn */
function mutateModels(files: readonly string[], count: number, seed: number): ModelMutationCounts {
  const originals = files.map((file) => readFileSync(file));
  const counts: ModelMutationCounts = { refused: 0, accepted: 0, optimized: 0, slowestMs: 0, slowest: "" };
  const weights = new Weights();
  try {
    const paths = originals.map((bytes) => weights.pathBeside([...new Set(bytes.toString("latin1").match(/[\w.-]+\.weights/g) ?? [])]));
    for (let i = 0; i < count; i++) {
      const at = i % files.length;
      const random = randomFrom(Math.imul(seed + i, 2654435761));
      const changed = MUTATIONS[random(MUTATIONS.length)]!(new Uint8Array(originals[at]!), random);
      const optimize = random(OPTIMIZED) === 0;
      judge(`mutation ${i} of seed ${seed}, of ${files[at]}`, counts, optimize, () => take(changed, paths[at]!, weights, optimize));
    }
  } finally {
    weights.dispose();
  }
  return counts;
}

function judge(which: string, counts: ModelMutationCounts, optimize: boolean, action: () => void): void {
  const started = performance.now();
  try {
    action();
    counts.accepted++;
    if (optimize) counts.optimized++;
  } catch (error) {
    if (!(error instanceof SinterError)) throw new Error(`${which}: ${error instanceof Error ? error.stack : String(error)}`, { cause: error });
    counts.refused++;
  }
  const took = performance.now() - started;
  if (took > counts.slowestMs) Object.assign(counts, { slowestMs: Math.round(took), slowest: which });
}

const [, program, count, seed, ...files] = process.argv;
if (program?.endsWith("mutate-model.js") && files.length > 0) console.log(JSON.stringify(mutateModels(files, Number(count), Number(seed))));
