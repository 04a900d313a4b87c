/** Option values that several commands share, and their error texts. */
import { UserError } from "../base/index.ts";
import type { Profile } from "../schedule/index.ts";

/** `input:1x128,mask:1x128` → shapes by input name. @throws UserError "option-invalid" */
export function parseShapes(text: string): Record<string, number[]> {
  const shapes: Record<string, number[]> = {};
  for (const item of text.split(",")) {
    const colon = item.lastIndexOf(":");
    const dims = item.slice(colon + 1).split("x").map(Number);
    if (colon <= 0 || !dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0)) {
      throw new UserError("option-invalid", `Shapes "${text}": "${item}" is not NAME:DIMxDIM; write for example input_ids:1x128,mask:1x128.`);
    }
    shapes[item.slice(0, colon)] = dims;
  }
  return shapes;
}

export interface ShapeOptions {
  readonly minShapes?: string;
  readonly optShapes?: string;
  readonly maxShapes?: string;
  readonly shapes?: string;
}

/** One profile from --min-shapes, --opt-shapes, --max-shapes (or --shapes for all three); what is left out follows the others. */
export function parseProfile(options: ShapeOptions): Profile[] {
  const same = options.shapes === undefined ? {} : parseShapes(options.shapes);
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

function parseOptional(text: string | undefined): Record<string, number[]> {
  return text === undefined ? {} : parseShapes(text);
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
  if (!(value > 0)) throw new UserError("option-invalid", `--duration is "${text}"; expected seconds above 0.`);
  return value;
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
