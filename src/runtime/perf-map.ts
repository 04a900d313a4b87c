/**
 * Names for `perf`: with SINTER_PERF=1 in the environment, /tmp/perf-PID.map says which kernel each address of generated
 * code belongs to, in the form that perf reads for code made at run time: start and size in hexadecimal, then the name
 * (Linux, tools/perf/Documentation/jit-interface.txt).
 */
import { appendFileSync } from "node:fs";
import type { Manifest } from "../engine/index.ts";

export function writePerfMap(manifest: Manifest, codeAddress: bigint, codeBytes: number, env: Readonly<Record<string, string | undefined>>): void {
  if (env["SINTER_PERF"] !== "1") return;
  appendFileSync(`/tmp/perf-${process.pid}.map`, perfMap(manifest, codeAddress, codeBytes));
}

/** One line per piece of code; kernels that share code give it the first one's name. */
export function perfMap(manifest: Pick<Manifest, "steps">, codeAddress: bigint, codeBytes: number): string {
  const names = new Map<number, string>();
  for (const step of manifest.steps) {
    if (step.kind === "kernel" && !names.has(step.code)) names.set(step.code, `${step.label.name || step.label.operators.join("+")} (${step.label.tactic})`);
  }
  const starts = [...names.keys()].sort((a, b) => a - b);
  return starts.map((start, i) => {
    const size = (starts[i + 1] ?? codeBytes) - start;
    return `${(codeAddress + BigInt(start)).toString(16)} ${size.toString(16)} sinter:${names.get(start)!.replace(/\s+/g, " ")}\n`;
  }).join("");
}
