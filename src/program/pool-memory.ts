/**
 * The one place in a process where its thread pool lies. JavaScript threads share no objects, so they meet at an
 * address: a mapping of a named memory file, placed so that only one of them can make it. Its name carries the digest
 * of the walker's code, so that two versions of this package in one process keep to themselves.
 *
 * The mapping is never removed: pool threads live until the process ends.
 * Source: mmap(2), MAP_FIXED_NOREPLACE; proc(5), /proc/pid/maps.
 */
import { readFileSync } from "node:fs";
import { SinterError } from "../base/index.ts";
import { closeDescriptor, createMemoryFile, errnoName, MAP, mmap, munmap, PROT } from "../native/index.ts";
import { POOL_BYTES } from "./layout.ts";

const FIRST_ADDRESS = 0x5150_0000_0000;
const STRIDE = 0x100_0000;
const CANDIDATES = 16;

/** The address of the pool called `name`; zeroed memory when this call made it. */
export function mapPool(name: string): number {
  const fd = createMemoryFile(name, POOL_BYTES);
  try {
    for (let index = 0; index < CANDIDATES; index++) {
      const wanted = FIRST_ADDRESS + index * STRIDE;
      const got = mmap(wanted, POOL_BYTES, PROT.read | PROT.write, MAP.shared | MAP.fixedNoReplace, fd);
      if (got === wanted) return got;
      if (got !== -1) munmap(got, POOL_BYTES);
      else if (errnoName() !== "EEXIST") break;
      if (isMappedAt(wanted, name)) return wanted;
    }
  } finally {
    closeDescriptor(fd);
  }
  throw new SinterError("limit-exceeded", `Thread pool: its ${POOL_BYTES} bytes could not be mapped (${errnoName()}).`);
}

function isMappedAt(address: number, name: string): boolean {
  const start = `${address.toString(16)}-`;
  return readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .some((line) => line.startsWith(start) && line.includes(`/memfd:${name} `));
}
