/** A load run in numbers: what the client saw, and where the server says the time went. */
import type { LoadResult } from "./run.ts";

export interface LoadReport {
  readonly kind: "concurrency" | "rate";
  readonly value: number;
  readonly seconds: number;
  readonly requestsPerSecond: number;
  readonly answered: number;
  readonly failed: number;
  readonly failures: Readonly<Record<string, number>>;
  readonly latencyMs: Readonly<Record<"mean" | "p50" | "p90" | "p95" | "p99" | "p999" | "max", number>>;
  /** Means per request, in milliseconds, and the mean batch, over warm-up and measurement. */
  readonly server: Readonly<Record<"queueMs" | "inputMs" | "inferMs" | "outputMs" | "meanBatch", number>>;
  /** Requests that the server counted less those that were sent; 0 unless somebody else uses the model, or answers were lost. */
  readonly uncounted: number;
}

export function reportOf(result: LoadResult): LoadReport {
  const { plan, latency, answered, failed, failures, seconds, server, sent } = result;
  const requests = Math.max(1, server.success);
  const percentile = (percent: number): number => latency.percentile(percent) / 1000;
  return {
    kind: plan.kind,
    value: plan.value,
    seconds,
    requestsPerSecond: answered / seconds,
    answered,
    failed,
    failures: Object.fromEntries(failures),
    latencyMs: { mean: latency.meanUs / 1000, p50: percentile(50), p90: percentile(90), p95: percentile(95), p99: percentile(99), p999: percentile(99.9), max: latency.maxUs / 1000 },
    server: {
      queueMs: server.queueNs / requests / 1e6,
      inputMs: server.inputNs / requests / 1e6,
      inferMs: server.inferNs / requests / 1e6,
      outputMs: server.outputNs / requests / 1e6,
      meanBatch: server.executions === 0 ? 0 : server.inferences / server.executions,
    },
    uncounted: server.success + server.fail - sent,
  };
}

const BLOCKS = "▏▎▍▌▋▊▉█";

/** Lines of bars, one per run: requests per second, for a terminal. */
export function bars(reports: readonly LoadReport[], width = 40): string {
  const most = Math.max(...reports.map((report) => report.requestsPerSecond), 1e-9);
  const labels = reports.map((report) => `${report.kind === "rate" ? "rate" : "in flight"} ${report.value}`);
  const widest = Math.max(...labels.map((label) => label.length));
  return reports.map((report, i) => {
    const eighths = Math.round((8 * width * report.requestsPerSecond) / most);
    const bar = BLOCKS.at(-1)!.repeat(eighths >> 3) + (eighths & 7 ? BLOCKS[(eighths & 7) - 1] : "");
    return `${labels[i]!.padEnd(widest)}  ${bar.padEnd(width)}  ${report.requestsPerSecond.toFixed(0)} req/s, p99 ${report.latencyMs.p99.toFixed(2)} ms`;
  }).join("\n");
}
