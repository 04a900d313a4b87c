/** Row-major blocks inside larger ones: what padding writes and unpadding reads. */

/**
 * Copies a block of `dims` between two row-major arrays, of which it fills the leading corner.
 * @param from, to sizes of the arrays it lies in, same rank
 */
export function copyBlock(source: Uint8Array, from: readonly number[], target: Uint8Array, to: readonly number[], dims: readonly number[], elementBytes: number): void {
  // Axes at the end that all agree are one run of bytes.
  let inner = dims.length;
  let run = elementBytes;
  while (inner > 0) {
    run *= dims[inner - 1]!;
    inner--;
    if (from[inner] !== dims[inner] || to[inner] !== dims[inner]) break;
  }
  const strideOf = (sizes: readonly number[], axis: number): number => sizes.slice(axis + 1).reduce((product, size) => product * size, elementBytes);
  const walk = (axis: number, sourceAt: number, targetAt: number): void => {
    if (axis === inner) {
      target.set(source.subarray(sourceAt, sourceAt + run), targetAt);
      return;
    }
    const [sourceStep, targetStep] = [strideOf(from, axis), strideOf(to, axis)];
    for (let i = 0; i < dims[axis]!; i++) walk(axis + 1, sourceAt + i * sourceStep, targetAt + i * targetStep);
  };
  if (dims.every((dim) => dim > 0)) walk(0, 0, 0);
}

export function product(dims: readonly number[]): number {
  let result = 1;
  for (const dim of dims) result *= dim;
  return result;
}
