/**
 * A profiled run as a timeline that Chrome (chrome://tracing) and Perfetto (ui.perfetto.dev) show: one track per native
 * thread, one slice per kernel that the thread worked on. Google, "Trace Event Format": complete events, microseconds.
 */
import type { StepTiming, ThreadSpan } from "../runtime/index.ts";

interface TraceEvent {
  readonly name: string;
  readonly ph: "X" | "M";
  readonly pid: number;
  readonly tid: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly args: Readonly<Record<string, unknown>>;
}

const PROCESS = 1;

/** @param title names the process's track group */
export function chromeTrace(title: string, timings: readonly StepTiming[]): { readonly traceEvents: readonly TraceEvent[]; readonly displayTimeUnit: "ns" } {
  const onGpu = timings.every((timing) => !timing.spans);
  const spans = onGpu ? oneAfterAnother(timings) : timings.flatMap((timing) => (timing.spans ?? []).map((span) => ({ timing, span })));
  const start = spans.reduce((first, { span }) => Math.min(first, span.beginNs), Number.POSITIVE_INFINITY);
  const threads = [...new Set(spans.map(({ span }) => span.thread))].sort((a, b) => a - b);
  const named = (name: string, tid: number, value: string): TraceEvent => ({ name, ph: "M", pid: PROCESS, tid, args: { name: value } });
  const trackName = (thread: number): string => (onGpu ? "GPU" : thread === 0 ? "thread 0 (calling)" : `thread ${thread}`);
  return {
    displayTimeUnit: "ns",
    traceEvents: [
      named("process_name", 0, title),
      ...threads.map((thread) => named("thread_name", thread, trackName(thread))),
      ...spans.map(({ timing: { label, ns, flops, bytes }, span }): TraceEvent => ({
        name: label.name || label.operators.join("+"), ph: "X", pid: PROCESS, tid: span.thread,
        ts: (span.beginNs - start) / 1000, dur: (span.endNs - span.beginNs) / 1000,
        args: { tactic: label.tactic, operators: label.operators.join("+"), nodes: label.origins, gflops: ns > 0 ? flops / ns : 0, gbps: ns > 0 ? bytes / ns : 0 },
      })),
    ],
  };
}

/** Steps of a GPU have a length each, measured one after another. */
function oneAfterAnother(timings: readonly StepTiming[]): { readonly timing: StepTiming; readonly span: ThreadSpan }[] {
  let endNs = 0;
  return timings.map((timing) => {
    const beginNs = endNs;
    endNs += timing.ns;
    return { timing, span: { thread: 0, beginNs, endNs } };
  });
}
