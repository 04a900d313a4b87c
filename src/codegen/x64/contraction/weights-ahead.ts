/**
 * Fetching a column group's weights while the one before it is multiplied. Weights come from memory, where a core waits
 * longer than its own prefetchers look ahead, at each panel and each page anew. So the first register tiles of a group
 * fetch the next group's panels, some lines per step of the reduction; later ones have nothing left to fetch and touch
 * a line that is there. Fetching past the end of the weights is harmless: it never faults.
 */
import type { ColumnLayout } from "./microkernel.ts";
import type { KernelWriter, Local, Size } from "./writer.ts";

/** Rows from which a register tile multiplies longer than its weights take to come: lower ones wait for memory anyway. */
const LEAST_ROWS = 4;
/** A group's weights stay in the second-level cache beside the next one's: larger ones would drive each other out. */
export const MOST_AHEAD_BYTES = 256 * 1024;

export class WeightsAhead {
  readonly #w: KernelWriter;
  readonly #distance: Local;
  /** Where the lines to fetch end; what begins later ends later. */
  readonly #end: Local;
  readonly #first: number;
  readonly #bytes: number;
  readonly #step: number;
  readonly #offsets: readonly number[];
  readonly #fits: boolean;

  /**
   * @param panels of a group
   * @param panelBytes from one panel to the next
   * @param usedBytes of a panel, in one pass over the group
   * @param tiles register tiles of a group, at the optimum
   * @param groupBytes from a group's panels to the next one's
   */
  constructor(w: KernelWriter, panels: number, panelBytes: number, usedBytes: number, tiles: number, groupBytes = panels * panelBytes) {
    const perTile = Math.ceil(panels / Math.max(1, tiles));
    this.#w = w;
    this.#fits = panels * usedBytes <= MOST_AHEAD_BYTES;
    this.#first = groupBytes;
    this.#bytes = panels * panelBytes;
    this.#step = perTile * panelBytes;
    this.#offsets = Array.from({ length: perTile }, (_, panel) => panel * panelBytes);
    this.#distance = w.local(groupBytes);
    this.#end = w.local(groupBytes + this.#bytes);
  }

  /** Before a group's first register tile. @param first bytes to what comes after the group, when that is not always the same */
  begin(first: Size = this.#first): void {
    this.#w.set(this.#distance, first);
    this.#w.set(this.#end, this.#w.add(first, this.#bytes));
  }

  /** The columns of the register tile that comes now, with what it fetches. */
  beside(columns: ColumnLayout, rows: number): ColumnLayout {
    return !this.#fits || rows < LEAST_ROWS ? columns : { ...columns, ahead: { distance: this.#w.get(this.#distance), offsets: this.#offsets } };
  }

  /** After a register tile. */
  next(): void {
    if (!this.#fits) return;
    const w = this.#w;
    w.when("ne", w.get(this.#distance), 0, () => {
      w.f.emit("add", this.#distance.slot, this.#step);
      w.when("ge", w.get(this.#distance), w.get(this.#end), () => w.set(this.#distance, 0));
    });
  }
}
