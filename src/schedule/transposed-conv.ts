/**
 * A transposed convolution as ordinary ones. Output positions that leave the same remainder when divided by the stride
 * read the image through the same taps, one image element apart: per dimension and remainder a convolution of stride 1
 * whose results lie `stride` apart.
 *
 * Output o takes tap k from image element (o + pad - k * dilation) / stride, where that is whole (ONNX ConvTranspose-22).
 */
import { assert } from "../base/index.ts";
import { ceilDiv, type Dim, isStatic, type Node, sub, Value } from "../ir/index.ts";

export interface ConvPhase {
  /** In a convolution's order: [outChannels, inChannels / groups, ...kernel]. */
  readonly weights: Value;
  readonly kernel: readonly number[];
  readonly dilations: readonly number[];
  readonly pads: readonly number[];
  /** Per spatial dimension: first output position, and how many there are, `strides` apart. */
  readonly starts: readonly number[];
  readonly counts: readonly Dim[];
  readonly strides: readonly number[];
}

/** Output positions of one dimension that share their taps, in ascending order of what they read. */
interface PhaseAxis {
  readonly start: number;
  readonly taps: readonly number[];
  readonly dilation: number;
  readonly pad: number;
}

/** Channels-last, with constant weights and pads that are written out. */
export function isNativeTransposedConv(node: Node): boolean {
  const weights = node.inputs[1];
  const spatial = (weights?.dims?.length ?? 0) - 2;
  const { attributes } = node;
  return attributes["layout"] === "NHWC" && weights?.constant !== undefined && isStatic(weights.dims ?? []) && (spatial === 1 || spatial === 2)
    && ((attributes["auto_pad"] as string | undefined) ?? "NOTSET") === "NOTSET" && attributes["output_shape"] === undefined;
}

export function convPhases(node: Node): ConvPhase[] {
  const weights = node.inputs[1]!;
  const kernel = weights.dims!.slice(2) as number[];
  const list = (name: string, missing: number): number[] => ((node.attributes[name] as number[] | undefined) ?? kernel.map(() => missing));
  const [strides, dilations, pads] = [list("strides", 1), list("dilations", 1), list("pads", 0)];
  const outputs = node.outputs[0]!.dims!.slice(1, -1);
  const axes = kernel.map((size, d) => Array.from({ length: strides[d]! }, (_, remainder) => phaseAxis(size, strides[d]!, dilations[d]!, pads[d]!, remainder)));
  const combinations = axes.reduce<PhaseAxis[][]>((heads, options) => heads.flatMap((head) => options.map((axis) => [...head, axis])), [[]]);
  return combinations.map((phase) => ({
    weights: phaseWeights(weights, phase, (node.attributes["group"] as number | undefined) ?? 1),
    kernel: phase.map((axis) => Math.max(1, axis.taps.length)),
    dilations: phase.map((axis) => axis.dilation),
    pads: phase.map((axis) => axis.pad),
    starts: phase.map((axis) => axis.start),
    counts: phase.map((axis, d) => ceilDiv(sub(outputs[d]!, axis.start), strides[d]!)),
    strides,
  }));
}

function phaseAxis(kernel: number, stride: number, dilation: number, pad: number, remainder: number): PhaseAxis {
  const start = (((remainder - pad) % stride) + stride) % stride;
  const taps = Array.from({ length: kernel }, (_, k) => k).filter((k) => (start + pad - k * dilation) % stride === 0).reverse();
  if (taps.length === 0) return { start, taps, dilation: 1, pad: 0 };
  const apart = taps.length > 1 ? ((taps[0]! - taps[1]!) * dilation) / stride : 1;
  return { start, taps, dilation: apart, pad: (taps[0]! * dilation - start - pad) / stride };
}

/** The phase's taps; a phase without taps gets one of zeros. */
function phaseWeights(weights: Value, phase: readonly PhaseAxis[], groups: number): Value {
  const [inputs, groupOutputs, ...kernel] = weights.dims as number[];
  const groupInputs = inputs! / groups;
  const taps = tapPositions(phase, kernel);
  const dims = [groupOutputs! * groups, groupInputs, ...phase.map((axis) => Math.max(1, axis.taps.length))];
  const bytes = weights.constant!.bytes;
  const source = new Float32Array(new Uint8Array(bytes).buffer);
  const packed = new Float32Array(dims.reduce((a, b) => a * b, 1));
  const size = kernel.reduce((a, b) => a * b, 1);
  let at = 0;
  for (let output = 0; output < dims[0]!; output++) {
    const group = Math.floor(output / groupOutputs!);
    for (let input = 0; input < groupInputs; input++) {
      const from = ((group * groupInputs + input) * groupOutputs! + (output % groupOutputs!)) * size;
      for (const tap of taps) packed[at++] = tap === undefined ? 0 : source[from + tap]!;
    }
  }
  assert(at === packed.length, `the weights of "${weights.name}" do not fit their phase`);
  const value = new Value(`${weights.name}@${phase.map((axis) => axis.start).join(",")}`, "float32", dims);
  value.constant = { bytes: new Uint8Array(packed.buffer) };
  return value;
}

/** Row-major positions in the kernel, in the phase's order; undefined where there is no tap. */
function tapPositions(phase: readonly PhaseAxis[], kernel: readonly number[]): (number | undefined)[] {
  return phase.reduce<(number | undefined)[]>((heads, axis, d) => {
    const taps: readonly (number | undefined)[] = axis.taps.length > 0 ? axis.taps : [undefined];
    return heads.flatMap((head) => taps.map((tap) => (head === undefined || tap === undefined ? undefined : head * kernel[d]! + tap)));
  }, [0]);
}
