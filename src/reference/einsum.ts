/**
 * Einsum: the output's labels and the summed labels each make a table of positions for every operand; a result is the
 * sum of products over the second at each of the first. Source: ONNX Einsum-12.
 */
import { elementCount, newArray, Tensor, UserError } from "../base/index.ts";
import { stringAttribute } from "./arguments.ts";
import { throughInt64 } from "./cast.ts";
import type { ReferenceOperator, ReferenceTable } from "./contract.ts";
import { type BigArray, bigsOf, isBig, newNumbers, numbersOf, tensorAt, tensorOf } from "./elements.ts";
import { stridedTable, stridesOf } from "./strides.ts";

/** Labels of each axis; those an ellipsis stands for are "...0", "...1" counted from the end. */
function labelsOf(term: string, rank: number): string[] {
  const [before = "", after] = term.split("...");
  if (after === undefined) return [...before];
  const hidden = rank - before.length - after.length;
  return [...before, ...Array.from({ length: hidden }, (_, i) => `...${hidden - 1 - i}`), ...after];
}

interface Equation {
  readonly operands: readonly (readonly string[])[];
  readonly output: readonly string[];
}

function parse(equation: string, tensors: readonly Tensor[]): Equation {
  const [left = "", right] = equation.replaceAll(" ", "").split("->");
  const terms = left.split(",");
  if (terms.length !== tensors.length) throw new UserError("model-invalid", `Einsum "${equation}" has ${terms.length} terms; the node has ${tensors.length} inputs.`);
  const operands = terms.map((term, i) => labelsOf(term, tensors[i]!.dims.length));
  const all = operands.flat();
  const hidden = [...new Set(all.filter((label) => label.length > 1))].sort((a, b) => Number(b.slice(3)) - Number(a.slice(3)));
  if (right === undefined) {
    const single = [...new Set(all)].filter((label) => label.length === 1 && all.indexOf(label) === all.lastIndexOf(label)).sort();
    return { operands, output: [...hidden, ...single] };
  }
  const [before = "", after] = right.split("...");
  return { operands, output: after === undefined ? [...before] : [...before, ...hidden, ...after] };
}

function sizesOf(operands: Equation["operands"], tensors: readonly Tensor[]): Map<string, number> {
  const sizes = new Map<string, number>();
  operands.forEach((labels, t) => labels.forEach((label, axis) => {
    const size = tensors[t]!.dims[axis]!;
    const known = sizes.get(label) ?? 1;
    if (known !== 1 && size !== 1 && known !== size) throw new UserError("input-invalid", `Einsum: label "${label}" has sizes ${known} and ${size}.`);
    sizes.set(label, known === 1 ? size : known);
  }));
  return sizes;
}

/** How far one step of each label goes in a tensor; a label that stands twice walks the diagonal. */
function stridesBy(labels: readonly string[], tensor: Tensor, wanted: readonly string[]): number[] {
  const own = stridesOf(tensor.dims);
  return wanted.map((label) => labels.reduce((sum, other, axis) => sum + (other === label && tensor.dims[axis] !== 1 ? own[axis]! : 0), 0));
}

function sumProducts<T extends number | bigint>(data: readonly ArrayLike<T>[], outer: readonly Int32Array[], inner: readonly Int32Array[], to: { [index: number]: T }, zero: T, add: (a: T, b: T) => T, multiply: (a: T, b: T) => T): void {
  const [count, terms] = [outer[0]!.length, inner[0]!.length];
  for (let i = 0; i < count; i++) {
    let sum = zero;
    for (let j = 0; j < terms; j++) {
      let product = data[0]![outer[0]![i]! + inner[0]![j]!]!;
      for (let t = 1; t < data.length; t++) product = multiply(product, data[t]![outer[t]![i]! + inner[t]![j]!]!);
      sum = add(sum, product);
    }
    to[i] = sum;
  }
}

const einsum: ReferenceOperator = (inputs, attributes) => {
  const tensors = inputs.map((_, i) => tensorAt(inputs, i));
  const { operands, output } = parse(stringAttribute(attributes, "equation", ""), tensors);
  const sizes = sizesOf(operands, tensors);
  const summed = [...sizes.keys()].filter((label) => !output.includes(label));
  const dimsOf = (labels: readonly string[]): number[] => labels.map((label) => sizes.get(label) ?? 1);
  const dims = dimsOf(output);
  const tables = (labels: readonly string[]): Int32Array[] => tensors.map((tensor, t) => stridedTable(dimsOf(labels), stridesBy(operands[t]!, tensor, labels)));
  const [outer, inner] = [tables(output), tables(summed)];
  const { type } = tensors[0]!;
  if (isBig(type)) {
    const to = newArray(type, elementCount(dims)) as BigArray;
    sumProducts<bigint>(tensors.map(bigsOf), outer, inner, to, 0n, (a, b) => a + b, (a, b) => a * b);
    return [new Tensor(type, to, dims)];
  }
  const to = newNumbers(type, elementCount(dims));
  sumProducts<number>(tensors.map(numbersOf), outer, inner, to, 0, (a, b) => a + b, (a, b) => a * b);
  return [tensorOf(type, to, dims)];
};

export const einsumOperators: ReferenceTable = { Einsum: throughInt64(einsum) };
