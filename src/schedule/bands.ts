/**
 * Joins depthwise convolutions with the products beside them where an image between them is larger than the second-level
 * cache: what one step writes, the next would read from far away. Only neighbouring steps are joined, and only what
 * nobody else reads.
 */
import { type BandKernel, type Buffer, type ConvKernel, type Dim, dimEqual, type Epilogue, type Expr, type Kernel, type MatmulKernel, product } from "../ir/index.ts";
import { stepStorages } from "./memory.ts";
import type { KernelStep, Plan, Step } from "./plan.ts";
import type { Storage } from "./view.ts";

/** An image of at least this size leaves the second-level cache before it is read. */
const LEAST_IMAGE_BYTES = 1024 * 1024;
/** A product's constant is read once per image row, so it must be near. */
const MOST_CONSTANT_BYTES = 128 * 1024;

export function joinBands(plan: Plan): Plan {
  // Jumps name their targets by number.
  if (plan.steps.some(({ kind }) => kind === "jump")) return plan;
  const joiner = new Joiner(plan);
  const steps: Step[] = [];
  for (let index = 0; index < plan.steps.length; ) {
    const joined = joiner.at(index);
    steps.push(joined?.step ?? plan.steps[index]!);
    index += joined?.count ?? 1;
  }
  return { ...plan, steps };
}

class Joiner {
  readonly #plan: Plan;
  /** How many steps touch a storage; one more where the caller sees it. */
  readonly #uses = new Map<Storage, number>();

  constructor(plan: Plan) {
    this.#plan = plan;
    const count = (storage: Storage): void => void this.#uses.set(storage, (this.#uses.get(storage) ?? 0) + 1);
    for (const step of plan.steps) stepStorages(step, plan).forEach(count);
    for (const output of plan.outputs) if (output.kind === "view") count(output.view.storage);
  }

  /** The step that stands for some steps from this one on; undefined when it stays as it is. */
  at(index: number): { readonly step: KernelStep; readonly count: number } | undefined {
    const [first, second, third] = [0, 1, 2].map((offset) => this.#step(index + offset));
    if (isDepthwise(first?.kernel)) {
      const projection = this.#projection(first.kernel, second?.kernel);
      return projection && joined([first, second!], { depthwise: first.kernel, projection });
    }
    if (!first || !second || !isDepthwise(second.kernel)) return undefined;
    const expansion = this.#expansion(first.kernel, second.kernel);
    if (!expansion) return undefined;
    const projection = this.#projection(second.kernel, third?.kernel);
    const parts = { expansion, depthwise: second.kernel, ...(projection ? { projection } : {}) };
    return joined([first, second, ...(projection ? [third!] : [])], parts);
  }

  #step(index: number): KernelStep | undefined {
    const step = this.#plan.steps[index];
    return step?.kind === "kernel" ? step : undefined;
  }

  #expansion(kernel: Kernel, { input }: ConvKernel): MatmulKernel | undefined {
    if (kernel.kind !== "matmul" || !this.#isBetween(kernel.output, input) || !this.#isPixelwise(kernel)) return undefined;
    const isWhole = !kernel.output.strides && dimEqual(kernel.m, product(input.dims.slice(0, 3))) && kernel.n === input.dims[3];
    return isWhole && dependsOnColumns(kernel.epilogue) ? kernel : undefined;
  }

  #projection({ output }: ConvKernel, kernel: Kernel | undefined): MatmulKernel | undefined {
    if (kernel?.kind !== "matmul" || !this.#isBetween(output, kernel.a.buffer) || !this.#isPixelwise(kernel)) return undefined;
    return dimEqual(kernel.m, product(output.dims.slice(0, 3))) && kernel.k === output.dims[3] && kernel.a.rowStride === kernel.k ? kernel : undefined;
  }

  /** Whether two buffers are the same large image, which one step writes and one reads. */
  #isBetween(written: Buffer, read: Buffer): boolean {
    const { storage } = this.#plan.views.get(written)!;
    const image = [written, read].find(({ dims }) => dims.length === 4) ?? written;
    const bytes = 4 * image.dims.slice(1).reduce<number>((size, dim) => size * (typeof dim === "number" ? dim : 0), 1);
    return storage === this.#plan.views.get(read)!.storage && storage.place === "arena" && this.#uses.get(storage) === 2 && bytes >= LEAST_IMAGE_BYTES;
  }

  /** A product of float32 pixels, in order, with a small constant. */
  #isPixelwise({ a, b, batch, copy, k, n, output }: MatmulKernel): boolean {
    const isFloat = [a.buffer, b.buffer, output].every(({ dtype }) => dtype === "float32");
    const isStatic = typeof k === "number" && typeof n === "number" && 4 * k * n <= MOST_CONSTANT_BYTES;
    return isFloat && isStatic && batch.length === 0 && !copy && a.columnStride === 1 && a.rowStride === k && (a.offset ?? 0) === 0 && this.#isConstant(b.buffer);
  }

  #isConstant(buffer: Buffer): boolean {
    return this.#plan.constants.has(this.#plan.views.get(buffer)!.storage);
  }
}

/** A depthwise convolution of float32 images of known size. */
function isDepthwise(kernel: Kernel | undefined): kernel is ConvKernel {
  if (kernel?.kind !== "conv" || kernel.kernel.length !== 2 || kernel.copy || kernel.inputChannelsFirst) return false;
  const { input, output, weights, groups } = kernel;
  const isStatic = (dims: readonly Dim[]): boolean => dims.slice(1).every((dim) => typeof dim === "number" && dim > 0);
  const isWhole = [input, output].every(({ dtype, dims, strides }) => dtype === "float32" && !strides && isStatic(dims));
  return isWhole && weights.dtype === "float32" && groups > 1 && groups === input.dims[3] && groups === output.dims[3] && kernel.kernel[1]! <= 9;
}

function joined(steps: readonly KernelStep[], parts: Omit<BandKernel, "kind" | "name">): { readonly step: KernelStep; readonly count: number } {
  const kernel: BandKernel = { kind: "bands", name: parts.depthwise.name, ...parts };
  const origins = [...new Set(steps.flatMap((step) => step.origins))];
  return { step: { kind: "kernel", kernel, origins, operators: steps.flatMap((step) => step.operators) }, count: steps.length };
}

/** Whether what happens to results is the same for all pixels: rows are made again elsewhere than the buffers' own say. */
function dependsOnColumns(epilogue: Epilogue | undefined): boolean {
  const last = epilogue?.axes.at(-1);
  const depends = (expr: Expr): boolean => {
    switch (expr.kind) {
      case "axis": return expr.axis === last;
      case "load": return expr.index.every(depends);
      case "op": return expr.args.every(depends);
      case "cast": return depends(expr.arg);
      case "select": return [expr.condition, expr.then, expr.else].every(depends);
      case "reduce": return false;
      default: return true;
    }
  };
  return !epilogue || depends(epilogue.value);
}
