/**
 * CUDA C++ to machine code: by NVRTC where it is found, else by nvcc, which builds engines for a GPU that is elsewhere.
 * Source: NVRTC 13.0.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, UnsupportedError } from "../../base/index.ts";
import type { NativeFunction } from "../koffi.ts";
import { NativeMemory } from "../memory.ts";
import { SharedLibrary } from "../shared-library.ts";

export interface CudaCompiler {
  /** Name and version: part of what an engine says it was made with, and of the timing cache's keys. */
  readonly identity: string;
  /** Where it was found. */
  readonly location?: string;
  /** Another process that asks for a compiler gets this one: several may compile side by side. */
  readonly isForked?: boolean;
  /**
   * @param arch "sm_90a" and the like
   * @param form machine code for that architecture, or PTX that newer ones translate
   * @throws Error with the compiler's words: the source is ours, so this is a bug
   */
  compile(source: string, arch: string, form: "cubin" | "ptx"): Uint8Array;
}

const NAMES = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so", "/usr/local/cuda/lib64/libnvrtc.so", "/usr/local/cuda/targets/x86_64-linux/lib/libnvrtc.so.13"];

type Environment = Readonly<Record<string, string | undefined>>;

/** @throws UnsupportedError "no-nvrtc" when there is no compiler */
export function openCudaCompiler(env: Environment = process.env): CudaCompiler {
  const named = env["SINTER_NVRTC"];
  const library = SharedLibrary.open(named ? [named] : NAMES);
  if (library) return new Nvrtc(library);
  if (named) throw new UnsupportedError("no-nvrtc", `SINTER_NVRTC is "${named}", which is no library that can be loaded.`);
  const nvcc = Nvcc.find();
  if (nvcc) return nvcc;
  throw new UnsupportedError("no-nvrtc", "No CUDA compiler: building for a GPU needs NVRTC (libnvrtc.so of the CUDA toolkit, or of the pip package nvidia-cuda-nvrtc); name it in SINTER_NVRTC if it lies elsewhere. Running engines needs the driver only.");
}

class Nvrtc implements CudaCompiler {
  readonly identity: string;
  readonly location: string;
  readonly isForked = true;
  readonly #library: SharedLibrary;
  readonly #out = NativeMemory.allocate(64);

  constructor(library: SharedLibrary) {
    this.#library = library;
    this.location = library.name;
    this.#function("nvrtcVersion", "int64_t major, int64_t minor")(this.#out.address, Number(this.#out.address) + 4);
    const [major, minor] = new Int32Array(this.#out.view().buffer, 0, 2);
    this.identity = `NVRTC ${major}.${minor}`;
  }

  compile(source: string, arch: string, form: "cubin" | "ptx"): Uint8Array {
    const status = this.#call("nvrtcCreateProgram", "int64_t program, const char *source, const char *name, int headers, int64_t texts, int64_t names", Number(this.#out.address), source, "sinter.cu", 0, 0, 0);
    assert(status === 0, `NVRTC could not take a program (status ${status})`);
    const program = this.#result();
    try {
      const options = [`--gpu-architecture=${form === "cubin" ? arch : arch.replace("sm", "compute")}`, "--std=c++17"];
      using block = NativeMemory.allocate(4096);
      const view = new DataView(block.view().buffer);
      let text = 1024;
      for (const [i, option] of options.entries()) {
        view.setBigUint64(8 * i, block.address + BigInt(text), true);
        block.view().set(Buffer.from(`${option}\0`, "latin1"), text);
        text += option.length + 1;
      }
      const compiled = this.#call("nvrtcCompileProgram", "int64_t program, int count, int64_t options", program, options.length, Number(block.address));
      assert(compiled === 0, `NVRTC refuses generated code: ${this.#text(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog").toString("utf8")}`);
      return form === "cubin" ? this.#text(program, "nvrtcGetCUBINSize", "nvrtcGetCUBIN") : this.#text(program, "nvrtcGetPTXSize", "nvrtcGetPTX");
    } finally {
      this.#call("nvrtcDestroyProgram", "int64_t program", Number(this.#keep(program)));
    }
  }

  /** nvrtcDestroyProgram takes the address of the handle. */
  #keep(program: number): bigint {
    new BigUint64Array(this.#out.view().buffer, 0, 1)[0] = BigInt(program);
    return this.#out.address;
  }

  #text(program: number, size: string, get: string): Buffer {
    this.#call(size, "int64_t program, int64_t size", program, Number(this.#out.address));
    using into = NativeMemory.allocate(Math.max(1, this.#result()));
    this.#call(get, "int64_t program, int64_t into", program, Number(into.address));
    return Buffer.from(into.view());
  }

  #result(): number {
    return Number(new BigUint64Array(this.#out.view().buffer, 0, 1)[0]!);
  }

  #call(name: string, params: string, ...args: readonly (number | string)[]): number {
    return Number(this.#function(name, params)(...args));
  }

  #function(name: string, params: string): NativeFunction {
    const found = this.#library.find(`int ${name}(${params})`);
    if (!found) throw new UnsupportedError("no-nvrtc", `${this.#library.name} has no ${name}: it is too old; Sinter needs NVRTC 12 or later.`);
    return found;
  }
}

class Nvcc implements CudaCompiler {
  readonly identity: string;
  readonly isForked = true;

  private constructor(version: string) {
    this.identity = `nvcc ${version}`;
  }

  static find(): Nvcc | undefined {
    const { status, stdout } = spawnSync("nvcc", ["--version"], { encoding: "utf8" });
    return status === 0 ? new Nvcc(/release (\S+),/.exec(stdout)?.[1] ?? "unknown") : undefined;
  }

  compile(source: string, arch: string, form: "cubin" | "ptx"): Uint8Array {
    const folder = mkdtempSync(join(tmpdir(), "sinter-nvcc-"));
    try {
      const [from, to] = [join(folder, "kernel.cu"), join(folder, `kernel.${form}`)];
      writeFileSync(from, source);
      const virtual = arch.replace("sm", "compute");
      const target = form === "cubin" ? `-gencode=arch=${virtual},code=${arch}` : `-gencode=arch=${virtual},code=${virtual}`;
      const { status, stderr } = spawnSync("nvcc", ["-std=c++17", "-w", target, `-${form}`, "-o", to, from], { encoding: "utf8" });
      assert(status === 0, `nvcc refuses generated code: ${stderr}`);
      return readFileSync(to);
    } finally {
      rmSync(folder, { recursive: true });
    }
  }
}
