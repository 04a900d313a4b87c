/**
 * The calibration cache: a JSON file that says for each layer which values enter it, and the range that each calibrator
 * takes from them. It belongs to one model, by digest, and can be read by people and by later builds with another
 * calibrator or scheme.
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { fileError, UserError } from "../base/index.ts";
import type { ActivationPlan, LayerPlan, QuantizationPlan } from "../passes/index.ts";
import { activationPlan, type Calibrator, CALIBRATORS, type Clip, clipOf, type Scheme, SCHEMES } from "./calibrators.ts";
import type { ChannelRanges } from "./channels.ts";
import type { Histogram } from "./histogram.ts";
import type { StrataReport } from "./strata.ts";

export const CACHE_FORMAT = 1;

/** Bins of the histogram that is kept for pictures. */
const KEPT_BINS = 64;

export interface LayerRange {
  readonly kind: "Conv" | "MatMul";
  readonly count: number;
  readonly min: number;
  readonly max: number;
  readonly clips: Readonly<Record<Scheme, Readonly<Record<Calibrator, Clip>>>>;
  /** Each output channel of a depthwise convolution reads one channel of the input. */
  readonly depthwise: boolean;
  readonly channels: ChannelRanges;
  /** Counts between min and max, zeros left out. */
  readonly histogram: readonly number[];
}

export interface CalibrationCache {
  readonly format: number;
  readonly version: string;
  readonly model: { readonly name: string; readonly digest: string };
  readonly data: { readonly name: string; readonly samples: number; readonly digest: string };
  readonly layers: Readonly<Record<string, LayerRange>>;
  readonly strata?: StrataReport;
  readonly warnings: readonly string[];
}

export function rangeOf({ kind, depthwise }: Pick<LayerRange, "kind" | "depthwise">, histogram: Histogram, channels: ChannelRanges): LayerRange {
  const clips = Object.fromEntries(SCHEMES.map((scheme) => [scheme, Object.fromEntries(CALIBRATORS.map((calibrator) => [calibrator, clipOf(histogram, calibrator, scheme)]))]));
  return { kind, depthwise, count: histogram.count, min: histogram.min, max: histogram.max, clips: clips as unknown as LayerRange["clips"], channels, histogram: histogram.coarse(KEPT_BINS) };
}

export function writeCache(path: string, cache: CalibrationCache): void {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    // Lists of numbers stay on one line: people read this file.
    writeFileSync(temporary, `${JSON.stringify(cache, null, 1).replace(/\[\s+([-\d.,e+\s]+?)\s+\]/g, (_, items: string) => `[${items.replace(/\s+/g, " ")}]`)}\n`);
    renameSync(temporary, path);
  } catch (cause) {
    throw fileError(path, cause);
  }
}

/** @throws UserError "file-io" when it is no calibration cache, "calibration-stale" when it is another model's */
export function readCache(path: string, modelDigest: string): CalibrationCache {
  let cache: CalibrationCache;
  try {
    cache = JSON.parse(readFileSync(path, "utf8")) as CalibrationCache;
  } catch (cause) {
    throw new UserError("file-io", `${path}: ${(cause as Error).message}; expected a file that "sinter calibrate" has written.`, { cause });
  }
  checkForm(cache, path);
  if (cache.model.digest !== modelDigest) throw new UserError("calibration-stale", `${path} was calibrated for the model with digest sha256:${cache.model.digest}; this one has sha256:${modelDigest}. Calibrate again: sinter calibrate MODEL.onnx --data DATA -o ${path}`);
  return cache;
}

function checkForm(cache: CalibrationCache, path: string): void {
  const refuse = (what: string): UserError => new UserError("file-io", `${path}: ${what}; expected a file that "sinter calibrate" has written.`);
  if (typeof cache !== "object" || cache === null || typeof cache.model?.digest !== "string" || typeof cache.layers !== "object") throw refuse("no calibration cache");
  if (cache.format !== CACHE_FORMAT) throw refuse(`format ${cache.format}, this Sinter reads format ${CACHE_FORMAT}`);
  for (const [name, { clips, channels }] of Object.entries(cache.layers)) {
    const isRange = (clip: Clip | undefined): boolean => Array.isArray(clip) && clip.length === 2 && clip.every(Number.isFinite) && clip[0]! <= 0 && clip[1]! >= 0;
    if (!SCHEMES.every((scheme) => CALIBRATORS.every((calibrator) => isRange(clips?.[scheme]?.[calibrator])))) throw refuse(`layer "${name}" lacks a range, or has one without zero in it`);
    if (![channels?.least, channels?.largest, channels?.means].every((list) => Array.isArray(list) && list.every(Number.isFinite))) throw refuse(`layer "${name}" lacks its channels`);
  }
}

export interface PlanOptions {
  readonly calibrator: Calibrator;
  readonly scheme: Scheme;
  /** Layers to keep in float: names, or patterns with * in them. */
  readonly keep?: readonly string[];
  /** Layers that search found to hurt. */
  readonly hurting?: ReadonlySet<string>;
}

/** What to do with each layer that the cache knows. */
export function planFromCache(cache: CalibrationCache, layers: readonly string[], { calibrator, scheme, keep = [], hurting }: PlanOptions): QuantizationPlan {
  const missing = layers.filter((name) => !cache.layers[name]);
  if (missing.length > 0) throw new UserError("calibration-stale", `The calibration knows ${Object.keys(cache.layers).length} layers, but not ${missing.slice(0, 5).map((name) => `"${name}"`).join(", ")}${missing.length > 5 ? ` and ${missing.length - 5} more` : ""}. Calibrate again with this Sinter.`);
  const isKept = matcher(keep, layers);
  return {
    layers: Object.fromEntries(layers.map((name): [string, LayerPlan] => {
      const { clips, channels, depthwise } = cache.layers[name]!;
      const clip = clips[scheme][calibrator];
      if (isKept(name)) return [name, { precision: "fp32", reason: "kept by name" }];
      if (hurting?.has(name)) return [name, { precision: "fp32", reason: "hurts accuracy" }];
      if (clip[0] === 0 && clip[1] === 0) return [name, { precision: "fp32", reason: "only zeros were seen" }];
      const input = (depthwise && perChannel(clip, channels)) || activationPlan(clip, scheme);
      return [name, { precision: "int8", input, inputMeans: channels.means }];
    })),
  };
}

/** A scale per channel, no wider than the whole tensor's clip. */
function perChannel([low, high]: Clip, { least, largest }: ChannelRanges): ActivationPlan {
  const isUnsigned = low === 0 && least.every((value) => value >= 0);
  const spans = largest.map((value, i) => (isUnsigned ? Math.min(value, high) : Math.max(Math.min(value, high), -Math.max(least[i]!, low))));
  const whole = Math.max(...spans);
  // A channel that hardly ever fires gets room for when it does.
  const scales = spans.map((span) => Math.fround(Math.max(span, whole / LEAST_SHARE) / (isUnsigned ? 255 : 127)));
  return { type: isUnsigned ? "uint8" : "int8", scale: Math.max(...scales), zeroPoint: 0, scales };
}

/** No channel's range is smaller than the widest divided by this. */
const LEAST_SHARE = 64;

/** Whether a name is one of the patterns. @throws UserError for a pattern that fits no layer: it is a mistake */
export function matcher(patterns: readonly string[], layers: readonly string[]): (name: string) => boolean {
  const tests = patterns.map((pattern) => {
    const expression = new RegExp(`^${pattern.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join(".*")}$`);
    if (!layers.some((name) => expression.test(name))) throw new UserError("option-invalid", `"${pattern}" fits no layer that can be quantized; they are ${layers.slice(0, 8).join(", ")}${layers.length > 8 ? `, … (${layers.length})` : ""}.`);
    return expression;
  });
  return (name) => tests.some((expression) => expression.test(name));
}
