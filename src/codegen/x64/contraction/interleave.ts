/**
 * Planes of an image to channels side by side, a vector of pixels at a time: each output vector takes its lanes from
 * every channel's vector by the same permutation, each under the mask of the lanes that are that channel's. AVX-512.
 */
import { mem, type VReg } from "../function.ts";
import type { KernelWriter, Local, Size } from "./writer.ts";

const LANES = 16;
const VECTOR_BYTES = 4 * LANES;

/** Whether pixels of so many channels are interleaved so. */
export function canInterleave(w: KernelWriter, channels: number): boolean {
  return w.f.isa.name === "avx512" && channels >= 2 && channels <= 4;
}

/** Interleaves whole vectors of pixels. Moves `from` and `to` past them and leaves in `count` how many pixels remain. */
export function interleave(w: KernelWriter, from: Local, channelBytes: Size, to: Local, channels: number, count: Local): void {
  const { f, vectors } = w;
  const step = w.keep(channelBytes);
  const outputs = Array.from({ length: channels }, (_, output) => shuffleOf(w, output, channels));
  const [top, done] = [f.label("interleave"), f.label("interleaved")];
  f.bind(top);
  f.emit("cmp", count.slot, LANES);
  f.jump("lt", done);
  const plane = w.get(from);
  const planes = Array.from({ length: channels }, (_, channel) => {
    const pixels = vectors.load(mem(plane));
    if (channel < channels - 1) f.emit("add", plane, w.value(step));
    return pixels;
  });
  const target = w.get(to);
  for (const [output, { pixels, masks }] of outputs.entries()) {
    const result = f.vec("interleaved");
    f.emit("vpermps", result, pixels, planes[0]!);
    masks.forEach((mask, i) => f.emitMasked("vpermps", mask, false, result, pixels, planes[i + 1]!));
    vectors.store(mem(target, { disp: output * VECTOR_BYTES }), result);
  }
  f.emit("add", from.slot, VECTOR_BYTES);
  f.emit("add", to.slot, VECTOR_BYTES * channels);
  f.emit("sub", count.slot, LANES);
  f.jump("always", top);
  f.bind(done);
}

/** For one output vector: which pixel each lane is of, and the lanes of every channel but the first. */
function shuffleOf(w: KernelWriter, output: number, channels: number): { readonly pixels: VReg; readonly masks: readonly VReg[] } {
  const { f, vectors } = w;
  const place = (lane: number): number => output * LANES + lane;
  const table = Int32Array.from({ length: LANES }, (_, lane) => Math.floor(place(lane) / channels));
  const pixels = vectors.load(f.constant(new Uint8Array(table.buffer), VECTOR_BYTES));
  const masks = Array.from({ length: channels - 1 }, (_, i) => {
    const mask = f.mask(`channel${i + 1}`);
    const lanes = Array.from({ length: LANES }, (_, lane): number => (place(lane) % channels === i + 1 ? 1 << lane : 0));
    f.emit("kmovw", mask, w.move(lanes.reduce((bits, bit) => bits | bit, 0)));
    return mask;
  });
  return { pixels, masks };
}
