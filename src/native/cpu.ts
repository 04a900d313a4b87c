/**
 * What the processor can do: read once with CPUID and XGETBV by a generated stub, since a feature counts only when
 * the operating system also saves its registers.
 *
 * Source: Intel SDM vol. 2, CPUID and XGETBV; AMD APM vol. 3, appendix E; Linux, Documentation/arch/x86/xstate.rst (AMX).
 */
import { UnsupportedError, UserError } from "../base/index.ts";
import { libc, nativeFunction } from "./koffi.ts";
import { allocateExecutable, NativeMemory } from "./memory.ts";
import { at, StubAssembler } from "./stub-assembler.ts";

const syscall = libc("int64_t syscall(int64_t number, int64_t a, int64_t b, int64_t c)");

type Output = "eax" | "ebx" | "ecx" | "edx";
/** Register state the system must save: bits of XCR0. */
const STATE = { none: 0, avx: 0b110, avx512: 0b1110_0110, amx: 0x6_0000 } as const;

/** Feature: leaf, subleaf, register, bit, and the state it needs. */
const FEATURES = {
  avx2: [7, 0, "ebx", 5, "avx"],
  fma: [1, 0, "ecx", 12, "avx"],
  f16c: [1, 0, "ecx", 29, "avx"],
  bmi2: [7, 0, "ebx", 8, "none"],
  avxvnni: [7, 1, "eax", 4, "avx"],
  avx512f: [7, 0, "ebx", 16, "avx512"],
  avx512bw: [7, 0, "ebx", 30, "avx512"],
  avx512dq: [7, 0, "ebx", 17, "avx512"],
  avx512vl: [7, 0, "ebx", 31, "avx512"],
  avx512vbmi: [7, 0, "ecx", 1, "avx512"],
  avx512vnni: [7, 0, "ecx", 11, "avx512"],
  avx512bf16: [7, 1, "eax", 5, "avx512"],
  avx512fp16: [7, 0, "edx", 23, "avx512"],
  amxtile: [7, 0, "edx", 24, "amx"],
  amxbf16: [7, 0, "edx", 22, "amx"],
  amxint8: [7, 0, "edx", 25, "amx"],
} as const satisfies Record<string, readonly [number, number, Output, number, keyof typeof STATE]>;

export type CpuFeature = keyof typeof FEATURES;
const FEATURE_NAMES = Object.keys(FEATURES) as CpuFeature[];

/** What `SINTER_CPU` may say: the processor is treated as having no more than this. */
const LIMITS: Readonly<Record<string, (feature: CpuFeature) => boolean>> = {
  native: () => true,
  avx512: (feature) => !feature.startsWith("amx"),
  avx2: (feature) => !feature.startsWith("avx512") && !feature.startsWith("amx"),
  baseline: () => false,
};

export interface Cpu {
  /** e.g. `"GenuineIntel"` */
  readonly vendor: string;
  readonly brand: string;
  readonly family: number;
  readonly model: number;
  readonly stepping: number;
  readonly features: ReadonlySet<CpuFeature>;
  /** Per core, or as shared by the cores that share it; 0 when unknown. */
  readonly cacheBytes: { readonly l1d: number; readonly l2: number; readonly l3: number };
  /** Stable name of what code made here may assume: vendor, family, model and features. */
  readonly id: string;
}

interface Leaf {
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

/** Reads leaves of CPUID; subleaf 0 when not given. */
type ReadLeaf = (leaf: number, subleaf?: number) => Leaf;

/** Code of `cpuid(out, leaf, subleaf)` and `xgetbv(out)`. */
function assembleStubs(): { readonly code: Uint8Array; readonly entries: ReadonlyMap<string, number> } {
  const a = new StubAssembler();
  a.entry("cpuid");
  a.push("rbx");
  a.move("rax", "rsi", 32);
  a.move("rcx", "rdx", 32);
  a.cpuid();
  a.store(at("rdi", 0), "rax", 32);
  a.store(at("rdi", 4), "rbx", 32);
  a.store(at("rdi", 8), "rcx", 32);
  a.store(at("rdi", 12), "rdx", 32);
  a.pop("rbx");
  a.ret();
  a.entry("xgetbv");
  a.zero("rcx");
  a.xgetbv();
  a.store(at("rdi", 0), "rax", 32);
  a.ret();
  return a.finish();
}

function readWith<T>(use: (read: ReadLeaf, readXcr0: () => number) => T): T {
  const stubs = assembleStubs();
  using code = allocateExecutable(stubs.code);
  using output = NativeMemory.allocate(16);
  const words = new Uint32Array(output.view().buffer);
  const cpuid = nativeFunction(code.address + BigInt(stubs.entries.get("cpuid")!), "void f(int64_t, int, int)");
  const xgetbv = nativeFunction(code.address + BigInt(stubs.entries.get("xgetbv")!), "void f(int64_t)");
  return use(
    (leaf, subleaf = 0) => {
      cpuid(output.address, leaf | 0, subleaf);
      return { eax: words[0]!, ebx: words[1]!, ecx: words[2]!, edx: words[3]! };
    },
    () => {
      xgetbv(output.address);
      return words[0]!;
    },
  );
}

function text(registers: readonly number[]): string {
  return Buffer.from(Uint32Array.from(registers).buffer).toString("latin1").replace(/\0.*$/s, "").trim();
}

function readBrand(read: ReadLeaf): string {
  if (read(0x8000_0000).eax < 0x8000_0004) return "";
  return text([0x8000_0002, 0x8000_0003, 0x8000_0004].flatMap((leaf) => Object.values(read(leaf)) as number[]));
}

function readIdentity(read: ReadLeaf): Pick<Cpu, "family" | "model" | "stepping"> {
  const { eax } = read(1);
  const base = (eax >> 8) & 15;
  const family = base === 15 ? 15 + ((eax >> 20) & 255) : base;
  const extended = base === 15 || base === 6 ? (eax >> 16) & 15 : 0;
  return { family, model: (extended << 4) | ((eax >> 4) & 15), stepping: eax & 15 };
}

function readFeatures(read: ReadLeaf, readXcr0: () => number): Set<CpuFeature> {
  const savesState = (read(1).ecx >>> 27) & 1;
  const state = savesState ? readXcr0() : 0;
  const highest = read(0).eax;
  const found = new Set<CpuFeature>();
  for (const name of FEATURE_NAMES) {
    const [leaf, subleaf, register, bit, needs] = FEATURES[name];
    if (leaf > highest || (subleaf > 0 && read(leaf, 0).eax < subleaf)) continue;
    const present = (read(leaf, subleaf)[register] >>> bit) & 1;
    if (present && (state & STATE[needs]) === STATE[needs]) found.add(name);
  }
  return found;
}

/** Assumed where a hypervisor hides the caches: what every processor with AVX2 has at least. */
const LEAST_CACHES = { l1d: 32 * 1024, l2: 256 * 1024, l3: 0 };

function readCaches(read: ReadLeaf, vendor: string): Cpu["cacheBytes"] {
  const listed = listedCaches(read, vendor);
  return { l1d: listed.l1d || LEAST_CACHES.l1d, l2: listed.l2 || LEAST_CACHES.l2, l3: listed.l3 };
}

/** Cache sizes from the leaf that lists caches: 4 on Intel, 0x8000001D on AMD; else AMD's older leaves; 0 where unknown. */
function listedCaches(read: ReadLeaf, vendor: string): { l1d: number; l2: number; l3: number } {
  const leaf = vendor === "GenuineIntel" ? 4 : 0x8000_001d;
  const highest = vendor === "GenuineIntel" ? read(0).eax : read(0x8000_0000).eax;
  const sizes = { l1d: 0, l2: 0, l3: 0 };
  if (vendor === "AuthenticAMD" && highest >= 0x8000_0006) {
    sizes.l1d = (read(0x8000_0005).ecx >>> 24) * 1024;
    sizes.l2 = (read(0x8000_0006).ecx >>> 16) * 1024;
  }
  if (highest < leaf) return sizes;
  for (let index = 0; index < 16; index++) {
    const { eax, ebx, ecx } = read(leaf, index);
    const type = eax & 31;
    if (type === 0) break;
    if (type === 2) continue;
    const bytes = ((ebx >>> 22) + 1) * (((ebx >>> 12) & 1023) + 1) * ((ebx & 4095) + 1) * (ecx + 1);
    const level = (eax >>> 5) & 7;
    if (level === 1) sizes.l1d = bytes;
    else if (level === 2) sizes.l2 = bytes;
    else if (level === 3) sizes.l3 = bytes;
  }
  return sizes;
}

function identify(read: ReadLeaf, readXcr0: () => number): Cpu {
  const first = read(0);
  const vendor = text([first.ebx, first.edx, first.ecx]);
  const identity = readIdentity(read);
  const features = readFeatures(read, readXcr0);
  return { vendor, brand: readBrand(read), ...identity, features, cacheBytes: readCaches(read, vendor), id: nameOf(vendor, identity, features) };
}

function nameOf(vendor: string, identity: Pick<Cpu, "family" | "model">, features: ReadonlySet<CpuFeature>): string {
  const known = FEATURE_NAMES.filter((feature) => features.has(feature));
  return `x64-${vendor}-${identity.family}-${identity.model}-${known.join("+") || "baseline"}`;
}

let detected: Cpu | undefined;

/**
 * Linux gives tiles their 8 KB of state only in a process that asks for it; the answer holds for all its threads, those
 * that come later included. A system that does not know the question, or forbids it, has no tiles for us.
 */
function mayUseTiles(): boolean {
  const [archPrctl, requestPermission, tileData] = [158, 0x1023, 18];
  return Number(syscall(archPrctl, requestPermission, tileData, 0)) === 0;
}

/**
 * The processor this process runs on, limited by `SINTER_CPU` (`native`, `avx512`, `avx2`, `baseline`) when set. Where it
 * has tiles and is not limited, this asks for them.
 * @throws UnsupportedError off Linux x86-64; UserError for an unknown limit
 */
export function detectCpu(environment: Readonly<Record<string, string | undefined>> = {}): Cpu {
  const limit = environment["SINTER_CPU"] || "native";
  const allows = LIMITS[limit];
  if (allows === undefined) {
    throw new UserError("option-invalid", `SINTER_CPU is "${limit}"; expected one of ${Object.keys(LIMITS).join(", ")}.`);
  }
  detected ??= readWith(identify);
  const features = new Set([...detected.features].filter(allows));
  if (features.has("amxtile") && !mayUseTiles()) for (const feature of features) if (feature.startsWith("amx")) features.delete(feature);
  return { ...detected, features, id: nameOf(detected.vendor, detected, features) };
}

/** What every generated kernel may assume. */
const REQUIRED: readonly CpuFeature[] = ["avx2", "fma", "f16c"];

/** @throws UnsupportedError when generated code cannot run on `cpu` */
export function requireCpu(cpu: Cpu): void {
  const missing = REQUIRED.filter((feature) => !cpu.features.has(feature));
  if (missing.length === 0) return;
  throw new UnsupportedError(
    "unsupported-cpu",
    `Processor "${cpu.brand || cpu.vendor}" lacks ${missing.join(", ")}; native engines need AVX2, FMA and F16C (Intel Haswell, AMD Zen, or later).`,
  );
}
