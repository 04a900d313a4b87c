/**
 * Whether every index and offset of a manifest lies within what it points into. A digest says that the bytes are those
 * that were written, not that they were right; after this check an index needs no further one.
 */
import type { DimIndex } from "./dim-table.ts";
import type { Manifest, ManifestCode, ManifestLaunch, ManifestParam, ManifestTensorMap, ManifestStep, ManifestValue } from "./manifest.ts";

const OPERATORS: ReadonlySet<unknown> = new Set(["add", "mul", "floorDiv", "mod", "min", "max"]);
const PLACES: ReadonlySet<unknown> = new Set(["arena", "weights", "input", "output"]);

/** @returns what is wrong first, or undefined */
export function findOutOfRange(manifest: Manifest, codeBytes: number, weightBytes: number): string | undefined {
  try {
    new Check(manifest, codeBytes, weightBytes).run();
    return undefined;
  } catch (error) {
    if (error instanceof OutOfRange) return error.message;
    // A field that is not there at all.
    if (error instanceof TypeError) return "a field is missing or of another kind";
    throw error;
  }
}

class OutOfRange extends Error {}

class Check {
  private readonly manifest: Manifest;
  private readonly codeBytes: number;
  private readonly weightBytes: number;

  constructor(manifest: Manifest, codeBytes: number, weightBytes: number) {
    this.manifest = manifest;
    this.codeBytes = codeBytes;
    this.weightBytes = weightBytes;
  }

  run(): void {
    const { dims, inputs, outputs, steps } = this.manifest;
    for (const [index, row] of dims.entries()) {
      if (typeof row === "string") continue;
      if (typeof row === "number") this.require(Number.isSafeInteger(row), `dimension ${index} is ${row}`);
      else {
        this.require(OPERATORS.has(row[0]) && row.length >= 3, `dimension ${index} has operator "${row[0]}"`);
        for (const operand of row.slice(1) as DimIndex[]) this.within(operand, index, `an operand of dimension ${index}`);
      }
    }
    this.storages();
    for (const value of [...inputs, ...outputs]) this.value(value);
    for (const [index, step] of steps.entries()) this.step(step, index);
    this.profiles();
    this.saturation();
  }

  private saturation(): void {
    const { saturation, outputs, dims } = this.manifest;
    if (!saturation) return;
    const output = outputs.find(({ name }) => name === saturation.output);
    this.require(output?.dtype === "float32" && output.shape?.length === 1 && dims[output.shape[0]!] === saturation.layers.length, "the saturation of layers is no output with a number for each");
  }

  private storages(): void {
    for (const [index, { place, size, offset }] of this.manifest.storages.entries()) {
      this.require(PLACES.has(place), `storage ${index} is in "${place}"`);
      this.dim(size, `the size of storage ${index}`);
      if (place !== "weights") continue;
      const bytes = this.manifest.dims[size];
      this.require(typeof bytes === "number" && bytes >= 0, `storage ${index} of the weights has no fixed size`);
      this.within(offset, this.weightBytes - (bytes as number) + 1, `the offset of storage ${index}`);
    }
  }

  private step(step: ManifestStep, index: number): void {
    if (step.kind === "jump") {
      this.within(step.target, this.manifest.steps.length + 1, "the target of a jump");
      this.require(step.target > index && step.inputs.length <= 1, `step ${index} jumps back`);
    }
    if (step.kind === "size") {
      this.dim(step.symbol, "a size that data decide");
      this.require(typeof this.manifest.dims[step.symbol] === "string", "a size that data decide is no symbol");
      if (step.given === undefined) this.require(step.inputs.length === 1 && step.inputs[0]!.dtype === "int64" && step.inputs[0]!.storage !== undefined, "a size that data decide is nowhere");
      else this.dim(step.given, "a size that data decide");
    }
    if (step.kind === "reference" || step.kind === "size" || step.kind === "jump" || step.kind === "fail") {
      for (const value of [...step.inputs, ...step.outputs]) this.value(value);
      return;
    }
    this.require(step.kind === "kernel", `a step is a "${(step as { kind: unknown }).kind}"`);
    for (const dim of [step.flops, step.bytes]) this.dim(dim, "a size of a kernel");
    for (const code of [step, ...(step.larger ?? [])]) this.code(code);
    let least = 0;
    for (const { from, launch } of step.larger ?? []) {
      this.require(Number.isFinite(from) && from >= least, "the work from which a kernel is used is no rising number");
      this.require(launch !== undefined, "a kernel for larger shapes is not launched");
      least = from;
    }
    for (const value of step.completes) this.value(value);
  }

  private code({ code, params, tiles, scratchBytes, launch }: ManifestCode): void {
    this.within(code, this.codeBytes, "the entry of a kernel");
    this.within(scratchBytes, Number.MAX_SAFE_INTEGER, "the scratch memory of a kernel");
    this.dim(tiles, "a size of a kernel");
    for (const param of params) this.param(param);
    if (launch) this.launch(code, launch, params.length);
  }

  private launch(code: number, { codeBytes, grid, block, sharedBytes, blocksPerMultiprocessor = 1, cluster, tensorMaps, writes }: ManifestLaunch, params: number): void {
    this.within(codeBytes, this.codeBytes - code + 1, "the module of a kernel");
    for (const storage of writes) this.within(storage, this.manifest.storages.length, "a storage that a kernel writes");
    this.require(grid.length === 3, "a grid has not three sizes");
    for (const dim of grid) this.dim(dim, "a grid of a kernel");
    this.within(block - 1, 1024, "the threads of a block");
    this.within(sharedBytes, 1 << 20, "the shared memory of a kernel");
    for (const count of [blocksPerMultiprocessor, ...(cluster ?? [])]) this.within(count - 1, 64, "a count of blocks");
    for (const map of tensorMaps) {
      this.within(map.param, params, "the parameter of a tensor map");
      this.require(map.dims.length > 0 && map.dims.length <= 5 && map.strideBytes.length === map.dims.length - 1 && map.box.length === map.dims.length, "a tensor map has another rank");
      for (const dim of [...map.dims, ...map.strideBytes]) this.dim(dim, "a size of a tensor map");
      for (const size of map.box) this.within(size - 1, 256, "the box of a tensor map");
      if (map.offsetBytes !== undefined) this.dim(map.offsetBytes, "the offset of a tensor map");
      if (map.pixels) this.pixels(map.pixels, map.dims.length);
    }
  }

  private pixels({ channels, count, lower, upper }: NonNullable<ManifestTensorMap["pixels"]>, rank: number): void {
    this.require(rank === 4 && lower.length === 2 && upper.length === 2, "pixels of a tensor map have another rank");
    this.within(channels - 1, 256, "the channels of a tensor map");
    this.within(count - 1, 1024, "the pixels of a tensor map");
    for (const corner of lower) this.within(corner + 128, 256, "a corner of a tensor map");
    for (const corner of upper) this.dim(corner, "a corner of a tensor map");
  }

  private param(param: ManifestParam): void {
    switch (param[0]) {
      case 0: return this.dim(param[1], "a parameter");
      case 1: this.within(param[1], this.manifest.storages.length, "the storage of a parameter"); return this.dim(param[2], "the offset of a parameter");
      case 2: return this.within(param[1], this.weightBytes + 1, "the weights of a parameter");
      case 3: case 4: return this.require(this.manifest.target.arch === "cuda", `a parameter is of kind ${param[0]} on a processor`);
      default: this.require(false, `a parameter is of kind ${String(param[0])}`);
    }
  }

  private value(value: ManifestValue): void {
    if (value.storage !== undefined) this.within(value.storage, this.manifest.storages.length, `the storage of "${value.name}"`);
    for (const dim of [...(value.shape ?? []), ...(value.elements ?? [])]) this.dim(dim, `a dimension of "${value.name}"`);
  }

  private profiles(): void {
    const { profiles, storages } = this.manifest;
    for (const { arenaBytes, offsets, symbols } of profiles) {
      this.within(arenaBytes, Number.MAX_SAFE_INTEGER, "the size of an arena");
      this.require(offsets.length === storages.length && typeof symbols === "object", "a profile places other storages than there are");
      for (const offset of offsets) if (offset !== -1) this.within(offset, arenaBytes + 1, "the place of a value");
    }
  }

  private dim(index: DimIndex, what: string): void {
    this.within(index, this.manifest.dims.length, what);
  }

  private within(value: number | undefined, end: number, what: string): void {
    this.require(Number.isSafeInteger(value) && value! >= 0 && value! < end, `${what} is ${value}, below ${end} expected`);
  }

  private require(condition: boolean, what: string): void {
    if (!condition) throw new OutOfRange(what);
  }
}
