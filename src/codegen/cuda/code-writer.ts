/** Lines of C++, indented by the blocks that are open, and names that are used once. */
export class CodeWriter {
  readonly #lines: string[] = [];
  #depth = 0;
  #names = 0;

  line(text: string): void {
    this.#lines.push("  ".repeat(this.#depth) + text);
  }

  /** A block: `header { body }`. */
  block(header: string, body: () => void): void {
    this.line(header === "" ? "{" : `${header} {`);
    this.#depth++;
    body();
    this.#depth--;
    this.line("}");
  }

  fresh(prefix: string): string {
    return `${prefix}${this.#names++}`;
  }

  text(): string {
    return this.#lines.join("\n");
  }
}
