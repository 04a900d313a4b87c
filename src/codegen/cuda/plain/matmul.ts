/** Matrix products without conditions: every stride, type and size, at the speed of plain arithmetic. */
import type { Buffer, Dim, MatmulKernel, MatmulOperand, ZeroPoint } from "../../../ir/index.ts";
import { add as dimAdd, ceilDiv, DTYPE_SIZE, mul } from "./sizes.ts";
import { CodeWriter } from "../code-writer.ts";
import type { CudaKernel } from "../contract.ts";
import { Epilogue } from "../epilogue.ts";
import { indexTypeFor, KernelParams } from "../kernel-params.ts";
import { emitTile, TILE } from "./tile.ts";

export function plainMatmul(kernel: MatmulKernel): CudaKernel {
  const { batch, m, n, k, a, b, output } = kernel;
  const code = new CodeWriter();
  const params = new KernelParams([output], indexTypeFor([a.buffer, b.buffer, output], [dimAdd(spanOf(a, batch, m, k), 0), spanOf(b, batch, k, n)]));
  const epilogue = new Epilogue(code, params, kernel.epilogue, output);
  const isInteger = a.buffer.dtype === "int8" || a.buffer.dtype === "uint8";
  const columnBlocks = ceilDiv(n, TILE.columns);
  const rowBlocks = ceilDiv(m, TILE.rows);
  code.block("", () => {
    code.line(`${params.index} block = blockIdx.x;`);
    code.line(`const ${params.index} column0 = block % ${params.dim(columnBlocks)} * ${TILE.columns};`);
    code.line(`block /= ${params.dim(columnBlocks)};`);
    code.line(`const ${params.index} row0 = block % ${params.dim(rowBlocks)} * ${TILE.rows};`);
    code.line(`block /= ${params.dim(rowBlocks)};`);
    const indices = splitBatch(code, params, batch);
    const left = `${params.pointer(a.buffer)} + ${start(params, a, indices)}`;
    const right = `${params.pointer(b.buffer)} + ${start(params, b, indices)}`;
    code.line(`const auto* const a = ${left};`);
    code.line(`const auto* const b = ${right};`);
    emitTile(code, params, "row0", "column0", {
      sum: isInteger ? "int" : "float", rows: params.dim(m), columns: params.dim(n), steps: params.dim(k),
      a: (row, step) => less(params, `element(a[${row} * ${params.dim(a.rowStride)} + ${step} * ${params.dim(a.columnStride)}])`, a.zero, row),
      b: (step, column) => less(params, `element(b[${step} * ${params.dim(b.rowStride)} + ${column} * ${params.dim(b.columnStride)}])`, b.zero, column),
      aAlongSteps: a.columnStride === 1, bAlongSteps: b.rowStride === 1,
      store: (accumulator, row, column) => epilogue.store(accumulator, epilogue.at([...indices, row, column])),
    });
  });
  return {
    name: kernel.name,
    source: `extern "C" __global__ void __launch_bounds__(${TILE.threads}) matmul_plain(${params.declarations()})\n${code.text()}\n`,
    params: params.list, packed: [], scratchBytes: 0,
    launch: { entry: "matmul_plain", grid: [mul(...batch, rowBlocks, columnBlocks), 1, 1], block: TILE.threads, sharedBytes: 0, tensorMaps: [] },
    flops: mul(2, ...batch, m, n, k),
    bytes: dimAdd(mul(...batch, m, k, DTYPE_SIZE(a.buffer)), mul(k, n, DTYPE_SIZE(b.buffer)), mul(...batch, m, n, DTYPE_SIZE(output))),
    tactic: "matmul plain 64x64x16",
  };
}

/** One more than the last element's position, from the buffer's start. */
function spanOf(operand: MatmulOperand, batch: readonly Dim[], rows: Dim, columns: Dim): Dim {
  return dimAdd(operand.offset ?? 0, mul(rows, operand.rowStride), mul(columns, operand.columnStride), ...batch.map((dim, i) => mul(dim, operand.batchStrides[i]!)));
}

/** The batch indices, outer to inner, from `block`. */
export function splitBatch(code: CodeWriter, params: KernelParams, batch: readonly Dim[]): string[] {
  const names = batch.map((_, i) => `batch${i}`);
  for (let i = batch.length - 1; i >= 0; i--) {
    if (i === 0) code.line(`const ${params.index} ${names[i]} = block;`);
    else {
      code.line(`const ${params.index} ${names[i]} = block % ${params.dim(batch[i]!)};`);
      code.line(`block /= ${params.dim(batch[i]!)};`);
    }
  }
  return names;
}

function start(params: KernelParams, operand: MatmulOperand, indices: readonly string[]): string {
  const terms = indices.flatMap((index, i) => (operand.batchStrides[i] === 0 ? [] : [`${index} * ${params.dim(operand.batchStrides[i]!)}`]));
  return [params.dim(operand.offset ?? 0), ...terms].join(" + ");
}

/** An integer element less its zero point: a number, the one element of a buffer, or one per column. */
export function less(params: KernelParams, element: string, zero: ZeroPoint | undefined, column: string): string {
  if (zero === undefined) return element;
  if (typeof zero === "number") return `(${element} - ${zero})`;
  return `(${element} - element(${params.pointer(zero)}[${isSingle(zero) ? "0" : column}]))`;
}

const isSingle = (buffer: Buffer): boolean => buffer.dims.every((dim) => dim === 1);
