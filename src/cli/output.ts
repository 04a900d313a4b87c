/** How commands print: tables, numbers with units, progress on one line. */
import { styleText } from "node:util";
import type { BuildProgress } from "../compile.ts";

export function bold(text: string): string {
  return process.stdout.isTTY ? styleText("bold", text) : text;
}

/** Columns padded to their widest cell; those whose cells all look like numbers are aligned right. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((title, i) => Math.max(title.length, ...rows.map((row) => (row[i] ?? "").length)));
  const numeric = header.map((_, i) => rows.length > 0 && rows.every((row) => /^([-+]?[\d.,]*\d(e[-+]?\d+)?( ?[%a-zA-Z/]+)?|-|)$/.test(row[i] ?? "")));
  const line = (cells: readonly string[]): string => cells.map((cell, i) => (numeric[i] ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!))).join("  ").trimEnd();
  return [bold(line(header)), ...rows.map(line)].join("\n");
}

/** Lines of "name  value", the values aligned. */
export function list(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join("\n");
}

export function heading(title: string): string {
  return `\n${bold(title)}`;
}

/** Names, the first few. */
export function some(names: readonly string[], most: number): string {
  return names.length <= most ? names.join(", ") : `${names.slice(0, most).join(", ")}, … (${names.length})`;
}

export function milliseconds(ms: number): string {
  return ms >= 100 ? ms.toFixed(0) : ms >= 10 ? ms.toFixed(1) : ms >= 1 ? ms.toFixed(2) : ms.toFixed(4);
}

export function bytes(count: number): string {
  if (count >= 2 ** 30) return `${(count / 2 ** 30).toFixed(2)} GiB`;
  if (count >= 2 ** 20) return `${(count / 2 ** 20).toFixed(1)} MiB`;
  if (count >= 2 ** 10) return `${(count / 2 ** 10).toFixed(1)} KiB`;
  return `${count} B`;
}

/** A dimension list as models write it: `float32[batch, 128]`. */
export function typeText(type: string, dims: readonly (number | string)[] | undefined): string {
  return `${type}${dims ? `[${dims.join(", ")}]` : ""}`;
}

export function describeProgress(progress: BuildProgress): string {
  const left = progress.remainingMs === undefined ? "" : `, ${Math.ceil(progress.remainingMs / 1000)} s left`;
  const count = progress.total > 1 ? ` ${progress.done + 1}/${progress.total}` : "";
  return `[${(progress.elapsedMs / 1000).toFixed(1)} s] ${progress.stage}${count}${left}: ${progress.detail}`;
}

/** Rewrites one line of standard error on a terminal; elsewhere prints a line per stage. */
export class ProgressLine {
  private last = "";

  show(text: string, stage: string): void {
    if (process.stderr.isTTY) {
      const width = process.stderr.columns ?? 80;
      process.stderr.write(`\r${text.slice(0, width - 1).padEnd(Math.min(width - 1, this.last.length))}`);
      this.last = text;
    } else if (stage !== this.last) {
      process.stderr.write(`${text}\n`);
      this.last = stage;
    }
  }

  clear(): void {
    if (process.stderr.isTTY && this.last) process.stderr.write(`\r${" ".repeat(Math.min(this.last.length, (process.stderr.columns ?? 80) - 1))}\r`);
    this.last = "";
  }
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}
