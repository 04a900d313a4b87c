/** The machine code of one kernel, through a disassembler where there is one: objdump, or for GPUs NVIDIA's. */
import { UserError } from "../base/index.ts";
import { EngineFile, type Manifest, type ManifestCode, type ManifestKernel } from "../engine/index.ts";
import { type Disassembly, disassembleGpu, disassembleProcessor } from "./disassemblers.ts";
import { printJson } from "./output.ts";

export interface Assembly extends Disassembly {
  readonly kernel: string;
  readonly tactic: string;
  readonly offset: number;
  readonly sizeBytes: number;
}

export function printAssembly(path: string, which: string, asJson: boolean): void {
  const assembly = disassemble(path, which);
  if (asJson) {
    printJson(assembly);
    return;
  }
  console.log(`${assembly.kernel}, ${assembly.tactic}: ${assembly.sizeBytes} bytes at ${assembly.offset} of the code\n${assembly.text}`);
  if (assembly.missing !== undefined) console.log(`\n${assembly.missing}`);
}

/** @param which a step's number, or its kernel's name, and after a number ".1" and so on the kernels for more work @throws UserError when there is none */
export function disassemble(path: string, which: string): Assembly {
  const file = EngineFile.open(path);
  try {
    const manifest = file.manifest();
    const { kernel, code, tactic } = findKernel(manifest, which, path);
    const whole = file.code();
    const { launch } = code;
    const end = launch ? code.code + launch.codeBytes : manifest.steps.reduce((next, step) => (step.kind === "kernel" && step.code > code.code ? Math.min(next, step.code) : next), whole.byteLength);
    const bytes = whole.slice(code.code, end);
    const { target } = manifest;
    return {
      kernel: kernel.label.name || kernel.label.operators.join("+"), tactic, offset: code.code, sizeBytes: bytes.byteLength,
      ...(target.arch === "cuda" ? disassembleGpu(bytes, target.ptx) : disassembleProcessor(bytes)),
    };
  } finally {
    file.close();
  }
}

interface Found {
  readonly kernel: ManifestKernel;
  readonly code: ManifestCode;
  readonly tactic: string;
}

function findKernel(manifest: Manifest, which: string, path: string): Found {
  const [, number, larger] = /^(\d+)(?:\.(\d+))?$/.exec(which) ?? [];
  const step = number === undefined ? manifest.steps.find((item) => item.label.name === which || item.label.origins.includes(which)) : manifest.steps[Number(number)];
  if (step?.kind === "kernel") {
    if (larger === undefined || Number(larger) === 0) return { kernel: step, code: step, tactic: step.label.tactic };
    const found = step.larger?.[Number(larger) - 1];
    if (!found) throw new UserError("option-invalid", `--asm ${which}: that step has ${step.larger?.length ?? 0} kernels for more work; --layers shows them.`);
    return { kernel: step, code: found, tactic: found.tactic };
  }
  if (step) throw new UserError("option-invalid", `--asm ${which}: that step is a ${step.kind === "reference" ? "reference step" : `${step.kind} of the runtime`}; it has no machine code.`);
  throw new UserError("option-invalid", `--asm ${which}: ${path} has no such kernel. Give a number from 0 to ${manifest.steps.length - 1}, or a name that --layers shows.`);
}
