/** Kernels of GPUs as text: PTX is text already, machine code needs one of NVIDIA's programs or is shown as bytes. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { build } from "../compile.ts";
import type { CudaCompiler } from "../native/index.ts";
import { mlp } from "../testing/small-models.ts";
import { disassemble } from "./disassemble.ts";

/** Its images name the kernel and its form. */
const compiler: CudaCompiler = { identity: "names", compile: (source, arch, form) => Buffer.from(`${form} for ${arch}: ${/__global__ void __launch_bounds__\([^)]*\) (\w+)\(/.exec(source)![1]}\0`) };

describe("the code of a kernel for GPUs", () => {
  const folder = mkdtempSync(join(tmpdir(), "sinter-asm-"));
  const [machine, ptx] = [join(folder, "machine.engine"), join(folder, "ptx.engine")];
  before(async () => {
    await build(mlp(), { output: machine, target: "cuda:sm_61", cudaCompiler: compiler });
    await build(mlp(), { output: ptx, target: "cuda:sm_61", compatibility: true, cudaCompiler: compiler });
  });
  after(() => rmSync(folder, { recursive: true }));

  test("is the text of its own module where that is PTX", () => {
    const first = disassemble(ptx, "fc1");
    assert.deepEqual([first.by, first.text, first.kernel, first.missing], ["ptx", "ptx for sm_61: matmul_plain", "fc1", undefined]);
    assert.match(disassemble(ptx, "2").text, /^ptx for sm_61: loop_rows$/);
  });

  test("is bytes where no program reads it, with what to install", () => {
    const { by, text, missing, sizeBytes } = disassemble(machine, "0");
    assert.equal(by, "hex");
    assert.equal(sizeBytes, "cubin for sm_61: matmul_plain\0".length);
    assert.match(text, /^ +0: 63 75 62 69 6e 20/);
    assert.match(missing!, /cuobjdump.*CUDA toolkit.*--compatibility/);
  });
});
