/** The function builder and its allocator: small functions run, random programs with many live values against an interpreter. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { allocateExecutable, type NativeFunction, nativeFunction, NativeMemory } from "../../native/index.ts";
import { AVX2, AVX512, type Condition, FunctionBuilder, GP, type Isa, mem, RAX, RCX, RDX, type VReg } from "./index.ts";
import { runnableIsas } from "./testing.ts";

/** Compiles and binds; the code's memory stays mapped for the process. */
function compile(f: FunctionBuilder, prototype = "int64_t f(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t)"): NativeFunction {
  return nativeFunction(allocateExecutable(f.finish().code).address, prototype);
}

test("parameters, arithmetic and a result", () => {
  const f = new FunctionBuilder(AVX2, "sum", 6);
  const sum = f.gp("sum");
  f.emit("mov", sum, 0);
  for (const param of f.params) {
    f.emit("imul", sum, 10);
    f.emit("add", sum, param);
  }
  f.ret(sum);
  assert.equal(compile(f)(1, 2, 3, 4, 5, 6), 123456);
});

test("a loop with an if sums the even numbers", () => {
  const f = new FunctionBuilder(AVX2, "evens", 1);
  const sum = f.gp("sum");
  f.emit("mov", sum, 0);
  f.loop(0, f.params[0]!, 1, (index) => {
    f.emit("test", index, 1);
    f.ifElse("eq", () => f.emit("add", sum, index), () => f.emit("sub", sum, 1));
  });
  f.ret(sum);
  const evens = compile(f, "int64_t f(int64_t)");
  assert.equal(evens(10), 20 - 5);
  assert.equal(evens(0), 0);
  assert.equal(evens(-3), 0);
});

test("fixed registers: division, shifts, rotates, large numbers", () => {
  const f = new FunctionBuilder(AVX2, "fixed", 6);
  const [a, b, c, d] = f.params as [VReg, VReg, VReg, VReg];
  const { quotient, remainder } = f.divide(a, b);
  f.emit("shl", quotient, c);
  f.emit("rol", remainder, d);
  f.emit("add", quotient, remainder);
  const big = f.gp();
  f.emit("mov", big, 2 ** 40);
  f.emit("add", quotient, big);
  f.emit("mov", big, 2 ** 31);
  f.emit("add", quotient, big);
  f.emit("mov", big, -7);
  f.emit("add", quotient, big);
  f.emit("add", quotient, a);
  f.ret(quotient);
  // -1000 / 7 is -142, remainder -6; -6 rotated left by one is -11.
  assert.equal(compile(f)(-1000, 7, 4, 1, 0, 0), -142 * 16 - 11 + 2 ** 40 + 2 ** 31 - 7 - 1000);
});

test("calls keep what lives across them", () => {
  const callee = new FunctionBuilder(AVX2, "callee", 2);
  const product = callee.gp();
  callee.emit("mov", product, callee.params[0]!);
  callee.emit("imul", product, callee.params[1]!);
  callee.ret(product);
  const target = allocateExecutable(callee.finish().code).address;
  for (const isa of runnableIsas()) {
    const f = new FunctionBuilder(isa, "caller", 6);
    const pointer = f.gp();
    f.emit("mov", pointer, Number(target));
    const v = f.vec();
    f.emit("vcvtsi2sd", v, v, f.params[0]!);
    const m = f.mask();
    if (isa.name === "avx512") f.emit("kmovq", m, f.params[1]!);
    const result = f.call(pointer, f.params[4]!, f.params[5]!);
    for (const param of f.params) f.emit("add", result, param);
    const back = f.gp();
    f.emit("vcvttsd2si", back, v);
    f.emit("add", result, back);
    if (isa.name === "avx512") {
      f.emit("kmovq", back, m);
      f.emit("add", result, back);
    }
    f.ret(result);
    const { code, spills, frameBytes } = f.finish();
    assert.equal(spills, isa.name === "avx512" ? 2 : 1);
    assert.ok(frameBytes >= 8);
    assert.equal(nativeFunction(allocateExecutable(code).address, "int64_t f(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t)")(1, 2, 3, 4, 5, 6), 30 + 21 + 1 + (isa.name === "avx512" ? 2 : 0));
  }
});

test("system calls and cpuid through their registers", () => {
  const f = new FunctionBuilder(AVX2, "getpid", 0);
  f.ret(f.syscall(39));
  assert.equal(compile(f, "int64_t f()")(), process.pid);
  const g = new FunctionBuilder(AVX2, "vendor", 1);
  const kept = g.gp();
  g.emit("mov", kept, g.params[0]!);
  g.emit("mov", RAX, 0);
  g.emit("mov", RCX, 0);
  g.emit("cpuid");
  const ebx = g.gp();
  g.emit("mov.d", ebx, GP[3]!);
  const edx = g.gp();
  g.emit("mov.d", edx, RDX);
  g.emit("add", ebx, kept);
  g.ret(ebx);
  const vendor = Number(compile(g, "int64_t f(int64_t)")(1)) - 1;
  assert.match(Buffer.from(Uint32Array.of(vendor).buffer).toString(), /^(Auth|Genu|Hygo)$/);
});

test("constants are shared and aligned, frame memory is aligned", () => {
  const f = new FunctionBuilder(AVX512, "aligned", 0);
  const bytes = new Uint8Array(64).fill(7);
  assert.equal(f.constant(bytes).constant, f.constant(bytes.slice()).constant);
  const a = f.gp();
  f.emit("lea", a, f.constant(bytes));
  const b = f.gp();
  f.emit("lea", b, f.stackSlot(64));
  f.emit("or", a, b);
  f.emit("and", a, 63);
  f.ret(a);
  assert.equal(compile(f, "int64_t f()")(), 0);
});

test("jumps are short where they reach and near where they do not", () => {
  for (const filler of [10, 121, 122, 123, 124, 125, 126, 127, 128, 129, 200]) {
    const f = new FunctionBuilder(AVX2, "jumps", 1);
    const [over, back] = [f.label(), f.label()];
    const result = f.gp();
    f.emit("mov", result, 5);
    f.bind(back);
    f.emit("test", f.params[0]!, f.params[0]!);
    f.jump("eq", over);
    for (let i = 0; i < filler; i++) f.emit("nop");
    f.emit("add", result, 1);
    f.emit("sub", f.params[0]!, 1);
    f.jump("always", back);
    f.bind(over);
    f.ret(result);
    assert.equal(compile(f, "int64_t f(int64_t)")(3), 8, `${filler}`);
  }
});

/** A random program over many registers: straight lines, loops and branches. */
type Step =
  | { readonly kind: "op"; readonly op: "add" | "sub" | "xor" | "imul" | "mov"; readonly to: number; readonly from: number }
  | { readonly kind: "vector"; readonly op: "vpaddd" | "vpsubd" | "vpxor" | "vpmulld"; readonly to: number; readonly a: number; readonly b: number }
  | { readonly kind: "cross"; readonly to: number; readonly from: number }
  | { readonly kind: "mask"; readonly to: number; readonly a: number; readonly b: number }
  | { readonly kind: "blend"; readonly to: number; readonly mask: number; readonly a: number }
  | { readonly kind: "loop"; readonly times: number; readonly body: readonly Step[] }
  | { readonly kind: "if"; readonly a: number; readonly b: number; readonly condition: "lt" | "ge" | "eq"; readonly then: readonly Step[]; readonly otherwise: readonly Step[] };

const GENERAL = 22;
const VECTORS = 45;
const MASKS = 10;

const index = (count: number) => fc.nat(count - 1);
const flat = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("op" as const), op: fc.constantFrom("add", "sub", "xor", "imul", "mov" as const), to: index(GENERAL), from: index(GENERAL) }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("vector" as const), op: fc.constantFrom("vpaddd", "vpsubd", "vpxor", "vpmulld" as const), to: index(VECTORS), a: index(VECTORS), b: index(VECTORS) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("cross" as const), to: index(VECTORS), from: index(GENERAL) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("mask" as const), to: index(MASKS), a: index(VECTORS), b: index(VECTORS) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("blend" as const), to: index(VECTORS), mask: index(MASKS), a: index(VECTORS) }) },
) as fc.Arbitrary<Step>;

const { program } = fc.letrec<{ program: Step[]; step: Step }>((tie) => ({
  program: fc.array(tie("step"), { maxLength: 25 }),
  step: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    { weight: 12, arbitrary: flat },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("loop" as const), times: fc.integer({ min: 1, max: 3 }), body: tie("program") }) as fc.Arbitrary<Step> },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("if" as const), a: index(GENERAL), b: index(GENERAL), condition: fc.constantFrom("lt", "ge", "eq" as const), then: tie("program"), otherwise: tie("program") }) as fc.Arbitrary<Step> },
  ),
}));

class Interpreter {
  readonly general = Array.from({ length: GENERAL }, (_, i) => BigInt(i * i + 3));
  readonly vectors = Array.from({ length: VECTORS }, (_, i) => Int32Array.from({ length: 16 }, (_, lane) => i * 1000 + lane));
  readonly masks = Array.from({ length: MASKS }, () => new Array<boolean>(16).fill(false));

  run(steps: readonly Step[]): void {
    for (const step of steps) this.step(step);
  }

  private step(step: Step): void {
    const { general, vectors, masks } = this;
    switch (step.kind) {
      case "op": general[step.to] = BigInt.asIntN(64, operate(step.op, general[step.to]!, general[step.from]!)); break;
      case "vector": {
        const [a, b] = [vectors[step.a]!, vectors[step.b]!];
        vectors[step.to] = a.map((x, i) => (step.op === "vpaddd" ? x + b[i]! : step.op === "vpsubd" ? x - b[i]! : step.op === "vpxor" ? x ^ b[i]! : Math.imul(x, b[i]!)));
        break;
      }
      case "cross": vectors[step.to] = new Int32Array(16).fill(Number(BigInt.asIntN(32, general[step.from]!))); break;
      case "mask": masks[step.to] = Array.from(vectors[step.a]!, (x, i) => x > vectors[step.b]![i]!); break;
      case "blend": vectors[step.to] = vectors[step.to]!.map((x, i) => (masks[step.mask]![i] ? vectors[step.a]![i]! : x)); break;
      case "loop": for (let i = 0; i < step.times; i++) this.run(step.body); break;
      case "if": {
        const [a, b] = [general[step.a]!, general[step.b]!];
        this.run((step.condition === "lt" ? a < b : step.condition === "ge" ? a >= b : a === b) ? step.then : step.otherwise);
      }
    }
  }
}

function operate(op: string, a: bigint, b: bigint): bigint {
  switch (op) {
    case "add": return a + b;
    case "sub": return a - b;
    case "xor": return a ^ b;
    case "imul": return a * b;
    default: return b;
  }
}

class Emitter {
  readonly f: FunctionBuilder;
  readonly general: VReg[];
  readonly vectors: VReg[];
  readonly masks: VReg[];

  constructor(isa: Isa) {
    this.f = new FunctionBuilder(isa, "random", 1);
    this.general = Array.from({ length: GENERAL }, () => this.f.gp());
    this.vectors = Array.from({ length: VECTORS }, () => this.f.vec());
    this.masks = Array.from({ length: MASKS }, () => this.f.mask());
  }

  compile(steps: readonly Step[]): ReturnType<FunctionBuilder["finish"]> {
    const { f } = this;
    const wide = f.isa.vectorBytes;
    this.general.forEach((register, i) => f.emit("mov", register, i * i + 3));
    this.vectors.forEach((register, i) => f.emit("vmovdqu", register, f.constant(new Uint8Array(Int32Array.from({ length: wide / 4 }, (_, lane) => i * 1000 + lane).buffer))));
    for (const register of this.masks) f.isa.name === "avx512" ? f.emit("kxorq", register, register, register) : f.emit("vpxor", register, register, register);
    this.run(steps);
    const out = f.params[0]!;
    this.general.forEach((register, i) => f.emit("mov", mem(out, { disp: 8 * i }), register));
    this.vectors.forEach((register, i) => f.emit("vmovdqu", mem(out, { disp: 8 * GENERAL + wide * i }), register));
    f.ret();
    return f.finish();
  }

  private run(steps: readonly Step[]): void {
    for (const step of steps) this.step(step);
  }

  private step(step: Step): void {
    const { f, general, vectors, masks } = this;
    const evex = f.isa.name === "avx512";
    switch (step.kind) {
      case "op": f.emit(step.op, general[step.to]!, general[step.from]!); break;
      case "vector": f.emit(step.op, vectors[step.to]!, vectors[step.a]!, vectors[step.b]!); break;
      case "cross":
        f.emit("vmovd", vectors[step.to]!, general[step.from]!);
        f.emit("vpbroadcastd", vectors[step.to]!, vectors[step.to]!);
        break;
      case "mask": f.emit("vpcmpgtd", masks[step.to]!, vectors[step.a]!, vectors[step.b]!); break;
      case "blend":
        if (evex) f.emitMasked("vmovdqu32", masks[step.mask]!, false, vectors[step.to]!, vectors[step.a]!);
        else f.emit("vpblendvb", vectors[step.to]!, vectors[step.to]!, vectors[step.a]!, masks[step.mask]!);
        break;
      case "loop": f.loop(0, step.times, 1, () => this.run(step.body)); break;
      case "if":
        f.emit("cmp", general[step.a]!, general[step.b]!);
        f.ifElse(step.condition satisfies Condition, () => this.run(step.then), () => this.run(step.otherwise));
    }
  }
}

test("random programs with more values than registers compute what an interpreter computes", () => {
  let spills = 0;
  using memory = NativeMemory.allocate(16384);
  for (const isa of runnableIsas()) {
    fc.assert(fc.property(program, (steps) => {
      const expected = new Interpreter();
      expected.run(steps);
      const finished = new Emitter(isa).compile(steps);
      spills += finished.spills;
      using code = allocateExecutable(finished.code);
      nativeFunction(code.address, "void f(int64_t)")(memory.address);
      const bytes = memory.view();
      const general = new BigInt64Array(bytes.buffer, bytes.byteOffset, GENERAL);
      assert.deepEqual(Array.from(general), expected.general);
      const lanes = isa.vectorBytes / 4;
      for (let i = 0; i < VECTORS; i++) {
        const got = new Int32Array(bytes.buffer, bytes.byteOffset + 8 * GENERAL + isa.vectorBytes * i, lanes);
        assert.deepEqual(Array.from(got), Array.from(expected.vectors[i]!.slice(0, lanes)), `vector ${i}`);
      }
    }), { numRuns: 120, seed: 7 });
  }
  assert.ok(spills > 1000, "the programs need more registers than there are");
});

test("what was given up for constants is made again instead of stored", () => {
  const f = new FunctionBuilder(AVX2, "constants", 1);
  const constants = Array.from({ length: 24 }, (_, i) => {
    const register = f.vec();
    f.emit("vbroadcastss", register, f.constant(new Uint8Array(Float32Array.of(i).buffer)));
    return register;
  });
  const sum = f.vec();
  f.emit("vxorps", sum, sum, sum);
  f.loop(0, 3, 1, () => { for (const constant of constants) f.emit("vaddps", sum, sum, constant); });
  f.emit("vmovups", mem(f.params[0]!), sum);
  f.ret();
  const { code, frameBytes, spills } = f.finish();
  assert.ok(spills > 0);
  assert.equal(frameBytes, 0);
  using memory = NativeMemory.allocate(64);
  nativeFunction(allocateExecutable(code).address, "void f(int64_t)")(memory.address);
  assert.equal(new Float32Array(memory.view().buffer)[0], 3 * 276);
});

test("a register that is written before it is read lives no longer than it must", () => {
  const f = new FunctionBuilder(AVX512, "short lives", 1);
  const m = f.mask();
  f.emit("kxnorq", m, m, m);
  const v = f.vec();
  f.emit("vmovups", v, mem(f.params[0]!));
  for (let i = 0; i < 100; i++) {
    const [zero, blend, scalar] = [f.vec(), f.vec(), f.vec()];
    f.emit("vpxord", zero, zero, zero);
    f.emitMasked("vblendmps", m, false, blend, v, zero);
    f.emit("vcvtsi2sd", scalar, scalar, f.params[0]!);
    f.emit("vaddps", v, blend, scalar);
  }
  f.emit("vmovups", mem(f.params[0]!), v);
  f.ret();
  const finished = f.finish();
  assert.equal(finished.spills, 0);
  assert.doesNotMatch(finished.listing(), /zmm[4-9]|zmm\d\d/);
});

test("listings show names, conditions and constants", () => {
  const f = new FunctionBuilder(AVX512, "listed", 2);
  const v = f.vec();
  f.comment("load");
  f.emitMasked("vmovups", f.mask(), true, v, mem(f.params[0]!, { index: f.params[1]!, scale: 4, disp: 64 }));
  f.emit("vaddps", v, v, { ...f.constant(new Uint8Array(4)), broadcast: true });
  f.emit("vmovups.y", mem(f.params[0]!), v);
  f.ret();
  const listing = f.finish().listing();
  assert.match(listing, /# load\n {4}vmovups zmm0 \{k1\}\{z\}, zmmword ptr \[rdi \+ rsi\*4 \+ 64\]\n {4}vaddps zmm0, zmm0, dword ptr \[rip \+ constant0\]\{1to16\}\n {4}vmovups ymmword ptr \[rdi\], ymm0/);
  assert.match(listing, /vzeroupper\n {4}ret\nconstant0: 00000000/);
});

test("what the table does not have is a clear error", () => {
  const f = new FunctionBuilder(AVX2, "wrong", 1);
  assert.throws(() => f.emit("vaddpz", f.vec()), /no instruction vaddpz/);
  assert.throws(() => f.emit("vaddps.z", f.vec(), f.vec(), f.vec()), /no form of vaddps.z/);
  assert.throws(() => f.emit("vaddps", f.vec(), f.vec(), { base: f.params[0], broadcast: true }), /memory broadcast/);
  assert.throws(() => f.emit("add", f.params[0]!, 2 ** 31), /no form of add/);
});
