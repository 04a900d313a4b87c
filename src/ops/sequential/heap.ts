/** A binary heap in memory: positions of elements in order of their values, equal ones in order of position. */
import { type Buffer, seq, type SequentialCode, type SequentialExpr, type Variable } from "../../ir/index.ts";

export interface Heap {
  readonly code: SequentialCode;
  /** The element's value by its position. */
  readonly itemAt: (position: Variable) => SequentialExpr;
  /** Where the heap's entry lies: int64 positions. */
  readonly entries: Buffer;
  readonly entryAt: (entry: Variable) => SequentialExpr;
  /** Whether the root is the largest value (the smallest otherwise). Of equal values, `rootIsFirst` says which position is above. */
  readonly rootIsLargest: boolean;
  readonly rootIsFirst: boolean;
}

interface Element { readonly value: Variable; readonly position: Variable }

/** The element whose position the heap holds at `entry`. */
function elementAt({ code, entries, entryAt, itemAt }: Heap, entry: Variable): Element {
  const position = code.let("position", seq.at(entries, entryAt(entry)));
  return { position, value: code.let("value", itemAt(position)) };
}

/** 1 when element a belongs above element b. */
function isAbove(heap: Heap, a: Element, b: Element): Variable {
  const { code, rootIsLargest, rootIsFirst } = heap;
  const above = code.let("above", 0);
  code.if((rootIsLargest ? seq.gt : seq.lt)(a.value, b.value), () => code.set(above, 1));
  code.if(seq.all(seq.eq(a.value, b.value), (rootIsFirst ? seq.lt : seq.gt)(a.position, b.position)), () => code.set(above, 1));
  return above;
}

/** Puts a position into the heap of `size` entries at entry `from`, or below it where it belongs. */
export function siftDown(heap: Heap, from: Variable | number, size: Variable, position: Variable): void {
  const { code, entries, entryAt, itemAt } = heap;
  const entry = code.let("entry", from);
  const value = code.let("value", itemAt(position));
  const going = code.let("going", 1);
  code.while(seq.eq(going, 1), () => {
    const child = code.let("child", seq.add(seq.mul(entry, 2), 1));
    code.set(going, 0);
    code.if(seq.lt(child, size), () => {
      const best = elementAt(heap, child);
      const next = code.let("next", seq.add(child, 1));
      code.if(seq.lt(next, size), () => {
        const other = elementAt(heap, next);
        code.if(seq.eq(isAbove(heap, other, best), 1), () => {
          code.set(child, next);
          code.set(best.position, other.position);
          code.set(best.value, other.value);
        });
      });
      code.if(seq.eq(isAbove(heap, best, { value, position }), 1), () => {
        code.store(entries, entryAt(entry), best.position);
        code.set(entry, child);
        code.set(going, 1);
      });
    });
  });
  code.store(entries, entryAt(entry), position);
}

/** Orders the first `size` entries as a heap. */
export function heapify(heap: Heap, size: Variable): void {
  const { code, entries, entryAt } = heap;
  const at = code.let("at", seq.sub(seq.div(size, 2), 1));
  code.while(seq.ge(at, 0), () => {
    siftDown(heap, at, size, code.let("position", seq.at(entries, entryAt(at))));
    code.set(at, seq.sub(at, 1));
  });
}
