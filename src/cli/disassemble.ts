/** The machine code of one kernel, through objdump where there is one. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UserError } from "../base/index.ts";
import { EngineFile, type Manifest, type ManifestKernel } from "../engine/index.ts";
import { printJson } from "./output.ts";

export interface Assembly {
  readonly kernel: string;
  readonly tactic: string;
  readonly offset: number;
  readonly sizeBytes: number;
  readonly by: "objdump" | "hex";
  readonly text: string;
}

export function printAssembly(path: string, which: string, asJson: boolean): void {
  const assembly = disassemble(path, which);
  if (asJson) {
    printJson(assembly);
    return;
  }
  console.log(`${assembly.kernel}, ${assembly.tactic}: ${assembly.sizeBytes} bytes at ${assembly.offset} of the code\n${assembly.text}`);
  if (assembly.by === "hex") console.log("\nobjdump was not found; install binutils to see instructions.");
}

/** @param which a step's number, or its kernel's name @throws UserError when there is none */
export function disassemble(path: string, which: string): Assembly {
  const file = EngineFile.open(path);
  try {
    const manifest = file.manifest();
    const kernel = findKernel(manifest, which, path);
    const whole = file.code();
    const end = manifest.steps.reduce((next, step) => (step.kind === "kernel" && step.code > kernel.code ? Math.min(next, step.code) : next), whole.byteLength);
    const code = whole.slice(kernel.code, end);
    const text = objdump(code);
    return { kernel: kernel.label.name || kernel.label.operators.join("+"), tactic: kernel.label.tactic, offset: kernel.code, sizeBytes: code.byteLength, by: text === undefined ? "hex" : "objdump", text: text ?? hex(code) };
  } finally {
    file.close();
  }
}

function findKernel(manifest: Manifest, which: string, path: string): ManifestKernel {
  const step = /^\d+$/.test(which) ? manifest.steps[Number(which)] : manifest.steps.find((item) => item.label.name === which || item.label.origins.includes(which));
  if (step?.kind === "kernel") return step;
  if (step) throw new UserError("option-invalid", `--asm ${which}: that step is a ${step.kind === "reference" ? "reference step" : `${step.kind} of the runtime`}; it has no machine code.`);
  throw new UserError("option-invalid", `--asm ${which}: ${path} has no such kernel. Give a number from 0 to ${manifest.steps.length - 1}, or a name that --layers shows.`);
}

function objdump(code: Uint8Array): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), "sinter-"));
  try {
    const file = join(folder, "kernel");
    writeFileSync(file, code);
    const result = spawnSync("objdump", ["-D", "-b", "binary", "-m", "i386:x86-64", "-M", "intel", "--no-show-raw-insn", file], { encoding: "utf8", maxBuffer: 2 ** 28 });
    if (result.status !== 0) return undefined;
    return result.stdout.split("\n").filter((line) => /^\s*[0-9a-f]+:\t/.test(line)).join("\n");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function hex(code: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < code.byteLength; at += 16) lines.push(`${at.toString(16).padStart(6)}: ${Buffer.from(code.subarray(at, at + 16)).toString("hex").replace(/(..)(?=.)/g, "$1 ")}`);
  return lines.join("\n");
}
