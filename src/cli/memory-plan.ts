/** The memory plan as a table: each value's place in the arena. */
import { bytes, heading, table } from "./output.ts";

export interface PlannedValue {
  readonly value: string;
  readonly sizeBytes: number;
  /** Byte offset in the arena; absent when the size has no bound and memory is taken while running. */
  readonly offset?: number;
  readonly firstStep: number;
  readonly lastStep: number;
}

export interface MemoryPlan {
  /** Largest size of each dimension. */
  readonly symbols: Readonly<Record<string, number>>;
  /** The arena's size: the peak. */
  readonly arenaBytes: number;
  /** What the values would take without sharing. */
  readonly valueBytes: number;
  readonly values: readonly PlannedValue[];
}

export function memoryPlan(symbols: Readonly<Record<string, number>>, arenaBytes: number, values: readonly PlannedValue[]): MemoryPlan {
  return { symbols, arenaBytes, valueBytes: values.reduce((sum, value) => sum + value.sizeBytes, 0), values };
}

export function memoryText(plan: MemoryPlan): string {
  const at = Object.entries(plan.symbols).map(([name, size]) => `${name}=${size}`).join(", ") || "fixed shapes";
  const rows = plan.values.map((value) => [value.value, bytes(value.sizeBytes), value.offset === undefined ? "while running" : String(value.offset), `${value.firstStep} to ${value.lastStep}`]);
  return `${heading(`Memory at ${at}: arena ${bytes(plan.arenaBytes)}; ${plan.values.length} values of ${bytes(plan.valueBytes)} together`)}\n${table(["value", "size", "offset", "steps"], rows)}`;
}
