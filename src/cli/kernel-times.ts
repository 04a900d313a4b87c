/** Per-kernel times of an engine: several profiled runs, the median of each step. */
import type { PeakName } from "../codegen/index.ts";
import type { ExecutionContext, Feeds } from "../runtime/index.ts";
import type { Peaks } from "./peaks.ts";
import { milliseconds, some, table } from "./output.ts";

export interface KernelTime {
  readonly name: string;
  /** Names of the model's nodes that the kernel stands for. */
  readonly nodes: readonly string[];
  readonly operators: readonly string[];
  readonly tactic: string;
  readonly ms: number;
  /** Of all steps' time. */
  readonly share: number;
  readonly gflops: number;
  readonly gbps: number;
}

const LEAST_RUNS = 5;
const MOST_RUNS = 50;
const BUDGET_MS = 1500;

/** In the program's order. */
export function timeKernels(context: ExecutionContext, feeds: Feeds): KernelTime[] {
  const started = performance.now();
  const runs = [context.profile(feeds)];
  while (runs.length < LEAST_RUNS || (runs.length < MOST_RUNS && performance.now() - started < BUDGET_MS)) runs.push(context.profile(feeds));
  const medians = runs[0]!.map((_, step) => median(runs.map((run) => run[step]!.ns)));
  const total = medians.reduce((sum, ns) => sum + ns, 0);
  return runs[0]!.map(({ label, flops, bytes }, step): KernelTime => {
    const ns = medians[step]!;
    const rate = (amount: number): number => (ns > 0 ? amount / ns : 0);
    return {
      name: label.name || label.operators.join("+"), nodes: label.origins, operators: label.operators, tactic: label.tactic,
      ms: ns / 1e6, share: total > 0 ? ns / total : 0, gflops: rate(flops), gbps: rate(bytes),
    };
  });
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}

/** Slowest first. @param peaks of a processor; of a GPU they are not measured */
export function kernelTable(kernels: readonly KernelTime[], peaks: Peaks | undefined): string {
  const rows = [...kernels].sort((a, b) => b.ms - a.ms).map((kernel) => [
    kernel.name, milliseconds(kernel.ms), percent(kernel.share),
    kernel.gflops.toFixed(1), kernel.gbps.toFixed(1), ...(peaks ? [reached(kernel, peaks)] : []),
    kernel.tactic, some(kernel.nodes, 3),
  ]);
  const titles = ["kernel", "ms", "share", "GFLOP/s", "GB/s", ...(peaks ? ["of the peak that binds"] : []), "tactic", "nodes"];
  if (!peaks) return `Each kernel by itself; in a run they follow one another without a pause, and side by side.\n${table(titles, rows)}`;
  const others = PRODUCTS.flatMap(([name, text]) => (peaks.products[name] === undefined || !kernels.some(({ tactic }) => productOf(tactic) === name) ? [] : [`, ${peaks.products[name].toFixed(0)} of ${text}`]));
  const title = `Peaks measured on ${peaks.threads} thread${peaks.threads === 1 ? "" : "s"}: ${peaks.gflops.toFixed(0)} GFLOP/s${others.join("")}, ${peaks.gbps.toFixed(1)} GB/s to and from memory (caches are faster).`;
  return `${title}\n${contractionShares(kernels)}${table(titles, rows)}`;
}

const PRODUCTS: readonly (readonly [PeakName, string])[] = [["bfloat", "bfloat16"], ["bytes", "bytes"], ["pairs", "16-bit pairs"], ["bfloat tiles", "bfloat16 tiles"], ["bytes tiles", "tiles of bytes"]];

/** What a contraction multiplies: its tactic names it, unless it is float32. */
function productOf(tactic: string): PeakName | undefined {
  const found = /^(?:matmul|conv|attention|depthwise|winograd)(?: ((?:bfloat|bytes)(?: tiles)?|pairs))?/.exec(tactic);
  return found ? (found[1] as PeakName | undefined) ?? "float" : undefined;
}

function peakOf({ tactic }: KernelTime, peaks: Peaks): number {
  const product = productOf(tactic);
  return (product && peaks.products[product]) ?? peaks.gflops;
}

/** The share of the limit that the kernel is nearer to: the other one has room left whatever is done. */
function reached(kernel: KernelTime, peaks: Peaks): string {
  const [arithmetic, memory] = [kernel.gflops / peakOf(kernel, peaks), kernel.gbps / peaks.gbps];
  return arithmetic >= memory ? `${percent(arithmetic)} arithmetic` : `${percent(memory)} memory`;
}

/** How the time of contractions divides among what they multiply, when that is not all float32. */
function contractionShares(kernels: readonly KernelTime[]): string {
  const times = new Map<PeakName, number>();
  for (const { tactic, ms } of kernels) {
    const product = productOf(tactic);
    if (product) times.set(product, (times.get(product) ?? 0) + ms);
  }
  if ([...times.keys()].every((name) => name === "float")) return "";
  const total = [...times.values()].reduce((sum, ms) => sum + ms, 0);
  return `Time of contractions: ${[["float", "float32"] as const, ...PRODUCTS].flatMap(([name, text]) => (times.has(name) ? [`${percent(times.get(name)! / total)} in ${text}`] : [])).join(", ")}.\n`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
