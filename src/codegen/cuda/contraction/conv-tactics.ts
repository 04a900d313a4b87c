/** Candidate ways to run a convolution on a GPU, best estimate first. */
import { type Bindings, type ConstantLookup, type ConvKernel, evaluate } from "../../../ir/index.ts";
import { type CudaArch, type CudaTactic, hasWarpgroups } from "../contract.ts";
import { convLoads, convOperands, convProblem, isPixelMappable } from "./conv.ts";
import { convShape, hasDenseOutput, isPointwise, packConvWeights, staysInside } from "./conv-shape.ts";
import { depthwiseTactics } from "./depthwise.ts";
import { ELEMENTS, operandsOf } from "./elements.ts";
import { KernelText } from "./kernel-text.ts";
import { ampereKernel, ampereTacticName } from "./matmul-ampere.ts";
import { hopperKernel, hopperTacticName } from "./matmul-hopper.ts";
import { ampereCandidates, ampereEstimate, hopperCandidates, hopperEstimate } from "./tile-candidates.ts";
import { isStorable } from "./output-text.ts";
import { isAligned } from "./tensor-map.ts";
import { isZero } from "./zero-points.ts";

/** Empty when the convolution is of a kind that is not generated, or its weights are not constant. */
export function convTactics(conv: ConvKernel, arch: CudaArch, constants: ConstantLookup, optimum: Bindings): CudaTactic[] {
  const shape = convShape(conv);
  const packed = shape && packConvWeights(conv, shape, constants);
  const operands = shape && packed && operandsOf(shape.element, packed.dtype);
  if (!operands || !hasDenseOutput(shape) || !isStorable(conv.output.dtype, conv.epilogue, ELEMENTS[operands[0]].sum)) return [];
  const direct = depthwiseTactics(conv, shape, arch, constants, optimum);
  if (direct.length > 0) return direct;
  // Padding is nothing once the zero point is subtracted; the copies fill in zeros.
  if (!isZero(conv.inputZero) && !staysInside(shape)) return [];
  const sizes = {
    batch: shape.groups, columns: shape.outputs,
    rows: evaluate(shape.batch, optimum) * evaluate(shape.outHeight, optimum) * evaluate(shape.outWidth, optimum),
    depthBytes: shape.kernel[0] * shape.kernel[1] * shape.inputs * ELEMENTS[shape.element].bytes,
  };
  const tactics: CudaTactic[] = [];
  const mapped = isPointwise(shape) ? shape.groups === 1 && shape.inputStrides[3] === 1 && isAligned(conv.input, [shape.inputStrides[2]], ELEMENTS[shape.element].bytes) : isPixelMappable(conv, shape);
  const half = !mapped && !isPointwise(shape) && isPixelMappable(conv, shape, 64);
  const stepBytes = half ? 64 : 128;
  if (hasWarpgroups(arch) && (mapped || half) && shape.element !== "float32") {
    for (const p of hopperCandidates(arch, sizes)) {
      tactics.push({ name: hopperTacticName(p), estimate: hopperEstimate(p, sizes, arch), compile: () => {
        const text = new KernelText(conv.output);
        return hopperKernel(text, convProblem(conv, shape, text, packed, stepBytes), convLoads(text, conv, shape, packed, p.tile, p.multicast, stepBytes), p, arch);
      } });
    }
  }
  for (const p of ampereCandidates(arch)) {
    tactics.push({ name: ampereTacticName(p), estimate: ampereEstimate(p, sizes, arch), compile: () => {
      const text = new KernelText(conv.output);
      return ampereKernel(text, convProblem(conv, shape, text, packed), convOperands(text, conv, shape, packed), p);
    } });
  }
  return tactics.sort((a, b) => a.estimate - b.estimate);
}
