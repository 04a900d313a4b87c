/**
 * The parameters of a kernel: one per distinct buffer, packed constant or size expression, in the order in which they
 * are first asked for. The names it gives are the C parameters'; sizes that are plain numbers are written as such.
 */
import { boundsOf, type Buffer, type Dim, dimKey, mul as multiply, type Param } from "../../ir/index.ts";
import { elementType } from "./scalars.ts";

/** C++ type of index arithmetic in a kernel. */
export type IndexType = "int" | "long long";

export class KernelParams {
  readonly list: Param[] = [];
  /** Type of sizes and indices. */
  readonly index: IndexType;
  readonly #declarations: string[] = [];
  readonly #known = new Map<string | Buffer, string>();
  readonly #written: ReadonlySet<Buffer>;

  /** @param written buffers that the kernel stores to */
  constructor(written: readonly Buffer[], index: IndexType = "int") {
    this.#written = new Set(written);
    this.index = index;
  }

  /** Name of a pointer to the buffer's elements. */
  pointer(buffer: Buffer): string {
    const type = elementType(buffer.dtype);
    return this.#add(buffer, { kind: "pointer", buffer }, (name) => (this.#written.has(buffer) ? `${type}* ${name}` : `const ${type}* __restrict__ ${name}`));
  }

  /** From now on the buffer is reached by a pointer that is known under that name. */
  alias(buffer: Buffer, name: string): void {
    this.#known.set(buffer, name);
  }

  /** Name of a pointer to packed constants. @param type C++ type of an element */
  packed(index: number, type: string): string {
    return this.#add(`packed ${index}`, { kind: "packed", index }, (name) => `const ${type}* __restrict__ ${name}`);
  }

  /** A size as a C++ expression of the kernel's index type. */
  dim(value: Dim): string {
    if (typeof value === "number") return this.index === "int" ? String(value) : `${value}ll`;
    const name = this.#add(`dim ${dimKey(value)}`, { kind: "dim", value }, (own) => `long long ${own}`);
    return this.index === "int" ? `(int)${name}` : name;
  }

  workspace(type: string): string {
    return this.#add("workspace", { kind: "workspace" }, (name) => `${type}* ${name}`);
  }

  /** Words that are 0 when the kernel begins and when it ends. */
  counters(): string {
    return this.#add("counters", { kind: "counters" }, (name) => `u32* ${name}`);
  }

  /** Index of a parameter in `list`, by the name it was given. */
  position(name: string): number {
    return Number(name.slice(1));
  }

  /** The C parameter list, tensor maps last. @param tensorMaps names of the `TensorMap` parameters */
  declarations(tensorMaps: readonly string[] = []): string {
    return [...this.#declarations, ...tensorMaps.map((name) => `const __grid_constant__ TensorMap ${name}`)].join(", ");
  }

  #add(key: string | Buffer, param: Param, declare: (name: string) => string): string {
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const name = `p${this.list.length}`;
    this.list.push(param);
    this.#declarations.push(declare(name));
    this.#known.set(key, name);
    return name;
  }
}

/** Less than 2^31 by what a loop may step beyond its end. */
const LARGEST_INT = 0x7ff0_0000;

/** 32 bits where every position is known to fit: index arithmetic is then several times cheaper. */
export function indexTypeFor(buffers: Iterable<Buffer>, others: readonly Dim[] = []): IndexType {
  const fits = (size: Dim): boolean => boundsOf(size, new Map()).max <= LARGEST_INT;
  for (const buffer of buffers) {
    const sizes = buffer.strides ? buffer.dims.map((dim, i) => multiply(dim, buffer.strides![i]!)) : [multiply(...buffer.dims)];
    if (!sizes.every(fits)) return "long long";
  }
  return others.every(fits) ? "int" : "long long";
}
