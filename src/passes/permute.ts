/** Values in another order of axes or with other dims, with no node where none is needed. */
import { constantValue, type Dim, dimsEqual, isStatic, type Value } from "../ir/index.ts";
import { isIdentity, permOf, shapeOperand } from "./attributes.ts";
import type { Editor } from "./editor.ts";
import { isReshape } from "./simplify.ts";

/** Whether the value is made by a Transpose of something that is computed; one of a constant is a constant in waiting. */
export function isTransposed(value: Value | undefined): value is Value {
  const node = value?.producer;
  return node?.op === "Transpose" && node.domain === "" && value?.dims !== undefined && node.inputs[0]?.dims !== undefined && !node.inputs[0].constant;
}

/** The transposed value, without a node where one exists already or none is needed. */
export function transposed(editor: Editor, value: Value, perm: readonly number[]): Value {
  if (isIdentity(perm)) return value;
  if (!isTransposed(value)) return editor.emit("Transpose", [value], { perm: [...perm] });
  const before = value.producer!;
  return transposed(editor, before.inputs[0]!, compose(permOf(before), perm));
}

/** The order that Transpose(first), then Transpose(second) makes. */
export function compose(first: readonly number[], second: readonly number[]): number[] {
  return second.map((axis) => first[axis]!);
}

/** The value with other dims and the same elements in the same order. */
export function reshaped(editor: Editor, value: Value, dims: readonly Dim[]): Value {
  if (dimsEqual(value.dims ?? [], dims)) return value;
  if (value.constant && isStatic(dims)) {
    const made = constantValue(value.dtype!, dims, value.constant.bytes, `${value.name}.reshaped`);
    made.constant = value.constant;
    return made;
  }
  const before = value.producer;
  if (isReshape(before) && before.inputs[0]?.dims) return reshaped(editor, before.inputs[0], dims);
  return editor.emit("Reshape", [value, shapeOperand(dims)], { allowzero: 1 });
}

/** Whether the order only moves dimensions of size 1, so that the elements stay where they are. */
export function movesNothing(dims: readonly Dim[], perm: readonly number[]): boolean {
  const kept = perm.filter((axis) => dims[axis] !== 1);
  return kept.every((axis, i) => i === 0 || kept[i - 1]! < axis);
}
