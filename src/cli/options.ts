/** Option values that several commands share, and their error texts. */
import { type Command, Option } from "commander";
import { UserError } from "../base/index.ts";
import type { BuildOptions } from "../compile.ts";
import type { Profile } from "../schedule/index.ts";
import type { TuneLevel } from "../tune/index.ts";

/** `input:1x128,mask:1x128` → shapes by input name; `input:` alone is a scalar. @throws UserError "option-invalid" */
export function parseShapes(text: string): Record<string, number[]> {
  const shapes: Record<string, number[]> = {};
  for (const item of text.split(",")) {
    const colon = item.lastIndexOf(":");
    const sizes = item.slice(colon + 1);
    if (colon <= 0 || !/^(\d+(x\d+)*)?$/.test(sizes)) {
      throw new UserError("option-invalid", `Shapes "${text}": "${item}" is not NAME:DIMxDIM; write for example input_ids:1x128,mask:1x128.`);
    }
    shapes[item.slice(0, colon)] = sizes === "" ? [] : sizes.split("x").map(Number);
  }
  return shapes;
}

export interface ShapeOptions {
  readonly minShapes?: string;
  readonly optShapes?: string;
  readonly maxShapes?: string;
  readonly shapes?: string;
}

export function profileOptions(command: Command): Command {
  return command
    .option("--shapes <list>", "fixed shapes of inputs, e.g. input_ids:1x128,mask:1x128")
    .option("--min-shapes <list>", "smallest shapes the engine must serve")
    .option("--opt-shapes <list>", "shapes it is tuned for")
    .option("--max-shapes <list>", "largest shapes it must serve");
}

/** One profile from --min-shapes, --opt-shapes, --max-shapes (or --shapes for all three); what is left out follows the others. */
export function parseProfile(options: ShapeOptions): Profile[] {
  const same = parseOptional(options.shapes);
  const min = { ...same, ...parseOptional(options.minShapes) };
  const opt = { ...same, ...parseOptional(options.optShapes) };
  const max = { ...same, ...parseOptional(options.maxShapes) };
  const names = new Set([...Object.keys(min), ...Object.keys(opt), ...Object.keys(max)]);
  if (names.size === 0) return [];
  const profile: Record<string, Profile[string]> = {};
  for (const name of names) {
    const any = opt[name] ?? max[name] ?? min[name]!;
    profile[name] = { min: min[name] ?? any, opt: any, max: max[name] ?? any };
  }
  return [profile];
}

export function parseOptional(text: string | undefined): Record<string, number[]> {
  return text === undefined ? {} : parseShapes(text);
}

export function levelOption(): Option {
  return new Option("--level <n>", "how hard to tune: 0 measures nothing, 5 tries everything").choices(["0", "1", "2", "3", "4", "5"]).default("3");
}

/** What an engine is built for. */
export interface TargetChoice {
  readonly target: string;
}

export function targetOption(): Option {
  return new Option("--target <name>", "x64 (this processor), cuda (this machine's NVIDIA GPU), or cuda:sm_90 and the like (a GPU elsewhere, at level 0)").default("x64");
}

/** Of commands that run what they build. */
export function hereOption(): Option {
  return new Option("--target <name>", "what a model is built for: x64 (this processor, the default) or cuda (this machine's NVIDIA GPU)");
}

/** A GPU elsewhere cannot be measured: level 0 then, whatever the default. */
export function targetOf({ target, level }: TargetChoice & { readonly level: string }): { readonly target: string; readonly level: TuneLevel } {
  return { target, level: target.startsWith("cuda:") ? 0 : (Number(level) as TuneLevel) };
}

export function fastConvolutionOption(): Option {
  return new Option("--fast-convolution", "offer Winograd convolutions: less work, weights up to one and a half times larger");
}

export interface BuildTuning {
  readonly level: string;
  readonly threads?: number;
  readonly workspace?: number;
  readonly timingCache?: string;
  readonly fastConvolution?: boolean;
}

export function tuningOf(options: BuildTuning): Pick<BuildOptions, "level" | "threads" | "workspaceBytes" | "timingCache" | "fastConvolution"> {
  return {
    level: Number(options.level) as TuneLevel,
    ...(options.threads === undefined ? {} : { threads: options.threads }),
    ...(options.workspace === undefined ? {} : { workspaceBytes: options.workspace }),
    ...(options.timingCache === undefined ? {} : { timingCache: options.timingCache }),
    ...(options.fastConvolution ? { fastConvolution: true } : {}),
  };
}

export function parseCount(name: string, least = 1): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!Number.isSafeInteger(value) || value < least) throw new UserError("option-invalid", `--${name} is "${text}"; expected a whole number from ${least}.`);
    return value;
  };
}

export function parseSeconds(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value < 1e6)) throw new UserError("option-invalid", `--duration is "${text}"; expected seconds above 0.`);
  return value;
}

export function parsePositive(name: string): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!(value > 0 && Number.isFinite(value))) throw new UserError("option-invalid", `--${name} is "${text}"; expected a number above 0.`);
    return value;
  };
}

/** Bytes, with an optional K, M or G. */
export function parseBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([KMG]?)$/i.exec(text);
  if (!match) throw new UserError("option-invalid", `"${text}" is not a size; write for example 64M.`);
  return Math.round(Number(match[1]) * { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 }[match[2]!.toUpperCase() as "" | "K" | "M" | "G"]);
}

export function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}
