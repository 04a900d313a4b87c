/**
 * Which kernels of a segment wait for which: only those that touch the same memory, one of them writing. What is left
 * runs side by side (a layer's queries, keys and values), which matters most where one kernel does not fill the GPU.
 */

/** Bytes that a kernel reads or writes, as they lie on the device. */
export interface Access {
  readonly begin: number;
  readonly end: number;
  readonly isWritten: boolean;
}

/** @returns for each kernel the earlier ones it waits for; those that these wait for themselves are left out */
export function waitsFor(kernels: readonly (readonly Access[])[]): number[][] {
  /** Per kernel, 1 where an earlier one has ended before it begins. */
  const before: Uint8Array[] = [];
  return kernels.map((accesses, index) => {
    const ended = new Uint8Array(index);
    const direct: number[] = [];
    for (let earlier = index - 1; earlier >= 0; earlier--) {
      if (ended[earlier] === 1 || !conflict(kernels[earlier]!, accesses)) continue;
      direct.push(earlier);
      ended[earlier] = 1;
      before[earlier]!.forEach((value, i) => { ended[i]! |= value; });
    }
    before.push(ended);
    return direct;
  });
}

function conflict(a: readonly Access[], b: readonly Access[]): boolean {
  return a.some((x) => b.some((y) => (x.isWritten || y.isWritten) && x.begin < y.end && y.begin < x.end));
}
