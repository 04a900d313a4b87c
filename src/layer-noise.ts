/**
 * Accuracy by layer on one page: the model built twice, in float and by a plan, with what every layer writes as further
 * outputs; both run on the same samples.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, Tensor } from "./base/index.ts";
import { type BuildOptions, buildQuantized } from "./compile.ts";
import type { Layer, QuantizationPlan } from "./passes/index.ts";
import { cosine, type LayerNoise, NoiseMeter } from "./quantize/index.ts";
import { Engine, type Feeds } from "./runtime/index.ts";

/** In the order of the network. @param samples feeds, one at a time */
export async function measureNoise(model: string | Uint8Array, plan: QuantizationPlan, samples: Iterable<Feeds> | AsyncIterable<Feeds>, options: Pick<BuildOptions, "profiles" | "threads"> = {}): Promise<LayerNoise[]> {
  const folder = mkdtempSync(join(tmpdir(), "sinter-noise-"));
  try {
    let layers: readonly { readonly name: string; readonly value: string }[] = [];
    const observe = (found: readonly Layer[]): NonNullable<Layer["node"]["outputs"][number]>[] => {
      layers = found.map(({ name, node }) => ({ name, value: node.outputs[0]!.name }));
      return found.map(({ node }) => node.outputs[0]!);
    };
    const [float, reduced] = [join(folder, "float.engine"), join(folder, "reduced.engine")];
    await buildQuantized(model, { ...options, output: float, level: 0 }, { plan: () => ({ layers: {} }), observe });
    await buildQuantized(model, { ...options, output: reduced, level: 0 }, { plan: () => plan, observe });
    const threads = options.threads === undefined ? {} : { threads: options.threads };
    using reference = await Engine.load(float, threads);
    using engine = await Engine.load(reduced, threads);
    const meters = layers.map(() => ({ noise: new NoiseMeter(), cosine: 0, largest: 0 }));
    let count = 0;
    for await (const feeds of samples) {
      const [expected, actual] = [await reference.run(feeds), await engine.run(feeds)];
      layers.forEach(({ value }, i) => {
        const [own, exact] = [actual[value], expected[value]];
        assert(own instanceof Tensor && exact instanceof Tensor, `layer value "${value}" is an output`);
        meters[i]!.noise.add(own, exact);
        meters[i]!.cosine += cosine(own, exact);
        meters[i]!.largest = Math.max(meters[i]!.largest, largestError(own.data as Float32Array, exact.data as Float32Array));
      });
      count++;
    }
    return layers.map(({ name }, i): LayerNoise => {
      const { noise, cosine: sum, largest } = meters[i]!;
      return { layer: name, precision: plan.layers[name]?.precision ?? "fp32", decibels: Number.isFinite(noise.decibels) ? noise.decibels : null, cosine: sum / count, largestError: largest };
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function largestError(actual: Float32Array, expected: Float32Array): number {
  let [difference, largest] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    difference = Math.max(difference, Math.abs(actual[i]! - expected[i]!));
    largest = Math.max(largest, Math.abs(expected[i]!));
  }
  return difference === 0 ? 0 : difference / largest;
}
