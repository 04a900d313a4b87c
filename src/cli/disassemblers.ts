/** Machine code to text, by the programs that this machine has for it; as bytes where it has none. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Disassembly {
  readonly by: "objdump" | "cuobjdump" | "nvdisasm" | "ptx" | "hex";
  readonly text: string;
  /** What to install to see instructions. */
  readonly missing?: string;
}

/** Where CUDA's programs lie that are not on the path. */
const CUDA_FOLDER = "/usr/local/cuda/bin";

/** @param code of x86-64 */
export function disassembleProcessor(code: Uint8Array): Disassembly {
  const text = printed(code, (file) => ["objdump", ["-D", "-b", "binary", "-m", "i386:x86-64", "-M", "intel", "--no-show-raw-insn", file]]);
  if (text === undefined) return { by: "hex", text: hex(code), missing: "objdump was not found; install binutils to see instructions." };
  return { by: "objdump", text: text.split("\n").filter((line) => /^\s*[0-9a-f]+:\t/.test(line)).join("\n") };
}

/** @param module a cubin, or PTX, which is text */
export function disassembleGpu(module: Uint8Array, isPtx: boolean): Disassembly {
  if (isPtx) return { by: "ptx", text: Buffer.from(module).toString("utf8").replace(/\0+$/, "").trimEnd() };
  for (const by of ["cuobjdump", "nvdisasm"] as const) {
    for (const program of [by, join(CUDA_FOLDER, by)]) {
      const text = printed(module, (file) => [program, by === "cuobjdump" ? ["-sass", file] : ["-c", file]]);
      if (text !== undefined) return { by, text: instructions(text) };
    }
  }
  return { by: "hex", text: hex(module), missing: "Neither cuobjdump nor nvdisasm was found; install the CUDA toolkit's binary utilities to see instructions (SASS), or build with --compatibility, whose code is PTX, which is text." };
}

/** Without the words of an instruction's encoding, which stand behind it and below it. */
function instructions(text: string): string {
  return text.split("\n").filter((line) => !/^\s*\/\* 0x[0-9a-f]{16} \*\/$/.test(line)).map((line) => line.replace(/\s*\/\* 0x[0-9a-f]{16} \*\/$/, "").trimEnd()).join("\n").trim();
}

/** What a program prints of a file with these bytes; undefined when it is not there or refuses. */
function printed(code: Uint8Array, command: (file: string) => readonly [string, readonly string[]]): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), "sinter-"));
  try {
    const file = join(folder, "kernel");
    writeFileSync(file, code);
    const [program, args] = command(file);
    const { status, stdout } = spawnSync(program, args, { encoding: "utf8", maxBuffer: 2 ** 28 });
    return status === 0 ? stdout : undefined;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function hex(code: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < code.byteLength; at += 16) lines.push(`${at.toString(16).padStart(6)}: ${Buffer.from(code.subarray(at, at + 16)).toString("hex").replace(/(..)(?=.)/g, "$1 ")}`);
  return lines.join("\n");
}
