/**
 * Weights with a scale per block of the reduction, as kernels read them: panels of 16 columns, in each panel block by
 * block 16 scales, then the integers of 16 columns: of four bits, words of eight neighbours along the reduction
 * [word][16]; of eight bits, [k][16]. What fills a word or a panel up is zero. Panels are as many as whole groups need.
 */
import type { BlockWeights, ConstantLookup, MatmulKernel, PackedData } from "../../../ir/index.ts";
import { PANEL_COLUMNS } from "./panels.ts";

/** Bytes of a panel's scales of one block. */
export const SCALE_BYTES = 4 * PANEL_COLUMNS;
/** Reduction steps of a word of four-bit integers. */
export const NIBBLES = 8;

export interface BlockPanels {
  readonly packed: PackedData;
  /** int8 [panel][block][16]. */
  readonly zeros: PackedData | undefined;
  readonly panelBytes: number;
  readonly blocks: number;
}

/** Bytes of a panel's integers over so many steps of the reduction. */
export const integerBytes = (bits: BlockWeights["bits"], steps: number): number => (bits === 4 ? Math.ceil(steps / NIBBLES) * 4 : steps) * PANEL_COLUMNS;

/** Undefined where the weights are no constants. @param panels of a column group */
export function blockPanels({ b, k, n }: MatmulKernel, weights: BlockWeights, constants: ConstantLookup, panels: number): BlockPanels | undefined {
  const [integers, scales, zeros] = [constants(b.buffer), constants(weights.scales), weights.zeros && constants(weights.zeros)];
  if (!integers || !scales || (weights.zeros && !zeros) || typeof k !== "number" || typeof n !== "number") return undefined;
  const blocks = Math.ceil(k / weights.size);
  const panelBytes = blocks * SCALE_BYTES + integerBytes(weights.bits, (blocks - 1) * weights.size) + integerBytes(weights.bits, k - (blocks - 1) * weights.size);
  const count = Math.ceil(n / (panels * PANEL_COLUMNS)) * panels;
  const key = `${b.buffer.name}:${weights.bits}/${weights.size} ${k}x${n}`;
  const shape = { columns: n, k, blocks, panelBytes };
  return {
    packed: { key: `blocks ${key}`, sizeBytes: count * panelBytes, write: (into) => writePanels(into, integers, scales, weights, shape) },
    zeros: zeros && { key: `block zeros ${key}`, sizeBytes: count * blocks * PANEL_COLUMNS, write: (into) => writeZeros(into, zeros, shape) },
    panelBytes, blocks,
  };
}

interface Shape {
  readonly columns: number;
  readonly k: number;
  readonly blocks: number;
  readonly panelBytes: number;
}

function writePanels(into: Uint8Array, integers: Uint8Array, scales: Uint8Array, { bits, size }: BlockWeights, { columns, k, blocks, panelBytes }: Shape): void {
  const rowBytes = bits === 4 ? Math.ceil(k / 2) : k;
  const blockBytes = SCALE_BYTES + integerBytes(bits, size);
  for (let column = 0; column < columns; column++) {
    const lane = column % PANEL_COLUMNS;
    const panel = Math.floor(column / PANEL_COLUMNS) * panelBytes;
    for (let block = 0; block < blocks; block++) {
      const at = panel + block * blockBytes;
      const scale = 4 * (column * blocks + block);
      into.set(scales.subarray(scale, scale + 4), at + 4 * lane);
      const steps = Math.min(size, k - block * size);
      const from = column * rowBytes + (bits === 4 ? (block * size) >> 1 : block * size);
      for (let i = 0; i < (bits === 4 ? Math.ceil(steps / 2) : steps); i++) {
        // Bytes of a word are pairs of its nibbles, in order.
        const to = bits === 4 ? (i >> 2) * 4 * PANEL_COLUMNS + 4 * lane + (i & 3) : i * PANEL_COLUMNS + lane;
        into[at + SCALE_BYTES + to] = integers[from + i]!;
      }
    }
  }
}

function writeZeros(into: Uint8Array, zeros: Uint8Array, { columns, blocks }: Shape): void {
  for (let column = 0; column < columns; column++) {
    const panel = Math.floor(column / PANEL_COLUMNS) * blocks * PANEL_COLUMNS;
    for (let block = 0; block < blocks; block++) into[panel + block * PANEL_COLUMNS + (column % PANEL_COLUMNS)] = zeros[column * blocks + block]!;
  }
}
