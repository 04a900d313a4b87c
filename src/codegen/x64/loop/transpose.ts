/**
 * Transposes a square tile of 32-bit elements held in registers: 8 x 8 on AVX2, 16 x 16 on AVX-512.
 * Groups of four rows become groups of four columns by unpacking within 128-bit parts; then the parts change places.
 */
import type { VReg } from "../function.ts";
import type { Lanes } from "./lanes.ts";

/** Row r of the result holds element r of every given row. */
export function transposeTile(lanes: Lanes, rows: readonly VReg[]): VReg[] {
  const columns: VReg[] = [];
  for (let group = 0; group < rows.length; group += 4) columns.push(...unpackFour(lanes, rows.slice(group, group + 4)));
  return lanes.isWideIsa ? exchangeQuarters(lanes, columns) : exchangeHalves(lanes, columns);
}

function unpackFour(lanes: Lanes, rows: readonly VReg[]): VReg[] {
  const [a, b, c, d] = rows as [VReg, VReg, VReg, VReg];
  const low = lanes.emit("vunpcklps", a, b);
  const high = lanes.emit("vunpckhps", a, b);
  const low2 = lanes.emit("vunpcklps", c, d);
  const high2 = lanes.emit("vunpckhps", c, d);
  return [
    lanes.emit("vunpcklpd", low, low2), lanes.emit("vunpckhpd", low, low2),
    lanes.emit("vunpcklpd", high, high2), lanes.emit("vunpckhpd", high, high2),
  ];
}

function exchangeHalves(lanes: Lanes, columns: readonly VReg[]): VReg[] {
  const result: VReg[] = [];
  for (let k = 0; k < 4; k++) {
    result[k] = lanes.emit("vperm2f128", columns[k]!, columns[k + 4]!, 0x20);
    result[k + 4] = lanes.emit("vperm2f128", columns[k]!, columns[k + 4]!, 0x31);
  }
  return result;
}

function exchangeQuarters(lanes: Lanes, columns: readonly VReg[]): VReg[] {
  const result: VReg[] = [];
  for (let k = 0; k < 4; k++) {
    const even = lanes.emit("vshuff32x4", columns[k]!, columns[k + 4]!, 0x88);
    const odd = lanes.emit("vshuff32x4", columns[k]!, columns[k + 4]!, 0xdd);
    const even2 = lanes.emit("vshuff32x4", columns[k + 8]!, columns[k + 12]!, 0x88);
    const odd2 = lanes.emit("vshuff32x4", columns[k + 8]!, columns[k + 12]!, 0xdd);
    result[k] = lanes.emit("vshuff32x4", even, even2, 0x88);
    result[k + 4] = lanes.emit("vshuff32x4", odd, odd2, 0x88);
    result[k + 8] = lanes.emit("vshuff32x4", even, even2, 0xdd);
    result[k + 12] = lanes.emit("vshuff32x4", odd, odd2, 0xdd);
  }
  return result;
}
