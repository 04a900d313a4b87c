/**
 * A shared library found at run time, and its functions by name: for what may or may not be installed (a GPU's driver, a
 * compiler). It stays loaded.
 * Source: dlopen(3).
 */
import { libc, nativeFunction, type NativeFunction } from "./koffi.ts";

const dlopen = libc("int64_t dlopen(const char *path, int flags)");
const dlsym = libc("int64_t dlsym(int64_t library, const char *name)");
const strlen = libc("size_t strlen(int64_t text)");
const memcpy = libc("int64_t memcpy(void *to, int64_t from, size_t bytes)");

const RTLD_NOW = 2;

export class SharedLibrary {
  /** The name under which it was found. */
  readonly name: string;
  readonly #handle: number;
  readonly #functions = new Map<string, NativeFunction>();

  private constructor(name: string, handle: number) {
    this.name = name;
    this.#handle = handle;
  }

  /** The first of these names or paths that can be loaded. */
  static open(names: readonly string[]): SharedLibrary | undefined {
    for (const name of names) {
      const handle = Number(dlopen(name, RTLD_NOW));
      if (handle !== 0) return new SharedLibrary(name, handle);
    }
    return undefined;
  }

  /** Address of a symbol; 0 when the library has none of that name. */
  address(symbol: string): number {
    return Number(dlsym(this.#handle, symbol));
  }

  /** A function by its prototype, e.g. `int cuInit(unsigned int flags)`; undefined when the library has none of that name. */
  find(prototype: string): NativeFunction | undefined {
    let bound = this.#functions.get(prototype);
    if (bound === undefined) {
      const address = this.address(/(\w+)\(/.exec(prototype)![1]!);
      if (address === 0) return undefined;
      this.#functions.set(prototype, (bound = nativeFunction(address, prototype)));
    }
    return bound;
  }
}

/** A C string at an address. */
export function textAt(address: number | bigint): string {
  const size = Number(strlen(address));
  const copy = Buffer.alloc(size);
  memcpy(copy, address, size);
  return copy.toString("utf8");
}
