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
  const place = w.address(w.packedPointer(start.columns), w.mul(column, 4));
  const factor = start.zero && negated(w, zeroRegister(w, start.zero), product.flips ? 128 : 0);
  tile.start(Array.from({ length: tile.vectors }, (_, v) => {
    const sums = w.vectors.load(mem(place, { disp: v * w.vectorBytes }));
    if (factor) w.f.emit("vpmulld", sums, sums, factor);
    return sums;
  }));
}

function negated(w: KernelWriter, zero: VReg, shift: number): VReg {
  const lanes = w.f.vec("factor");
  w.f.emit("add", zero, shift);
  w.f.emit("neg", zero);
  w.f.emit("vmovd", lanes, zero);
  w.f.emit("vpbroadcastd", lanes, lanes);
  return lanes;
}
