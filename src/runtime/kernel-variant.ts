/** Which of several kernels that do the same runs at a bound shape: the one made for that much work. */
import type { ManifestKernel } from "../engine/index.ts";

/** @param values every size of the program at the shape */
export function variantAt(kernel: ManifestKernel, values: Float64Array): ManifestKernel {
  const work = values[kernel.flops]!;
  const found = kernel.larger?.findLast(({ from }) => work >= from);
  if (!found) return kernel;
  const { from: _, tactic, ...code } = found;
  return { ...kernel, ...code, label: { ...kernel.label, tactic } };
}
