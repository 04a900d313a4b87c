/**
 * Copies the part of an image that a block of output pixels reads into scratch memory, with zeros where the padding
 * is. The register tile then needs no border cases: every tap of every pixel is there. A channels-first image becomes
 * channels-last on the way.
 */
import { assert } from "../../../base/index.ts";
import { mul } from "../../../ir/index.ts";
import { mem, type VReg } from "../function.ts";
import { copyRow } from "./copy.ts";
import { canInterleave, interleave } from "./interleave.ts";
import type { ConvShape } from "./conv-shape.ts";
import { type Conversion, copyWordRow } from "./copy-words.ts";
import { bytesOf } from "./products.ts";
import { zeroLanes } from "./zero-points.ts";
import type { KernelWriter, Local, Size } from "./writer.ts";

export interface PaddedBlock {
  /** Address of the image (of one batch, at the first channel that is copied). */
  readonly image: Local;
  /** Image row and column of the block's first element; may be negative. */
  readonly top: Local;
  readonly left: Local;
  /** Rows and columns to fill. */
  readonly rows: Local;
  readonly columns: Local;
  /** Channels copied, side by side in a pixel. */
  readonly channels: number;
  readonly to: Local;
  readonly rowPitch: number;
  readonly pixelPitch: number;
  readonly conversion: Conversion;
}

/** Elements that are spread per turn of the loop. */
const SPREAD = 8;

/** Writes up to one vector past the block's end. */
export function copyPadded(w: KernelWriter, shape: ConvShape, block: PaddedBlock): void {
  const zeros = w.local(w.max(0, w.min(w.sub(0, w.get(block.left)), w.get(block.columns))));
  const present = w.local(w.max(0, w.min(w.sub(w.get(block.columns), w.get(zeros)), w.sub(w.sub(w.size(shape.width), w.get(block.left)), w.get(zeros)))));
  const y = w.local(w.get(block.top));
  const target = w.local(w.get(block.to));
  w.count(0, w.get(block.rows), 1, () => {
    const outside = w.f.label("outside");
    const next = w.f.label("nextRow");
    w.f.emit("cmp", y.slot, 0);
    w.f.jump("lt", outside);
    w.f.emit("cmp", w.get(y), w.size(shape.height));
    w.f.jump("ge", outside);
    copyImageRow(w, shape, block, y, target, zeros, present);
    w.f.jump("always", next);
    w.f.bind(outside);
    fill(w, block.conversion, w.get(target), w.mul(w.get(block.columns), block.pixelPitch / 4));
    w.f.bind(next);
    w.f.emit("add", y.slot, 1);
    w.f.emit("add", target.slot, block.rowPitch);
  });
}

function copyImageRow(w: KernelWriter, shape: ConvShape, block: PaddedBlock, y: Local, target: Local, zeros: Local, present: Local): void {
  const pixelWords = block.pixelPitch / 4;
  const size = bytesOf(block.conversion.dtype);
  fill(w, block.conversion, w.get(target), w.mul(w.get(zeros), pixelWords));
  const x = w.max(0, w.get(block.left));
  const from = w.local(w.address(w.get(block.image), w.mul(w.get(y), w.size(mul(size, shape.inputStrides[1]))), w.mul(x, w.size(mul(size, shape.inputStrides[2])))));
  const to = w.local(w.address(w.get(target), w.mul(w.get(zeros), block.pixelPitch)));
  copyPixels(w, shape, block, from, to, present);
  const done = w.add(w.get(zeros), w.get(present));
  const right = w.address(w.get(target), w.mul(done, block.pixelPitch));
  fill(w, block.conversion, right, w.mul(w.sub(w.get(block.columns), done), pixelWords));
}

function copyPixels(w: KernelWriter, shape: ConvShape, block: PaddedBlock, from: Local, to: Local, present: Local): void {
  const [, , pixelStride, channelStride] = shape.inputStrides;
  const { channels, pixelPitch, conversion } = block;
  const isFloat = conversion.product.name === "float";
  const copiedBytes = 4 / conversion.product.perWord;
  const row = (count: Size): void => (isFloat ? copyRow(w, w.get(from), w.get(to), count) : copyWordRow(w, conversion, w.get(from), w.get(to), count));
  if (channelStride === 1 && pixelStride === channels && pixelPitch === copiedBytes * channels) {
    row(w.mul(w.get(present), channels));
  } else if (channelStride === 1) {
    w.count(0, w.get(present), 1, () => {
      row(channels);
      w.f.emit("add", from.slot, w.size(mul(bytesOf(conversion.dtype), pixelStride)));
      w.f.emit("add", to.slot, pixelPitch);
    });
  } else {
    assert(isFloat, "channels of other types than float32 lie side by side");
    const left = w.local(w.get(present));
    if (pixelStride === 1 && pixelPitch === 4 * channels && canInterleave(w, channels)) interleave(w, from, w.size(mul(4, channelStride)), to, channels, left);
    w.count(0, channels, 1, () => {
      if (pixelStride === 1) spread(w, w.get(from), w.get(to), pixelPitch, w.get(left));
      else w.copyElements(w.get(from), w.size(mul(4, pixelStride)), w.get(to), pixelPitch, w.get(left));
      w.f.emit("add", from.slot, w.size(mul(4, channelStride)));
      w.f.emit("add", to.slot, 4);
    });
  }
}

/** Copies floats that lie side by side to places `step` bytes apart, several at a time. Changes the registers. */
function spread(w: KernelWriter, from: VReg, to: VReg, step: number, left: VReg): void {
  const { f } = w;
  const element = f.vec("element");
  const some = (count: number): void => {
    for (let i = 0; i < count; i++) {
      f.emit("vmovss", element, mem(from, { disp: 4 * i }));
      f.emit("vmovss", mem(to, { disp: step * i }), element);
    }
    f.emit("add", from, 4 * count);
    f.emit("add", to, step * count);
    f.emit("sub", left, count);
  };
  const [many, rest, done] = [f.label("many"), f.label("rest"), f.label("spread")];
  f.bind(many);
  f.emit("cmp", left, SPREAD);
  f.jump("lt", rest);
  some(SPREAD);
  f.jump("always", many);
  f.bind(rest);
  f.emit("cmp", left, 0);
  f.jump("le", done);
  some(1);
  f.jump("always", rest);
  f.bind(done);
}

/** Writes what padding is, in whole vectors: bytes of the zero point where it is not subtracted yet, else zeros. Changes the register. */
function fill(w: KernelWriter, { product, zero }: Conversion, to: VReg, words: Size): void {
  const padding = product.name === "bytes" ? zeroLanes(w, zero, 8) : w.vectors.zero();
  const left = w.move(words);
  const top = w.f.label("padding");
  const done = w.f.label("padded");
  w.f.emit("cmp", left, 0);
  w.f.jump("le", done);
  w.f.bind(top);
  w.vectors.store(mem(to), padding);
  w.f.emit("add", to, w.vectorBytes);
  w.f.emit("sub", left, w.lanes);
  w.f.jump("gt", top);
  w.f.bind(done);
}
