/**
 * How far the layers of an engine have saturated, over all runs since it was loaded. The engine computes it beside its
 * results, as an output that callers do not see; all contexts of the engine add to one sum.
 */
import { assert, Tensor } from "../base/index.ts";
import type { Manifest } from "../engine/index.ts";
import type { Results } from "./execution.ts";

export interface LayerSaturation {
  readonly layer: string;
  /** Mean over the runs of the share of the layer's input that lay at an end of its range, among the bytes looked at. */
  readonly share: number;
}

export interface Saturation {
  readonly runs: number;
  readonly layers: readonly LayerSaturation[];
}

export class SaturationCounter {
  readonly output: string;
  readonly #layers: readonly string[];
  readonly #sums: Float64Array;
  #runs = 0;

  constructor({ output, layers }: NonNullable<Manifest["saturation"]>) {
    this.output = output;
    this.#layers = layers;
    this.#sums = new Float64Array(layers.length);
  }

  /** Takes the run's own output out of its results. */
  take(results: Results): Results {
    const { [this.output]: shares, ...others } = results;
    assert(shares instanceof Tensor && shares.data instanceof Float32Array, `output "${this.output}" is float32`);
    this.#add(shares.data);
    return others;
  }

  #add(shares: Float32Array): void {
    for (let i = 0; i < this.#sums.length; i++) this.#sums[i]! += shares[i]!;
    this.#runs++;
  }

  get total(): Saturation {
    const runs = this.#runs;
    return { runs, layers: this.#layers.map((layer, i) => ({ layer, share: runs === 0 ? 0 : this.#sums[i]! / runs })) };
  }
}
