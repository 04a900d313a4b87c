/** Sums of unsigned bytes that begin at what the zero point, and A's flipped sign bits, are worth in each column. */
import type { VReg } from "../function.ts";
import { mem } from "../function.ts";
import type { SumStart } from "./matmul-operands.ts";
import type { RegisterTile } from "./microkernel.ts";
import type { Product } from "./products.ts";
import type { KernelWriter, Size } from "./writer.ts";
import { zeroRegister } from "./zero-points.ts";

/** @param column the tile's first column among those of the packed sums */
export function startSums(w: KernelWriter, tile: RegisterTile, start: SumStart | undefined, product: Product, column: Size): void {
  if (!start) {
    tile.zero();
    return;
  }
  tile.start(startVectors(w, start, product, placeOf(w, start, column), tile.vectors));
}

/** Address of what the sums of these columns begin at: where it is packed, or in the frame once it is multiplied. */
export function startValues(w: KernelWriter, start: SumStart, product: Product, column: Size, vectors: number): VReg {
  const place = placeOf(w, start, column);
  if (!start.zero) return place;
  const slot = w.f.stackSlot(vectors * w.vectorBytes);
  startVectors(w, start, product, place, vectors).forEach((sums, v) => w.vectors.store({ ...slot, disp: v * w.vectorBytes }, sums));
  const address = w.f.gp("start");
  w.f.emit("lea", address, slot);
  return address;
}

function placeOf(w: KernelWriter, start: SumStart, column: Size): VReg {
  return w.address(w.packedPointer(start.columns), w.mul(column, 4));
}

function startVectors(w: KernelWriter, { zero }: SumStart, product: Product, place: VReg, vectors: number): VReg[] {
  const factor = zero && negated(w, zeroRegister(w, zero), product.flips ? 128 : 0);
  return Array.from({ length: vectors }, (_, v) => {
    const sums = w.vectors.load(mem(place, { disp: v * w.vectorBytes }));
    if (factor) w.f.emit("vpmulld", sums, sums, factor);
    return sums;
  });
}

function negated(w: KernelWriter, zero: VReg, shift: number): VReg {
  const lanes = w.f.vec("factor");
  w.f.emit("add", zero, shift);
  w.f.emit("neg", zero);
  w.f.emit("vmovd", lanes, zero);
  w.f.emit("vpbroadcastd", lanes, lanes);
  return lanes;
}
