/**
 * From the dims of the inputs to the dimension symbols, which decide every size of the program, and to the profile that
 * admits them.
 */
import { UserError } from "../base/index.ts";
import type { DimTable, Manifest, ManifestProfile, ManifestValue } from "../engine/index.ts";
import { type Bindings, type Dim, evaluate, symbolsOf } from "../ir/index.ts";

/** Solves input dims for symbols, in an order such that each expression has at most one unknown of its own. */
export class ShapeBinder {
  private readonly table: DimTable;
  private readonly inputs: readonly ManifestValue[];
  private readonly dims: readonly (readonly Dim[] | undefined)[];

  constructor(manifest: Manifest, table: DimTable) {
    this.table = table;
    this.inputs = manifest.inputs;
    this.dims = manifest.inputs.map((input) => input.shape?.map((index) => table.dim(index)));
  }

  /** @throws UserError "input-invalid" naming input and axis */
  bind(shapes: readonly (readonly number[])[]): Map<string, number> {
    const bindings = new Map<string, number>();
    for (const [i, input] of this.inputs.entries()) {
      const expected = this.dims[i];
      const actual = shapes[i]!;
      if (!expected) continue;
      if (expected.length !== actual.length) throw this.mismatch(input, actual, `rank ${actual.length}; expected ${expected.length}`);
      for (const [axis, dim] of expected.entries()) this.bindDim(input, actual, axis, dim, bindings);
    }
    return bindings;
  }

  private bindDim(input: ManifestValue, actual: readonly number[], axis: number, dim: Dim, bindings: Map<string, number>): void {
    const size = actual[axis]!;
    if (typeof dim !== "number" && isSymbol(dim) && !bindings.has(dim.key)) {
      bindings.set(dim.key, size);
      return;
    }
    const wanted = typeof dim === "number" ? dim : [...symbolsOf(dim)].every((name) => bindings.has(name)) ? evaluate(dim, bindings) : size;
    if (wanted !== size) throw this.mismatch(input, actual, `${size} at axis ${axis}; expected ${wanted}${typeof dim === "number" ? "" : ` (${dim})`}`);
  }

  private mismatch(input: ManifestValue, actual: readonly number[], what: string): UserError {
    return new UserError("input-invalid", `Input "${input.name}": shape [${actual}] has ${what}. The model takes ${describe(input, this.table)}.`);
  }
}

function isSymbol(dim: Exclude<Dim, number>): boolean {
  const names = symbolsOf(dim);
  return names.size === 1 && names.has(dim.key);
}

export function describe(value: ManifestValue, table: DimTable): string {
  return `${value.dtype}${value.shape ? `[${value.shape.map((index) => table.text(index)).join(", ")}]` : ""}`;
}

/** The first profile that admits the bindings. @throws UserError "shape-outside-profile" */
export function chooseProfile(profiles: readonly ManifestProfile[], bindings: Bindings): number {
  let reason = "";
  for (const [i, profile] of profiles.entries()) {
    const outside = [...bindings].find(([name, size]) => {
      const range = profile.symbols[name];
      return range && (size < range.min || size > range.max);
    });
    if (!outside) return i;
    const range = profile.symbols[outside[0]]!;
    reason ||= `dimension "${outside[0]}" is ${outside[1]}; the profile allows ${range.min} to ${range.max}`;
  }
  throw new UserError("shape-outside-profile", `Input shape outside the engine's ${profiles.length > 1 ? `${profiles.length} profiles` : "profile"}: ${reason}. Build the engine with a wider profile (--min-shapes, --max-shapes).`);
}
