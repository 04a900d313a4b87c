/**
 * A process that compiles CUDA C++ for its parent: NVRTC compiles one program at a time per process. It takes one job after
 * the other over the channel it was forked with and ends when that closes.
 */
import { openCudaCompiler } from "./nvrtc.ts";

export interface CompileJob {
  readonly source: string;
  readonly arch: string;
  readonly form: "cubin" | "ptx";
}

export type CompileAnswer = { readonly image: Uint8Array } | { readonly error: string };

const compiler = openCudaCompiler();

function answerTo({ source, arch, form }: CompileJob): CompileAnswer {
  try {
    return { image: compiler.compile(source, arch, form) };
  } catch (error) {
    return { error: (error as Error).message };
  }
}

process.on("message", (job: CompileJob) => process.send!(answerTo(job)));
process.on("disconnect", () => process.exit());
