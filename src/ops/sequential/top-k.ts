/**
 * TopK in time n log k: a heap of the k best so far, its worst on top, lies in the output of positions and is sorted
 * there. Of equal values the first counts as better. Source: ONNX TopK-24.
 */
import { add, mul, product, seq, type SequentialCode, type Variable } from "../../ir/index.ts";
import type { SequentialOperator } from "../contract.ts";
import { inputDims, normalizeAxis, numberAttribute, outputDims } from "../lower/operand.ts";
import { type Heap, heapify, siftDown } from "./heap.ts";
import { hasNumbers, isSymbol, kernelOf, linesOf } from "./kernel.ts";

const axisOf = (rank: number, given: number): number => normalizeAxis(given, rank);

export const topK: SequentialOperator = {
  supports(node) {
    if (!hasNumbers(node, 0) || inputDims(node, 0).length === 0 || node.inputs[1]?.dtype !== "int64") return false;
    return node.inputs[1].elements !== undefined || isSymbol(outputDims(node)[axisOf(inputDims(node, 0).length, numberAttribute(node, "axis", -1))]);
  },
  parts(node, memory) {
    const dims = inputDims(node, 0);
    const axis = axisOf(dims.length, numberAttribute(node, "axis", -1));
    const { outer, length, inner } = linesOf(dims, axis);
    const count = outputDims(node)[axis]!;
    const [x, values, positions] = [memory.input(0), memory.output(0), memory.output(1)];
    const sized = node.inputs[1]!.elements === undefined ? [{ kind: "size" as const, symbol: count, from: memory.input(1) }] : [];
    const isLargest = numberAttribute(node, "largest", 1) !== 0;
    const kernel = kernelOf("TopK", mul(outer, inner), [values, positions], add(product(dims), mul(16, product(outputDims(node)))), (code) => {
      const step = seq.size(inner);
      const block = code.let("block", inner === 1 ? seq.tile : seq.div(seq.tile, step));
      const within = code.let("within", inner === 1 ? 0 : seq.rem(seq.tile, step));
      const base = code.let("base", seq.add(seq.mul(block, seq.size(mul(length, inner))), within));
      const target = code.let("target", seq.add(seq.mul(block, seq.size(mul(count, inner))), within));
      const placeOf = (start: Variable) => (index: Variable) => seq.add(start, inner === 1 ? index : seq.mul(index, step));
      const heap: Heap = { code, entries: positions, entryAt: placeOf(target), itemAt: (position) => seq.at(x, placeOf(base)(position)), rootIsLargest: !isLargest, rootIsFirst: false };
      const kept = code.let("kept", seq.min(seq.size(count), seq.size(length)));
      code.if(seq.gt(kept, 0), () => {
        select(heap, kept, code.let("length", seq.size(length)), isLargest);
        code.for(0, kept, (i) => code.store(values, heap.entryAt(i), heap.itemAt(code.let("position", seq.at(positions, heap.entryAt(i))))));
      });
    });
    return [...sized, kernel];
  },
};

/** Leaves the positions of the best in the heap's memory, the best first. */
function select(heap: Heap, kept: Variable, length: Variable, isLargest: boolean): void {
  const { code, entries, entryAt, itemAt } = heap;
  code.for(0, kept, (i) => code.store(entries, entryAt(i), i));
  heapify(heap, kept);
  const worst = worstOf(heap, code);
  code.for(kept, length, (i) => {
    const value = code.let("value", itemAt(i));
    code.if((isLargest ? seq.gt : seq.lt)(value, worst), () => {
      siftDown(heap, 0, kept, i);
      code.set(worst, worstOf(heap, code));
    });
  });
  const end = code.let("end", seq.sub(kept, 1));
  code.while(seq.gt(end, 0), () => {
    const last = code.let("last", seq.at(entries, entryAt(end)));
    const root = code.let("root", 0);
    code.store(entries, entryAt(end), seq.at(entries, entryAt(root)));
    siftDown(heap, 0, end, last);
    code.set(end, seq.sub(end, 1));
  });
}

function worstOf({ entries, entryAt, itemAt }: Heap, code: SequentialCode): Variable {
  return code.let("worst", itemAt(code.let("position", seq.at(entries, entryAt(code.let("root", 0))))));
}
