/** Loop kernels whose threads each make a few neighbouring elements: pointwise work, gathers, short reductions. */
import type { FlatKernel } from "../../flatten.ts";
import { type Axis, type Dim, dimCeilDiv, dimMul } from "../../loop-ir.ts";
import { type ExpressionEmitter, Point } from "../expression.ts";
import { BLOCK_THREADS, countOf, type LoopShape } from "./shape.ts";
import { storeOthers, Vectors } from "./vectors.ts";

/** Emits the kernel's body. @returns thread blocks */
export function emitElements(kernel: FlatKernel, shape: Extract<LoopShape, { kind: "elements" }>, emitter: ExpressionEmitter): Dim {
  const { code, params } = emitter;
  const { lane, others, width } = shape;
  const type = params.index;
  const chunks: Dim = lane ? dimCeilDiv(lane.extent, width) : 1;
  const total = dimMul(countOf(others), chunks);
  code.line(`const ${type} thread = blockIdx.x * (${type})${BLOCK_THREADS} + threadIdx.x;`);
  code.line(`if (thread >= ${params.dim(total)}) return;`);
  if (lane) code.line(`const ${type} first = ${others.length > 0 ? `thread % ${params.dim(chunks)} * ${width}` : `thread * ${width}`};`);
  const point = splitIndex(emitter, lane && others.length > 0 ? `thread / ${params.dim(chunks)}` : "thread", others);
  const outputs = kernel.outputs;
  if (!lane) {
    storeOthers(emitter, outputs, new Point(point), () => false);
    return dimCeilDiv(total, BLOCK_THREADS);
  }
  const vectors = new Vectors(emitter, lane, width, outputs.map(({ value }) => value), outputs);
  const aligned = vectors.isUseful ? vectors.aligned() : "false";
  if (aligned !== "false") {
    code.block(`if (${aligned})`, () => {
      vectors.step("first", point, (inner, isVector) => storeOthers(emitter, outputs, inner, isVector));
      code.line("return;");
    });
  }
  if (width === 1) storeOthers(emitter, outputs, new Point(point, new Map([[lane, "first"]])), () => false);
  else {
    code.line("#pragma unroll 1");
    code.block(`for (${type} at = first; at < first + ${width} && at < ${params.dim(lane.extent)}; at++)`, () => storeOthers(emitter, outputs, new Point(point, new Map([[lane, "at"]])), () => false));
  }
  return dimCeilDiv(total, BLOCK_THREADS);
}

/** Gives each axis its index, from one number that counts through all of them. */
export function splitIndex(emitter: ExpressionEmitter, number: string, axes: readonly Axis[], outer?: Point): Point {
  const { code, params } = emitter;
  const values = new Map<Axis, string>();
  let rest = number;
  for (let i = axes.length - 1; i >= 0; i--) {
    const axis = axes[i]!;
    const name = code.fresh("a");
    if (i === 0) code.line(`const ${params.index} ${name} = ${rest};`);
    else {
      const whole = code.fresh("n");
      code.line(`const ${params.index} ${whole} = ${rest}, ${name} = ${whole} % ${params.dim(axis.extent)};`);
      rest = `${whole} / ${params.dim(axis.extent)}`;
    }
    values.set(axis, name);
  }
  return new Point(outer, values);
}
