/**
 * A plain blocked product, the way of last resort for contractions: 64 rows by 64 columns per block, 16 steps of the sum
 * at a time through shared memory, 4 by 4 results per thread. It takes every stride, type and size.
 *
 * The caller says how elements are read: `a` and `b` answer C++ of one element, already guarded against the edges.
 */
import type { CodeWriter } from "../code-writer.ts";
import type { KernelParams } from "../kernel-params.ts";

export const TILE = { rows: 64, columns: 64, steps: 16, threads: 256 } as const;

export interface TileOperands {
  /** "float" or, for 8-bit integers, "int". */
  readonly sum: "float" | "int";
  /** Sizes as C++. */
  readonly rows: string;
  readonly columns: string;
  readonly steps: string;
  /** C++ of A[row, k] and of B[k, column], in range. They may emit lines; the result is an expression of type `sum`. */
  a(row: string, k: string): string;
  b(k: string, column: string): string;
  /** Whether neighbours along k are neighbours in memory; else along the other axis. */
  readonly aAlongSteps: boolean;
  readonly bAlongSteps: boolean;
  /** Uses one result; called inside the guard of its row and column. */
  store(accumulator: string, row: string, column: string): void;
}

/** Emits a block's work. `rowBase` and `columnBase` are C++ of its first row and column. */
export function emitTile(code: CodeWriter, params: KernelParams, rowBase: string, columnBase: string, operands: TileOperands): void {
  const type = params.index;
  const { sum } = operands;
  code.line(`__shared__ ${sum} left[${TILE.steps}][${TILE.rows} + 4];`);
  code.line(`__shared__ ${sum} right[${TILE.steps}][${TILE.columns} + 4];`);
  code.line(`${sum} acc[4][4] = {};`);
  code.line("const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;");
  code.block(`for (${type} k0 = 0; k0 < ${operands.steps}; k0 += ${TILE.steps})`, () => {
    emitLoad(code, type, "left", operands.aAlongSteps, sum, `${rowBase} + at`, operands.rows, operands.steps, (row, k) => operands.a(row, k));
    emitLoad(code, type, "right", operands.bAlongSteps, sum, `${columnBase} + at`, operands.columns, operands.steps, (column, k) => operands.b(k, column));
    code.line("__syncthreads();");
    code.line("#pragma unroll");
    code.block(`for (int k = 0; k < ${TILE.steps}; k++)`, () => {
      code.line("#pragma unroll");
      code.line("for (int i = 0; i < 4; i++)");
      code.line("#pragma unroll");
      code.line("  for (int j = 0; j < 4; j++) acc[i][j] += left[k][ty * 4 + i] * right[k][tx * 4 + j];");
    });
    code.line("__syncthreads();");
  });
  code.line("#pragma unroll");
  code.block("for (int i = 0; i < 4; i++)", () => {
    code.line(`const ${type} row = ${rowBase} + ty * 4 + i;`);
    code.line("#pragma unroll");
    code.block("for (int j = 0; j < 4; j++)", () => {
      code.line(`const ${type} column = ${columnBase} + tx * 4 + j;`);
      code.block(`if (row < ${operands.rows} && column < ${operands.columns})`, () => operands.store("acc[i][j]", "row", "column"));
    });
  });
}

/** All threads fill one side's 64 by 16 elements, neighbours in memory by neighbouring threads; zeros beyond the edges. */
function emitLoad(code: CodeWriter, type: string, name: string, alongSteps: boolean, sum: string, place: string, limit: string, steps: string, element: (at: string, k: string) => string): void {
  code.line("#pragma unroll");
  code.block("for (int part = 0; part < 4; part++)", () => {
    code.line(alongSteps ? "const int step = threadIdx.x % 16, at = threadIdx.x / 16 + part * 16;" : "const int at = threadIdx.x % 64, step = threadIdx.x / 64 + part * 4;");
    code.line(`const ${type} outer = ${place}, k = k0 + step;`);
    code.line(`${sum} value = 0;`);
    code.block(`if (outer < ${limit} && k < ${steps})`, () => code.line(`value = ${element("outer", "k")};`));
    code.line(`${name}[step][at] = value;`);
  });
}
