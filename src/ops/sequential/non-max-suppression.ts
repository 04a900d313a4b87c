/**
 * NonMaxSuppression: for each image and class, boxes leave a heap in order of their scores and are kept unless they
 * overlap a kept one too much. The corners of kept boxes lie side by side, and most pairs part at the first axis.
 * Images and classes run side by side; then the kept boxes are counted and listed.
 * Source: ONNX NonMaxSuppression-11.
 */
import { type Buffer, type Dim, mul, type Node, seq, type SequentialCode, type SequentialExpr, type Variable } from "../../ir/index.ts";
import type { SequentialMemory, SequentialOperator } from "../contract.ts";
import { hasInput, inputDims, numberAttribute, outputDims } from "../lower/operand.ts";
import { type Heap, heapify, siftDown } from "./heap.ts";
import { isSymbol, kernelOf } from "./kernel.ts";

interface Corners { readonly low: readonly [Variable, Variable]; readonly high: readonly [Variable, Variable] }

export const nonMaxSuppression: SequentialOperator = {
  supports: (node) => node.inputs[0]?.dtype === "float32" && node.inputs[1]?.dtype === "float32" && node.inputs[0].dims?.length === 3 && node.inputs[1].dims?.length === 3 && isSymbol(outputDims(node)[0]),
  parts(node, memory) {
    const [batch, classes, boxes] = inputDims(node, 1) as [Dim, Dim, Dim];
    const groups = mul(batch, classes);
    const found = outputDims(node)[0]!;
    const [order, kept, counts, total] = [memory.temporary("order", "int64", [groups, boxes]), memory.temporary("kept", "int64", [groups, boxes]), memory.temporary("counts", "int64", [groups]), memory.temporary("total", "int64", [1])];
    const edges = memory.temporary("edges", "float32", [groups, boxes, 4]);
    const choose = kernelOf("NonMaxSuppression.choose", groups, [order, kept, counts, edges], mul(groups, boxes, 64), (code) => chooseBoxes(code, node, memory, { order, kept, counts, edges }));
    const count = kernelOf("NonMaxSuppression.count", 1, [total], groups, (code) => {
      const sum = code.let("sum", 0);
      code.for(0, seq.size(groups), (group) => code.set(sum, seq.add(sum, seq.at(counts, group))));
      code.store(total, 0, sum);
    });
    const rows = memory.output(0);
    const list = kernelOf("NonMaxSuppression", 1, [rows], groups, (code) => {
      const row = code.let("row", 0);
      code.for(0, seq.size(groups), (group) => code.for(0, seq.at(counts, group), (i) => code.if(seq.lt(row, seq.size(found)), () => {
        const at = code.let("at", seq.mul(row, 3));
        code.store(rows, at, seq.div(group, seq.size(classes)));
        code.store(rows, seq.add(at, 1), seq.rem(group, seq.size(classes)));
        code.store(rows, seq.add(at, 2), seq.at(kept, seq.add(seq.mul(group, seq.size(boxes)), i)));
        code.set(row, seq.add(row, 1));
      })));
    });
    return [choose, count, { kind: "size", symbol: found, from: total }, list];
  },
};

interface Lists {
  readonly order: Buffer;
  readonly kept: Buffer;
  readonly counts: Buffer;
  /** Of kept boxes: low and high of the first axis, low and high of the second. */
  readonly edges: Buffer;
}

function chooseBoxes(code: SequentialCode, node: Node, memory: SequentialMemory, { order, kept, counts, edges }: Lists): void {
  const [, classes, boxes] = inputDims(node, 1);
  const [boxBuffer, scores] = [memory.input(0), memory.input(1)];
  const count = code.let("count", seq.size(boxes!));
  const base = code.let("base", seq.mul(seq.tile, count));
  const firstBox = code.let("firstBox", seq.mul(seq.div(seq.tile, seq.size(classes!)), count));
  const scoreOf = (box: Variable): SequentialExpr => seq.at(scores, seq.add(base, box));
  const candidates = candidatesOf(code, count, scoreOf, hasInput(node, 4) ? code.let("lowest", seq.at(memory.input(4), 0)) : undefined, (entry, box) => code.store(order, seq.add(base, entry), box));
  const heap: Heap = { code, entries: order, entryAt: (entry) => seq.add(base, entry), itemAt: scoreOf, rootIsLargest: true, rootIsFirst: true };
  heapify(heap, candidates);
  const most = code.let("most", hasInput(node, 2) ? seq.at(memory.input(2), 0) : 0);
  const limit = code.let("limit", hasInput(node, 3) ? seq.at(memory.input(3), 0) : seq.number("f32", 0));
  const isCentred = numberAttribute(node, "center_point_box", 0) === 1;
  const chosen = code.let("chosen", 0);
  code.while(seq.all(seq.gt(candidates, 0), seq.lt(chosen, most)), () => {
    const best = takeRoot(heap, candidates);
    const corners = readCorners(code, boxBuffer, seq.mul(seq.add(firstBox, best), 4), isCentred);
    const stands = code.let("stands", 1);
    const other = code.let("other", seq.mul(base, 4));
    const end = code.let("end", seq.mul(seq.add(base, chosen), 4));
    code.while(seq.all(seq.lt(other, end), seq.eq(stands, 1)), () => {
      suppress(code, corners, edges, other, limit, stands);
      code.set(other, seq.add(other, 4));
    });
    code.if(seq.eq(stands, 1), () => {
      code.store(kept, seq.add(base, chosen), best);
      [corners.low[0], corners.high[0], corners.low[1], corners.high[1]].forEach((edge, i) => code.store(edges, seq.add(end, i), edge));
      code.set(chosen, seq.add(chosen, 1));
    });
  });
  code.store(counts, seq.tile, chosen);
}

/** Lists the boxes above the lowest score; answers how many there are. */
function candidatesOf(code: SequentialCode, count: Variable, scoreOf: (box: Variable) => SequentialExpr, lowest: Variable | undefined, note: (entry: Variable, box: Variable) => void): Variable {
  const candidates = code.let("candidates", 0);
  code.for(0, count, (box) => {
    const take = (): void => {
      note(candidates, box);
      code.set(candidates, seq.add(candidates, 1));
    };
    if (lowest) code.if(seq.gt(scoreOf(box), lowest), take);
    else take();
  });
  return candidates;
}

function takeRoot(heap: Heap, size: Variable): Variable {
  const { code, entries, entryAt } = heap;
  const root = code.let("best", seq.at(entries, entryAt(code.let("root", 0))));
  code.set(size, seq.sub(size, 1));
  code.if(seq.gt(size, 0), () => siftDown(heap, 0, size, code.let("last", seq.at(entries, entryAt(size)))));
  return root;
}

/** [y1, x1, y2, x2] with any two opposite corners, or [x, y, width, height] around a centre. */
function readCorners(code: SequentialCode, boxes: Buffer, at: SequentialExpr, isCentred: boolean): Corners {
  const place = code.let("place", at);
  const [a, b, c, d] = [0, 1, 2, 3].map((i) => code.let("edge", seq.at(boxes, seq.add(place, i)))) as [Variable, Variable, Variable, Variable];
  const pair = (first: SequentialExpr, second: SequentialExpr): readonly [Variable, Variable] => [code.let("edge", first), code.let("edge", second)];
  if (isCentred) {
    const half = (size: Variable): SequentialExpr => seq.mul(size, 0.5);
    return { low: pair(seq.sub(b, half(d)), seq.sub(a, half(c))), high: pair(seq.add(b, half(d)), seq.add(a, half(c))) };
  }
  return { low: pair(seq.min(a, c), seq.min(b, d)), high: pair(seq.max(a, c), seq.max(b, d)) };
}

/** Sets `stands` to 0 when the common area of a box and the kept one at `at` is more than `limit` of what they cover together. */
function suppress(code: SequentialCode, box: Corners, edges: Buffer, at: Variable, limit: Variable, stands: Variable): void {
  const edge = (which: number): Variable => code.let("edge", seq.at(edges, seq.add(at, which)));
  const common = (axis: 0 | 1, low: Variable, high: Variable): Variable => code.let("side", seq.sub(seq.min(box.high[axis], high), seq.max(box.low[axis], low)));
  const [low0, high0] = [edge(0), edge(1)];
  const height = common(0, low0, high0);
  code.if(seq.gt(height, 0), () => {
    const [low1, high1] = [edge(2), edge(3)];
    const width = common(1, low1, high1);
    code.if(seq.gt(width, 0), () => {
      const own = seq.mul(seq.sub(box.high[0], box.low[0]), seq.sub(box.high[1], box.low[1]));
      const other = seq.mul(seq.sub(high0, low0), seq.sub(high1, low1));
      const both = code.let("both", seq.mul(height, width));
      code.if(seq.gt(seq.div(both, seq.sub(seq.add(own, other), both)), limit), () => code.set(stands, 0));
    });
  });
}
