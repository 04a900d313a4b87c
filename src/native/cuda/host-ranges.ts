/** Ranges of host memory that copies reach directly, beside what was allocated for that. They do not overlap. */
export class HostRanges {
  readonly #ranges: { readonly begin: number; readonly end: number }[] = [];
  /** Runs mostly ask for the same few. */
  #last = 0;

  add(address: number, sizeBytes: number): void {
    this.#ranges.push({ begin: address, end: address + sizeBytes });
  }

  covers(address: number, sizeBytes: number): boolean {
    const holds = (range: { readonly begin: number; readonly end: number } | undefined): boolean => range !== undefined && address >= range.begin && address + sizeBytes <= range.end;
    if (holds(this.#ranges[this.#last])) return true;
    const found = this.#ranges.findIndex(holds);
    if (found >= 0) this.#last = found;
    return found >= 0;
  }
}
