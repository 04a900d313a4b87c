/** Kernels of matrix products, convolutions and attention: what is proposed for what, and that it compiles without spilling a register. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Buffer, type ConstantLookup, symbol } from "../../../ir/index.ts";
import { type CudaArch, type CudaKernel, type CudaTactic, HOPPER } from "../contract.ts";
import { assembled, hasNvcc } from "../testing.ts";
import { attentionTactics, convTactics, matmulTactics } from "./index.ts";
import { packColumns } from "./packing.ts";
import { type AttentionOptions, attentionSample, type ConvOptions, convSample, type MatmulOptions, matmulSample } from "./testing.ts";

const AMPERE: CudaArch = { capability: 80, ownInstructions: false, multiprocessors: 108, sharedBytesPerBlock: 163 * 1024 };
const ADA: CudaArch = { capability: 89, ownInstructions: false, multiprocessors: 142, sharedBytesPerBlock: 99 * 1024 };

const constantsOf = (constant: Buffer | undefined): ConstantLookup => (item) => (item === constant ? new Uint8Array(0) : undefined);

function matmul(options: MatmulOptions, arch = HOPPER): CudaTactic[] {
  const { kernel, constant, bindings } = matmulSample(options);
  return matmulTactics(kernel, arch, constantsOf(constant), bindings);
}

function conv(options: ConvOptions, arch = HOPPER): CudaTactic[] {
  const { kernel, constant, bindings } = convSample(options);
  return convTactics(kernel, arch, constantsOf(constant), bindings);
}

function attention(options: AttentionOptions, arch = HOPPER): CudaTactic[] {
  const { kernel, bindings } = attentionSample(options);
  return attentionTactics(kernel, arch, bindings);
}

const seq = symbol("seq");
const bindings = new Map([["seq", 128]]);
const families = (tactics: readonly CudaTactic[]): string[] => [...new Set(tactics.map(({ name }) => name.split(" ")[0]!))].sort();

function named(tactics: readonly CudaTactic[], name: string): CudaKernel {
  const found = tactics.find((tactic) => tactic.name === name);
  assert.ok(found, `no tactic "${name}" among ${tactics.map((tactic) => tactic.name).join(", ")}`);
  return found.compile();
}

describe("candidates", () => {
  test("Hopper multiplies halves with wgmma and mma, float32 and misaligned rows with mma", () => {
    assert.deepEqual(families(matmul({ dtype: "bfloat16", m: seq, n: 768, k: 3072, constant: true, bindings })), ["mma", "wgmma"]);
    assert.deepEqual(families(matmul({ dtype: "float16", m: 64, n: 768, k: 768 })), ["mma", "wgmma"]);
    assert.deepEqual(families(matmul({ dtype: "float32", m: 64, n: 768, k: 768 })), ["mma"]);
    assert.deepEqual(families(matmul({ dtype: "float16", m: 64, n: 768, k: 75, constant: true })), ["mma"]);
  });

  test("other architectures, and code that is to run on newer ones, have mma only", () => {
    for (const arch of [AMPERE, ADA, { ...HOPPER, ownInstructions: false }]) {
      assert.deepEqual(families(matmul({ dtype: "bfloat16", m: 128, n: 768, k: 768, constant: true }, arch)), ["mma"]);
      assert.deepEqual(families(conv({ dtype: "float16", batch: 1, channels: 64, size: 14, outputs: 64, kernel: 3, pad: 1 }, arch)), ["mma"]);
    }
  });

  test("a convolution's channels decide: whole steps, few, one per group", () => {
    assert.deepEqual(families(conv({ dtype: "float16", batch: 1, channels: 128, size: 14, outputs: 64, kernel: 3, pad: 1 })), ["mma", "wgmma"]);
    assert.deepEqual(families(conv({ dtype: "float16", batch: 1, channels: 3, size: 14, outputs: 64, kernel: 3, pad: 1 })), ["mma"]);
    assert.deepEqual(families(conv({ dtype: "float16", batch: 1, channels: 32, size: 14, outputs: 32, kernel: 3, pad: 1, groups: 32 })), ["direct"]);
  });

  test("names are unique, the best estimate is first, and every kernel fits the GPU it is for", () => {
    for (const arch of [HOPPER, AMPERE, ADA]) {
      for (const tactics of [matmul({ dtype: "bfloat16", m: 512, n: 768, k: 3072, constant: true }, arch), conv({ dtype: "float16", batch: 8, channels: 64, size: 28, outputs: 128, kernel: 3, pad: 1 }, arch)]) {
        assert.equal(new Set(tactics.map(({ name }) => name)).size, tactics.length);
        assert.deepEqual(tactics.map(({ estimate }) => estimate), tactics.map(({ estimate }) => estimate).sort((a, b) => a - b));
        for (const { launch, source } of tactics.map((tactic) => tactic.compile())) {
          assert.ok(launch.sharedBytes <= arch.sharedBytesPerBlock);
          assert.ok(launch.block <= 1024 && !source.includes("#include"));
        }
      }
    }
  });

  test("estimates follow the shape: one tile per multiprocessor for large products, parts of the reduction for small ones", () => {
    assert.match(matmul({ dtype: "bfloat16", m: 8192, n: 8192, k: 8192, constant: true })[0]!.name, /^wgmma (128x256|256x128|128x192|128x128)/);
    assert.match(matmul({ dtype: "bfloat16", m: 128, n: 768, k: 3072, constant: true })[0]!.name, /split/);
  });

  test("a buffer that begins anywhere is not read or written in vectors", () => {
    const { kernel } = matmulSample({ dtype: "bfloat16", m: 64, n: 64, k: 64 });
    const shifted: Buffer = { ...kernel.a.buffer, alignment: 2 };
    const tactics = matmulTactics({ ...kernel, a: { ...kernel.a, buffer: shifted } }, HOPPER, () => undefined, new Map());
    assert.deepEqual(families(tactics), ["mma"]);
    const [, loadOfA] = tactics[0]!.compile().source.split(/const auto [ab]Load = /);
    assert.ok(loadOfA && !loadOfA.includes("copyAsync16("));
  });

  test("integers, and results that are wanted twice, are left to others", () => {
    const { kernel } = matmulSample({ dtype: "bfloat16", m: 64, n: 64, k: 64 });
    assert.deepEqual(matmul({ dtype: "int8", output: "float32", m: 64, n: 64, k: 64 }), []);
    assert.deepEqual(matmulTactics({ ...kernel, copy: kernel.output }, HOPPER, () => undefined, new Map()), []);
  });

  test("equal shapes give equal text, so that layers share code", () => {
    const of = (): string => named(matmul({ dtype: "bfloat16", m: seq, n: 768, k: 768, constant: true, epilogue: true, bindings }), "wgmma 128x128 stages 6").source;
    assert.equal(of(), of());
  });
});

test("packed columns hold the reduction contiguous, padded to 16 bytes", () => {
  const source = new Uint16Array([1, 2, 3, 4, 5, 6]);
  const { data, pitch } = packColumns("w", new Uint8Array(source.buffer), "float16", { columns: 2, depth: Int32Array.of(0, 2, 4), columnStart: (column) => column });
  const bytes = new Uint8Array(data.sizeBytes);
  data.write(bytes);
  assert.equal(pitch, 8);
  assert.deepEqual([...new Uint16Array(bytes.buffer)], [1, 3, 5, 0, 0, 0, 0, 0, 2, 4, 6, 0, 0, 0, 0, 0]);
});

const CONVOLUTION: ConvOptions = { dtype: "float16", batch: seq, channels: 128, size: 14, outputs: 128, kernel: 3, pad: 1, epilogue: true, bindings };

/** Bytes of spills and stack where sums take 128 registers; what is put away there is needed once per tile. */
const SPILL_LIMIT = 64;

test("kernels assemble for Hopper without spills", { skip: !hasNvcc && "no nvcc here" }, () => {
  const constant = matmul({ dtype: "bfloat16", m: seq, n: 1024, k: 768, constant: true, epilogue: true, bindings: new Map([["seq", 2048]]) });
  const kernels = [
    named(constant, "wgmma 128x256 stages 4"),
    named(constant, "wgmma 128x128 stages 6 alternate"),
    named(constant, "mma 128x128 warps 2x2 stages 3"),
    named(matmul({ dtype: "float16", m: 128, n: 768, k: 3072, constant: true }), "wgmma 64x64 stages 8 split 4"),
    named(matmul({ dtype: "float16", m: 512, n: 768, k: 768, batch: [4] }), "wgmma 128x256 stages 4"),
    named(matmul({ dtype: "float32", m: 64, n: 75, k: 77 }), "mma 64x64 warps 2x2 stages 4"),
    named(conv(CONVOLUTION), "wgmma 128x128 stages 6"),
    named(conv({ ...CONVOLUTION, channels: 24 }), "mma 128x64 warps 2x2 stages 4"),
    named(conv({ ...CONVOLUTION, groups: 128 }), "direct 4 pixels"),
    named(attention({ dtype: "bfloat16", batch: 1, heads: 8, queries: seq, keys: seq, size: 128, causal: true, bindings }), "wgmma attention 128x128 stages 2"),
    named(attention({ dtype: "float16", batch: 1, heads: 12, queries: seq, keys: seq, size: 64, bindings }), "wgmma attention 192x128 stages 2"),
    named(attention({ dtype: "float32", batch: 1, heads: 12, queries: seq, keys: seq, size: 64, causal: true, bindings }), "mma attention 64x32 of float32"),
  ];
  const reports = assembled(kernels);
  reports.forEach(({ registers, spilled, stack }, i) => {
    assert.ok(registers > 0 && registers <= 255, `${kernels[i]!.tactic}: ${registers} registers`);
    assert.ok(spilled + stack <= (kernels[i]!.source.includes("registersGrow<232>()") ? SPILL_LIMIT : 0), `${kernels[i]!.tactic} spills ${spilled} bytes, stack of ${stack}`);
  });
});

test("the mma family assembles for Ampere and Ada", { skip: !hasNvcc && "no nvcc here" }, () => {
  const projection = named(matmul({ dtype: "bfloat16", m: seq, n: 768, k: 768, constant: true, epilogue: true, bindings }, AMPERE), "mma 128x128 warps 2x2 stages 3");
  const heads = named(attention({ dtype: "float16", batch: 1, heads: 12, queries: seq, keys: seq, size: 64, causal: true, bindings }, ADA), "mma attention 64x64");
  for (const { spilled, stack } of [...assembled([projection], AMPERE), ...assembled([heads], ADA)]) assert.equal(spilled + stack, 0);
});
