/**
 * Fetching a column group's part of B into the second-level cache while the one before it is multiplied by grids of tiles.
 * Weights come from memory, and a tile's load waits for all of its lines; so every grid of a group fetches its share of
 * the next group's lines, some beside each step. Fetching past the end of the weights is harmless: it never faults.
 */
import { type LinesAhead, TILE_WORDS, type TileColumns } from "./tiles.ts";
import type { KernelWriter, Local, Size } from "./writer.ts";

/** Lines of a step: a panel's row is one. */
const STEP_LINES = 2 * TILE_WORDS;

export class TileColumnsAhead {
  readonly #w: KernelWriter;
  readonly #distance: Local;
  /** Lines of each step that were fetched by the grids before. */
  readonly #fetched: Local;
  readonly #lines: number;
  readonly #columns: TileColumns;

  /** @param grids that share a group's columns, as many as a block has */
  constructor(w: KernelWriter, columns: TileColumns, grids: number) {
    this.#w = w;
    this.#columns = columns;
    this.#lines = Math.min(TILE_WORDS, 2 ** Math.ceil(Math.log2(Math.max(1, STEP_LINES / grids))));
    this.#distance = w.local(0);
    this.#fetched = w.local(0);
  }

  /** Before a group's first grid. @param next bytes to what comes after the group */
  begin(next: Size): void {
    this.#w.set(this.#distance, next);
    this.#w.set(this.#fetched, 0);
  }

  /** What the grid that comes now fetches: lines that are there when all have been asked for. */
  get beside(): LinesAhead {
    return { distance: this.#w.get(this.#distance), lines: this.#lines };
  }

  /** After a grid. */
  next(): void {
    const w = this.#w;
    const { pitch, secondBytes } = this.#columns;
    w.when("ne", w.get(this.#distance), 0, () => {
      w.f.emit("add", this.#fetched.slot, this.#lines);
      w.f.emit("add", this.#distance.slot, this.#lines * pitch);
      w.when("eq", w.get(this.#fetched), TILE_WORDS, () => w.f.emit("add", this.#distance.slot, secondBytes - TILE_WORDS * pitch));
      w.when("ge", w.get(this.#fetched), STEP_LINES, () => w.set(this.#distance, 0));
    });
  }
}
