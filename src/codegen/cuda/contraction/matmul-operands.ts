/** A matmul's operands as the mma kernel gathers them: any strides, with 16-byte copies where the reduction is contiguous and aligned. */
import { type Dim, dimEqual, type MatmulKernel, type MatmulOperand } from "../../../ir/index.ts";
import { ELEMENTS, type Multiplied } from "./elements.ts";
import type { KernelText } from "./kernel-text.ts";
import type { AmpereOperands, ColumnsOperand, GatheredOperand } from "./matmul-ampere.ts";
import type { PackedMatrix } from "./packing.ts";
import { isAligned, isMultipleOf } from "./tensor-map.ts";

interface Strided {
  readonly name: string;
  readonly pointer: string;
  readonly rowStride: Dim;
  readonly depthStride: Dim;
  readonly wide: boolean;
  /** C++ of the tile's first row and of the number of rows. */
  readonly first: string;
  readonly limit: string;
}

/** @param packed B as a constant, when it is one */
export function matmulOperands(text: KernelText, kernel: MatmulKernel, element: Multiplied, packed: PackedMatrix | undefined): AmpereOperands {
  const { a, b } = kernel;
  const { bytes, type } = ELEMENTS[element];
  const wideBy = ({ buffer, batchStrides, offset = 0 }: MatmulOperand, stride: Dim): boolean => isAligned(buffer, [stride, ...batchStrides, offset], bytes);
  const at = (operand: MatmulOperand): string => operandPointer(text, operand, type);
  const common = { depth: text.size(kernel.k), wholeChunks: isMultipleOf(kernel.k, 16 / bytes) };
  const aSide = gathered(text, {
    name: "a", pointer: at(a), rowStride: a.rowStride, depthStride: a.columnStride, first: "firstRow", limit: "rows",
    wide: dimEqual(a.columnStride, 1) && wideBy(a, a.rowStride),
  });
  const bSide = { name: "b", first: "firstColumn", limit: "columns" };
  if (packed) return { ...common, a: aSide, b: gathered(text, { ...bSide, pointer: text.packedPointer(packed.data, type), rowStride: packed.pitch, depthStride: 1, wide: true }) };
  if (bytes === 2 && dimEqual(b.columnStride, 1) && wideBy(b, b.rowStride)) return { ...common, a: aSide, b: columns(text, at(b), b) };
  const wide = dimEqual(b.rowStride, 1) && wideBy(b, b.columnStride);
  return { ...common, a: aSide, b: gathered(text, { ...bSide, pointer: at(b), rowStride: b.columnStride, depthStride: b.rowStride, wide }) };
}

/** The operand's first element in the current batch. */
function operandPointer(text: KernelText, { buffer, batchStrides, offset = 0 }: MatmulOperand, type: string): string {
  const batch = batchStrides.flatMap((stride, i) => (stride === 0 ? [] : [` + b${i} * ${text.size64(stride)}`])).join("");
  return `((const ${type}*)${text.pointer(buffer)} + ${text.size64(offset)}${batch})`;
}

function gathered(text: KernelText, operand: Strided): GatheredOperand {
  const { name } = operand;
  return {
    pointer: operand.pointer,
    wide: operand.wide,
    rowsTouch: !operand.wide && dimEqual(operand.rowStride, 1),
    declare: (count) => `i64 ${name}At[${count}]; bool ${name}In[${count}];`,
    prepare: (i, row) => `${name}At[${i}] = (i64)(${operand.first} + ${row}) * ${text.size64(operand.rowStride)}; ${name}In[${i}] = ${operand.first} + ${row} < ${operand.limit};`,
    at: (i, k) => ({ inside: `${name}In[${i}] && ${k} < depth`, offset: `${name}At[${i}] + ${k}${operand.depthStride === 1 ? "" : ` * ${text.size64(operand.depthStride)}`}` }),
  };
}

function columns(text: KernelText, pointer: string, { rowStride }: MatmulOperand): ColumnsOperand {
  return { pointer, offset: (k, column) => `${k} * ${text.size64(rowStride)} + ${column}` };
}
