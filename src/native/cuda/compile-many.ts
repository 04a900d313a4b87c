/**
 * Many programs compiled side by side, in as many processes as there are processors: a network asks for hundreds of
 * candidate kernels, each a fraction of a second of one processor.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { UserError } from "../../base/index.ts";
import type { CudaCompiler } from "./nvrtc.ts";
import type { CompileAnswer, CompileJob } from "./nvrtc-child.ts";

const MAX_PROCESSES = 32;
/** Fewer jobs than this are done before a process has started. */
const FEW = 2;

export interface CompileManyOptions {
  readonly onDone?: (done: number) => void;
  readonly signal?: AbortSignal;
  /** Processes; one per processor by default. */
  readonly processes?: number;
  /** Environment of the processes, which open the compiler that it names. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/**
 * @returns images in the order of the sources
 * @throws UserError "aborted" when the signal fires, Error with the compiler's words
 */
export async function compileMany(compiler: CudaCompiler, sources: readonly string[], arch: string, form: CompileJob["form"], options: CompileManyOptions = {}): Promise<Uint8Array[]> {
  const processes = Math.min(options.processes ?? availableParallelism(), MAX_PROCESSES, sources.length);
  const images = new Array<Uint8Array>(sources.length);
  let [next, done] = [0, 0];
  const work = async (compile: (job: CompileJob) => Promise<Uint8Array>): Promise<void> => {
    while (next < sources.length) {
      if (options.signal?.aborted) throw new UserError("aborted", "The build was cancelled; nothing was written.");
      const index = next++;
      images[index] = await compile({ source: sources[index]!, arch, form });
      options.onDone?.(++done);
    }
  };
  if (!compiler.isForked || processes < 2 || sources.length <= FEW) {
    await work(async ({ source }) => { await new Promise(setImmediate); return compiler.compile(source, arch, form); });
    return images;
  }
  const children = Array.from({ length: processes }, () => new CompileChild(options.env ?? process.env));
  try {
    await Promise.all(children.map((child) => work((job) => child.compile(job))));
  } finally {
    for (const child of children) child.dispose();
  }
  return images;
}

class CompileChild {
  readonly #process;
  readonly #ended: Promise<never>;

  constructor(env: Readonly<Record<string, string | undefined>>) {
    this.#process = fork(fileURLToPath(new URL("./nvrtc-child.js", import.meta.url)), { serialization: "advanced", execArgv: [], stdio: ["ignore", "ignore", "pipe", "ipc"], env: { ...env } });
    const words: string[] = [];
    this.#process.stderr!.on("data", (chunk: Buffer) => words.push(chunk.toString("utf8")));
    this.#ended = once(this.#process, "close").then(([code, signal]) => { throw new Error(`A process that compiles kernels ended (${signal ?? `exit code ${code}`}): ${words.join("").slice(-2000)}`); });
    this.#ended.catch(() => undefined);
  }

  async compile(job: CompileJob): Promise<Uint8Array> {
    const answered = once(this.#process, "message") as Promise<[CompileAnswer]>;
    this.#process.send(job);
    const [answer] = await Promise.race([answered, this.#ended]);
    if ("error" in answer) throw new Error(answer.error);
    return answer.image;
  }

  dispose(): void {
    this.#process.kill("SIGKILL");
  }
}
