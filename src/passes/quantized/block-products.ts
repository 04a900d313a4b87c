/**
 * MatMul by weights that are dequantized in blocks along the reduction (QuantizeLinear's block_size, MatMulNBits) becomes
 * sinter.BlockMatMul, which keeps the integers as they are and applies scales as it multiplies: weights of four bits are read as
 * four bits. Inputs: x, integers [n, bytes of a row], scales [n, blocks], zero points [n, blocks] where one is not zero.
 */
import { constantValue, float32Constant, type Node, type Value } from "../../ir/index.ts";
import { numberOf } from "../attributes.ts";
import type { Rule } from "../editor.ts";
import { axisOf, constantNumbers, dequantizerOf, isNode } from "./operands.ts";

/** Integers as they are stored, and what makes them signed. */
const STORED: Readonly<Record<string, { readonly bits: 4 | 8; readonly middle: number }>> = {
  int4: { bits: 4, middle: 0 }, uint4: { bits: 4, middle: 8 }, int8: { bits: 8, middle: 0 }, uint8: { bits: 8, middle: 128 },
};

export const blockProducts: Rule = (node, editor) => {
  const [x, right] = node.inputs;
  if (!isNode(node, "MatMul") || x?.dtype !== "float32" || (x.dims?.length ?? 0) < 2 || right?.dims?.length !== 2) return false;
  const weights = blockWeightsOf(right);
  if (!weights) return false;
  const { bits, size, k, integers, scales, zeros } = weights;
  const columns = integers.length / k;
  const blocks = scales.length / columns;
  const inputs = [x, packed(integers, columns, bits), float32Constant(scales, [columns, blocks]), zeros.some((zero) => zero !== 0) ? constantValue("int8", [columns, blocks], bytesOf(zeros)) : undefined];
  return editor.replaceNode(node, editor.emit("BlockMatMul", inputs, { bits, block_size: size, k }, { domain: "sinter" }));
};

interface Weights {
  readonly bits: 4 | 8;
  readonly size: number;
  readonly k: number;
  /** [n, k], signed. */
  readonly integers: Int8Array;
  /** [n, blocks]. */
  readonly scales: Float32Array;
  readonly zeros: Int8Array;
}

/** A matrix [k, n] that is dequantized in blocks of its columns, perhaps cut and transposed on the way. */
function blockWeightsOf(value: Value): Weights | undefined {
  const turned = isNode(value.producer, "Transpose") ? value.producer : undefined;
  const beforeTurn = turned ? turned.inputs[0]! : value;
  const cut = isNode(beforeTurn.producer, "Slice") ? beforeTurn.producer : undefined;
  const node = dequantizerOf(cut ? cut.inputs[0] : beforeTurn);
  const stored = STORED[node?.inputs[0]?.dtype ?? ""];
  const [q, scale, zero] = node?.inputs ?? [];
  if (!node || !stored || !q?.constant || q.dims?.length !== 2 || scale?.dtype !== "float32" || !scale.constant || (zero && !zero.constant)) return undefined;
  const [k, n] = value.dims as readonly [number, number];
  const axis = axisOf(node, 2);
  const size = numberOf(node, "block_size", 0);
  // The reduction runs along the blocks; a cut takes whole rows' beginnings, as padding is dropped.
  if (size < 8 || size % 8 !== 0 || axis !== (turned ? 1 : 0) || q.dims[1 - axis] !== n || (cut && !cutsTail(cut, axis))) return undefined;
  const length = q.dims[axis] as number;
  const blocks = Math.ceil(k / size);
  const [numbers, factors, points] = [constantNumbers(q)!, constantNumbers(scale)!, zero ? constantNumbers(zero) : undefined];
  const allBlocks = scale.dims![axis] as number;
  const place = (row: number, column: number, rowLength: number): number => (axis === 1 ? row * rowLength + column : column * n + row);
  const integers = new Int8Array(n * k);
  for (let row = 0; row < n; row++) for (let i = 0; i < k; i++) integers[row * k + i] = numbers[place(row, i, length)]! - stored.middle;
  const [scales, zeros] = [new Float32Array(n * blocks), new Int8Array(n * blocks)];
  for (let row = 0; row < n; row++) {
    for (let i = 0; i < blocks; i++) {
      scales[row * blocks + i] = factors[place(row, i, allBlocks)]!;
      zeros[row * blocks + i] = (points ? points[place(row, i, allBlocks)]! : 0) - stored.middle;
    }
  }
  return { bits: stored.bits, size, k, integers, scales, zeros };
}

/** Whether the slice takes the beginning of the axis. */
function cutsTail(node: Node, axis: number): boolean {
  const [starts, , axes, steps] = node.inputs.slice(1).map((value) => (value?.elements as readonly number[] | undefined) ?? (value ? Array.from(constantNumbers(value) ?? [], Number) : undefined));
  return starts?.length === 1 && Number(starts[0]) === 0 && axes?.length === 1 && Number(axes[0]) === axis && (!steps || Number(steps[0]) === 1);
}

const bytesOf = (integers: Int8Array): Uint8Array => new Uint8Array(integers.buffer, integers.byteOffset, integers.byteLength);

function packed(integers: Int8Array, columns: number, bits: 4 | 8): Value {
  const k = integers.length / columns;
  if (bits === 8) return constantValue("int8", [columns, k], bytesOf(integers));
  const rowBytes = Math.ceil(k / 2);
  const bytes = new Uint8Array(columns * rowBytes);
  for (let row = 0; row < columns; row++) for (let i = 0; i < k; i++) bytes[row * rowBytes + (i >> 1)]! |= (integers[row * k + i]! & 15) << (4 * (i % 2));
  return constantValue("uint8", [columns, rowBytes], bytes);
}
