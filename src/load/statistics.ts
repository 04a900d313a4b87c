/** The server's statistics as counts, the same for both protocols. */
import type { ServerCounts } from "./contract.ts";

interface Duration {
  readonly count: number | bigint;
  readonly ns: number | bigint;
}

/** A row of Triton's statistics extension. */
export interface StatisticsRow {
  readonly inference_count: number;
  readonly execution_count: number;
  readonly inference_stats: Readonly<Record<"success" | "fail" | "queue" | "compute_input" | "compute_infer" | "compute_output", Duration>>;
}

export function countsOf(rows: readonly StatisticsRow[]): ServerCounts {
  const sum = (pick: (row: StatisticsRow) => number | bigint): number => rows.reduce((total, row) => total + Number(pick(row)), 0);
  return {
    success: sum((row) => row.inference_stats.success.count),
    fail: sum((row) => row.inference_stats.fail.count),
    inferences: sum((row) => row.inference_count),
    executions: sum((row) => row.execution_count),
    queueNs: sum((row) => row.inference_stats.queue.ns),
    inputNs: sum((row) => row.inference_stats.compute_input.ns),
    inferNs: sum((row) => row.inference_stats.compute_infer.ns),
    outputNs: sum((row) => row.inference_stats.compute_output.ns),
  };
}

export function difference(after: ServerCounts, before: ServerCounts): ServerCounts {
  return Object.fromEntries(Object.entries(after).map(([key, value]) => [key, (value as number) - before[key as keyof ServerCounts]])) as unknown as ServerCounts;
}
