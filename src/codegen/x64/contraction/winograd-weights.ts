/** Which convolutions can be done by minimal filtering, and their weights, transformed when the engine is built. */
import type { ConstantLookup, ConvKernel, PackedData } from "../../../ir/index.ts";
import type { ConvShape } from "./conv-shape.ts";
import { PANEL_COLUMNS } from "./panels.ts";
import { transformFilter, type WinogradSize } from "./winograd-transform.ts";

/** Elements of a transformed tile. */
export function winogradElements(size: WinogradSize): number {
  return (size + 2) ** 2;
}

/** Whether the convolution can be done so: 3x3, dense, of whole panels of channels that lie side by side. */
export function fitsWinograd(shape: ConvShape): boolean {
  const isSame = (pair: readonly number[], value: number): boolean => pair.every((one) => one === value);
  return shape.spatialDims === 2 && shape.groups === 1 && isSame(shape.kernel, 3) && isSame(shape.stride, 1) && isSame(shape.dilation, 1)
    && shape.channels % PANEL_COLUMNS === 0 && shape.outChannels % PANEL_COLUMNS === 0 && !shape.channelsFirst
    && shape.inputStrides[3] === 1 && shape.outputStrides[3] === 1 && typeof shape.outputStrides[2] === "number";
}

/** Transformed weights: per element of the transformed tile, panels of 16 output channels, `[element][panel][channel][16]`. */
export function packWinograd(kernel: ConvKernel, shape: ConvShape, constants: ConstantLookup, size: WinogradSize): PackedData | undefined {
  const source = constants(kernel.weights);
  if (!source) return undefined;
  const { channels, outChannels } = shape;
  const elements = winogradElements(size);
  return {
    key: `winograd${size}:${kernel.weights.name}:${outChannels}x${channels}`,
    sizeBytes: 4 * elements * channels * outChannels,
    write(into) {
      const from = new Float32Array(new Uint8Array(source).buffer, 0, channels * outChannels * 9);
      const to = new Float32Array(into.buffer, into.byteOffset, into.byteLength >>> 2);
      const filter = new Float64Array(elements);
      for (let output = 0; output < outChannels; output++) {
        for (let channel = 0; channel < channels; channel++) {
          transformFilter(size, from, (output * channels + channel) * 9, filter);
          const at = (Math.floor(output / PANEL_COLUMNS) * channels + channel) * PANEL_COLUMNS + (output % PANEL_COLUMNS);
          for (let element = 0; element < elements; element++) to[element * channels * outChannels + at] = filter[element]!;
        }
      }
    },
  };
}
