/**
 * Loop kernels with one reduction whose neighbours in memory are neighbours of the result: pooling and means over
 * images with channels last. A thread keeps a vector of results; where a reduction is long, threads of a block share its
 * steps and meet in shared memory.
 */
import type { FlatKernel } from "../../flatten.ts";
import { reducesOf, type ReduceExpr } from "../../loop-cost.ts";
import { type Axis, type Dim, dimCeilDiv, dimMul, type Expr, freeAxes, reduceIdentity, visitExpr } from "../../loop-ir.ts";
import { type ExpressionEmitter, type LoadExpr, Point } from "../expression.ts";
import { C_TYPE, literal, REDUCER } from "../scalars.ts";
import { splitIndex } from "./elements.ts";
import { BLOCK_THREADS, coefficientOf, countOf, type LoopShape, vectorWidth } from "./shape.ts";
import { storeOthers, Vectors } from "./vectors.ts";

type ColumnShape = Extract<LoopShape, { kind: "columns" }>;

/** From so many steps on, threads share a reduction. */
const SHARED_STEPS = 24;

/** Undefined when the kernel is of another kind. @param most threads that may share a reduction */
export function columnShape(kernel: FlatKernel, most: number): ColumnShape | undefined {
  const [reduce, ...rest] = reducesOf(kernel);
  if (!reduce || rest.length > 0 || !kernel.axes.every((axis) => axis.extent === 1 || freeAxes(reduce).has(axis))) return undefined;
  const { body, guard } = guardedBody(reduce);
  const loads: LoadExpr[] = [];
  visitExpr(body, (e) => { if (e.kind === "load") loads.push(e); });
  const runsAlong = (axis: Axis): boolean => loads.length > 0 && loads.every((load) => [0, 1].includes(Number(coefficientOf(load.index[0]!, axis) ?? 2))) && loads.some((load) => coefficientOf(load.index[0]!, axis) === 1);
  const lane = kernel.axes.find((axis) => runsAlong(axis) && !(guard && freeAxes(guard).has(axis)) && kernel.outputs.every(({ offset }) => coefficientOf(offset, axis) === 1));
  const width = lane ? vectorWidth(kernel, lane) : 1;
  if (!lane || width === 1 || reduce.axes.some((axis) => loads.some((load) => coefficientOf(load.index[0]!, axis) === 1))) return undefined;
  const steps = reduce.axes.reduce((count, axis) => count * (typeof axis.extent === "number" ? axis.extent : 128), 1);
  let splits = 1;
  while (splits < most && splits * SHARED_STEPS < steps * 2) splits *= 2;
  return { kind: "columns", lane, others: kernel.axes.filter((axis) => axis !== lane), width, splits: steps <= SHARED_STEPS ? 1 : splits };
}

/** What is reduced where a guard holds; elsewhere it adds nothing. */
function guardedBody({ body, op, type }: ReduceExpr): { readonly body: Expr; readonly guard?: Expr } {
  if (body.kind !== "select" || body.else.kind !== "const" || body.else.value !== reduceIdentity(op, type)) return { body };
  return { body: body.then, guard: body.condition };
}

/** Emits the kernel's body. @returns thread blocks */
export function emitColumns(kernel: FlatKernel, shape: ColumnShape, emitter: ExpressionEmitter): Dim {
  const { code, params } = emitter;
  const { lane, others, width, splits } = shape;
  const reduce = reducesOf(kernel)[0]!;
  const type = params.index;
  const perBlock = BLOCK_THREADS / splits;
  const chunks = dimCeilDiv(lane.extent, width);
  const total = dimMul(countOf(others), chunks);
  code.line(`const ${type} thread = blockIdx.x * (${type})${perBlock} + threadIdx.x % ${perBlock}, place = min_of<${type}>(thread, ${params.dim(total)} - 1);`);
  code.line(`const bool inside = thread < ${params.dim(total)};`);
  code.line(`const ${type} split = threadIdx.x / ${perBlock}, first = place % ${params.dim(chunks)} * ${width};`);
  const point = splitIndex(emitter, `place / ${params.dim(chunks)}`, others);
  const { body, guard } = guardedBody(reduce);
  const sources = new Vectors(emitter, lane, width, [body], []);
  const results = new Vectors(emitter, lane, width, kernel.outputs.map(({ value }) => value), kernel.outputs);
  const aligned = [sources.aligned(), results.aligned()];
  if (!aligned.includes("false")) {
    code.block(`if (${aligned.join(" && ")})`, () => {
      const sum = code.fresh("r");
      code.line(`${C_TYPE[reduce.type]} ${sum}[${width}];`);
      const eachElement = (statement: string): void => code.line(`for (int e = 0; e < ${width}; e++) ${statement}`);
      code.line("#pragma unroll");
      eachElement(`${sum}[e] = ${literal(reduce.type, reduceIdentity(reduce.op, reduce.type))};`);
      const step = (inner: Point): void => sources.step("first", inner, (at, _, element) => {
        emitter.addTo(`${sum}[${element}]`, reduce, emitter.value(body, at));
        return new Map();
      });
      const guarded = (inner: Point): void => (guard ? code.block(`if (${emitter.value(guard, inner)})`, () => step(new Point(inner))) : step(inner));
      if (splits === 1) emitter.loops(reduce.axes, point, guarded);
      else {
        code.line("#pragma unroll 4");
        code.block(`for (${type} t = split; t < ${params.dim(countOf(reduce.axes))}; t += ${splits})`, () => guarded(splitIndex(emitter, "t", reduce.axes, point)));
        meet(emitter, reduce, sum, width, splits, perBlock);
      }
      code.line("if (split > 0 || !inside) return;");
      results.step("first", point, (inner, isVector, element) => {
        inner.provide(reduce, `${sum}[${element}]`);
        return storeOthers(emitter, kernel.outputs, inner, isVector);
      });
      code.line("return;");
    });
  }
  code.line("if (split > 0 || !inside) return;");
  code.line("#pragma unroll 1");
  code.block(`for (${type} at = first; at < first + ${width} && at < ${params.dim(lane.extent)}; at++)`, () => storeOthers(emitter, kernel.outputs, new Point(point, new Map([[lane, "at"]])), () => false));
  return dimCeilDiv(total, perBlock);
}

/** Threads that share a reduction add up what each has; the first of them gets it. */
function meet({ code }: ExpressionEmitter, reduce: ReduceExpr, sum: string, width: number, splits: number, perBlock: number): void {
  code.line(`__shared__ ${C_TYPE[reduce.type]} parts[${splits}][${perBlock * width + 1}];`);
  code.line(`const int column = threadIdx.x % ${perBlock} * ${width};`);
  code.line("#pragma unroll");
  code.line(`for (int e = 0; e < ${width}; e++) parts[split][column + e] = ${sum}[e];`);
  code.line("__syncthreads();");
  code.block("if (split == 0)", () => {
    code.block(`for (int s = 1; s < ${splits}; s++)`, () => {
      code.line("#pragma unroll");
      code.line(`for (int e = 0; e < ${width}; e++) ${sum}[e] = ${REDUCER[reduce.op]}::join(${sum}[e], parts[s][column + e]);`);
    });
  });
}
