/**
 * The FFI library, loaded when native code is first needed: importing Sinter works on every platform, and what
 * cannot run there fails with a clear error at the call. Each worker thread loads it for itself.
 *
 * Addresses are passed as `int64_t`: user-space addresses are below 2^47, so plain numbers hold them exactly and cost
 * no allocation; bigints are accepted as well.
 */
import { createRequire } from "node:module";
import { UnsupportedError } from "../base/index.ts";

type Koffi = typeof import("koffi");

let loaded: Koffi | undefined;
let library: ReturnType<Koffi["load"]> | undefined;

/** @throws UnsupportedError when the platform is not Linux on x86-64 */
export function koffi(): Koffi {
  if (loaded !== undefined) return loaded;
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new UnsupportedError(
      "unsupported-cpu",
      `Native engines need Linux on x86-64; this is ${process.platform} on ${process.arch}. Reading and inspecting models works here; build and run them on such a machine.`,
    );
  }
  loaded = createRequire(import.meta.url)("koffi") as Koffi;
  // The first load sets up this thread's call stack; calling a raw address in a worker before it ends the process.
  library = loaded.load(null);
  for (const [definition, slot] of libcFunctions) slot.bound = bind(definition);
  return loaded;
}

/** A bound native function: integers and addresses as number or bigint; 64-bit results as number when they fit. */
export type NativeFunction = (...args: readonly (number | bigint | null | string | ArrayBufferView)[]) => number | bigint;

/** Types parsed from definitions, kept because parsing costs more than many calls. */
const prototypes = new Map<string, ReturnType<Koffi["proto"]>>();

/**
 * Binds machine code at `address`.
 * @param definition a C prototype, e.g. `"int f(void*, long)"`; the name means nothing
 */
export function nativeFunction(address: bigint | number, definition: string): NativeFunction {
  let prototype = prototypes.get(definition);
  if (prototype === undefined) {
    const named = definition.replace(/\w+(?=\s*\()/, `sinter_${prototypes.size}`);
    prototype = koffi().proto(named);
    prototypes.set(definition, prototype);
  }
  return koffi().decode(BigInt(address), prototype) as NativeFunction;
}

/** The C library's functions that modules have asked for, by prototype; bound as soon as the library is loaded. */
const libcFunctions = new Map<string, { bound: NativeFunction | undefined }>();

function bind(definition: string): NativeFunction {
  return library!.func(definition) as unknown as NativeFunction;
}

/**
 * A function of the C library by its prototype. Ask at a module's top: all are bound together when the FFI library is
 * loaded, since binding makes JavaScript objects, and where a worker is being terminated koffi ends the process instead.
 */
export function libc(definition: string): NativeFunction {
  const slot = libcFunctions.get(definition) ?? { bound: library && bind(definition) };
  libcFunctions.set(definition, slot);
  return (...args) => {
    if (slot.bound === undefined) koffi();
    return slot.bound!(...args);
  };
}

/** The C library's name for the last error of this thread, e.g. `"ENOMEM"`. */
export function errnoName(): string {
  const number = koffi().errno();
  for (const [name, value] of Object.entries(koffi().os.errno)) if (value === number) return name;
  return `errno ${number}`;
}

/** Where the memory behind a view lies. */
const viewed = new WeakMap<ArrayBufferLike, number>();

/** A view of native memory that stays mapped for as long as the view is used; at most 4 GiB. */
export function viewMemory(address: bigint | number, sizeBytes: number): ArrayBuffer {
  const buffer = koffi().view(BigInt(address), sizeBytes);
  viewed.set(buffer, Number(address));
  return buffer;
}

/** The address of bytes that are a view of native memory; undefined for those of the JavaScript heap, which move. */
export function addressOf(bytes: Uint8Array): number | undefined {
  const base = viewed.get(bytes.buffer);
  return base === undefined ? undefined : base + bytes.byteOffset;
}
