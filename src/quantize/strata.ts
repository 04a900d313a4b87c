/**
 * Which kinds of sample a calibration has seen. Ranges are kept per stratum (night and day, head and tail queries), so
 * that a set that lacks one, or strata that need other ranges than the rest, are seen before they cost accuracy.
 */
import { Histogram, type Seen } from "./histogram.ts";

/** Most strata that ranges are kept for; further ones are only counted. */
const MAX_STRATA = 32;
/** Strata disagree on a layer when one needs this many times the range of another. */
const DISAGREEMENT = 1.5;
/** A stratum's range leaves out this share of its values at either end. */
const TAIL = 5e-4;

export interface StrataReport {
  readonly column: string;
  /** Samples of each stratum in the data, and how many of them were used. */
  readonly coverage: Readonly<Record<string, { readonly inData: number; readonly used: number }>>;
  /** Strata of the data that were not used at all. */
  readonly missing: readonly string[];
  /** Layers on which strata need other ranges, worst first. */
  readonly disagreements: readonly { readonly layer: string; readonly ratio: number; readonly narrowest: string; readonly widest: string }[];
}

/** A bounded histogram is coarse enough to keep one per stratum and layer. */
export class StrataRanges {
  private readonly histograms = new Map<string, Map<string, Histogram>>();
  private readonly used = new Map<string, number>();

  count(stratum: string): void {
    this.used.set(stratum, (this.used.get(stratum) ?? 0) + 1);
  }

  add(stratum: string, layer: string, seen: Seen): void {
    let own = this.histograms.get(stratum);
    if (!own && this.histograms.size >= MAX_STRATA) return;
    if (!own) this.histograms.set(stratum, (own = new Map()));
    let histogram = own.get(layer);
    if (!histogram) own.set(layer, (histogram = new Histogram()));
    histogram.add(seen);
  }

  report(column: string, inData: ReadonlyMap<string, number>): StrataReport {
    const names = new Set([...inData.keys(), ...this.used.keys()]);
    const coverage = Object.fromEntries([...names].map((name) => [name, { inData: inData.get(name) ?? 0, used: this.used.get(name) ?? 0 }]));
    const layers = new Set([...this.histograms.values()].flatMap((own) => [...own.keys()]));
    const disagreements = [...layers].map((layer) => this.disagreement(layer)).filter(({ ratio }) => ratio >= DISAGREEMENT).sort((a, b) => b.ratio - a.ratio);
    return { column, coverage, missing: [...names].filter((name) => coverage[name]!.used === 0), disagreements };
  }

  private disagreement(layer: string): StrataReport["disagreements"][number] {
    const spans = [...this.histograms].flatMap(([stratum, own]) => {
      const histogram = own.get(layer);
      return histogram && histogram.range > 0 ? [{ stratum, span: Math.max(0, histogram.quantile(1 - TAIL)) - Math.min(0, histogram.quantile(TAIL)) }] : [];
    }).sort((a, b) => a.span - b.span);
    const [narrow, wide] = [spans[0], spans.at(-1)];
    return { layer, ratio: narrow && wide && narrow.span > 0 ? wide.span / narrow.span : 1, narrowest: narrow?.stratum ?? "", widest: wide?.stratum ?? "" };
  }
}
