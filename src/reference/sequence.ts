/** Sequences and optionals: lists of host values, never copied. A full optional is its content, an empty one undefined. */
import { assert, Tensor, UserError } from "../base/index.ts";
import { intAttribute } from "./arguments.ts";
import type { HostSequence, HostValue, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { int64Tensor, integersOf, scalarAt, tensorAt } from "./elements.ts";
import { concatenate, sliceAxis } from "./moving.ts";
import { stack } from "./stacking.ts";
import { normalizeAxis, normalizeIndex } from "./strides.ts";

function itemsAt(inputs: readonly HostValue[], index: number): readonly HostValue[] {
  const value = inputs[index];
  if (value === undefined || value instanceof Tensor) throw new UserError("input-invalid", `Input ${index} is ${value ? "a tensor" : "absent"}; expected a sequence.`);
  return value.sequence;
}

const sequenceOf = (sequence: readonly HostValue[]): HostSequence => ({ sequence });

const insert: ReferenceOperator = (inputs) => {
  const items = itemsAt(inputs, 0);
  const at = scalarAt(inputs, 2, items.length);
  // One position more than there are elements: the end.
  const place = at === items.length ? at : normalizeIndex(at, items.length);
  return [sequenceOf([...items.slice(0, place), inputs[1], ...items.slice(place)])];
};

const erase: ReferenceOperator = (inputs) => {
  const items = itemsAt(inputs, 0);
  const at = normalizeIndex(scalarAt(inputs, 1, -1), items.length);
  return [sequenceOf(items.filter((_, i) => i !== at))];
};

/** A scalar split is the size of every piece but perhaps the last; without one, pieces of 1 lose the axis unless kept. */
const splitToSequence: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const axis = normalizeAxis(intAttribute(attributes, "axis", 0), x.dims.length);
  const size = x.dims[axis]!;
  const split = inputs[1] instanceof Tensor ? inputs[1] : undefined;
  const each = split && split.dims.length > 0 ? undefined : scalarAt(inputs, 1, 1);
  const sizes = each === undefined ? integersOf(split!) : Array.from({ length: Math.ceil(size / each) }, (_, i) => Math.min(each, size - i * each));
  let at = 0;
  const pieces = sizes.map((count) => {
    at += count;
    return sliceAxis(x, axis, at - count, count);
  });
  const drop = !split && intAttribute(attributes, "keepdims", 1) === 0;
  return [sequenceOf(drop ? pieces.map((piece) => piece.reshape(piece.dims.filter((_, i) => i !== axis))) : pieces)];
};

const concatFromSequence: ReferenceOperator = (inputs, attributes) => {
  const tensors = itemsAt(inputs, 0).map((item) => {
    assert(item instanceof Tensor, "a sequence of tensors");
    return item;
  });
  const first = tensors[0];
  if (!first) throw new UserError("input-invalid", "ConcatFromSequence of an empty sequence; expected at least one tensor.");
  const axis = intAttribute(attributes, "axis", 0);
  if (intAttribute(attributes, "new_axis", 0) !== 0) return [stack(tensors, axis)];
  return [concatenate(tensors, normalizeAxis(axis, first.dims.length))];
};

const getElement: ReferenceOperator = (inputs) => {
  if (inputs[0] === undefined) throw new UserError("input-invalid", "OptionalGetElement of an empty optional; expected one with a value.");
  return [inputs[0]];
};

export const sequenceOperators: ReferenceTable = {
  ConcatFromSequence: concatFromSequence,
  Optional: (inputs) => [inputs[0]],
  OptionalGetElement: getElement,
  OptionalHasElement: (inputs) => [new Tensor("bool", Uint8Array.of(inputs[0] === undefined ? 0 : 1), [])],
  SequenceAt: (inputs) => {
    const items = itemsAt(inputs, 0);
    return [items[normalizeIndex(scalarAt(inputs, 1, 0), items.length)]];
  },
  SequenceConstruct: (inputs) => [sequenceOf(inputs)],
  SequenceEmpty: () => [sequenceOf([])],
  SequenceErase: erase,
  SequenceInsert: insert,
  SequenceLength: (inputs) => [int64Tensor([itemsAt(inputs, 0).length], [])],
  SplitToSequence: splitToSequence,
};
