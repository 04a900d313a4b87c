/** Runs a model as users do: built into an engine file, loaded, run. Says which of its operators ran on the reference. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build, type BuildOptions } from "../compile.ts";
import type { Graph, Value } from "../ir/index.ts";
import type { HostValue } from "../reference/index.ts";
import { Engine, type EngineOptions } from "../runtime/index.ts";

export interface EngineRun {
  readonly outputs: HostValue[];
  /** Names of the operators that ran on the reference. */
  readonly references: readonly string[];
}

/** What to build for and run on, other than this processor. */
export interface Device {
  readonly build?: Partial<BuildOptions>;
  readonly load?: EngineOptions;
}

/** Dimensions that the model leaves open are given the sizes of the feeds. */
export async function runOnEngine(graph: Graph, feeds: ReadonlyMap<Value, HostValue>, model: string | Uint8Array, device: Device = {}): Promise<EngineRun> {
  const folder = mkdtempSync(join(tmpdir(), "sinter-"));
  try {
    const path = join(folder, "model.engine");
    await build(model, { output: path, level: 0, profiles: [profileOf(feeds)], ...device.build });
    using engine = Engine.loadSync(path, { threads: 2, ...device.load });
    using context = engine.createContext();
    const results = context.runSync(Object.fromEntries([...feeds].map(([value, fed]) => [value.name, fed])));
    const references = engine.metadata.steps.flatMap((step) => (step.kind === "reference" ? step.label.operators : []));
    return { outputs: graph.outputs.map((value) => results[value.name]), references };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function profileOf(feeds: ReadonlyMap<Value, HostValue>): Record<string, { min: readonly number[]; opt: readonly number[]; max: readonly number[] }> {
  const profile: Record<string, { min: readonly number[]; opt: readonly number[]; max: readonly number[] }> = {};
  for (const [value, fed] of feeds) {
    if (fed === undefined || "sequence" in fed || value.dims?.length !== fed.dims.length) continue;
    profile[value.name] = { min: fed.dims, opt: fed.dims, max: fed.dims };
  }
  return profile;
}
