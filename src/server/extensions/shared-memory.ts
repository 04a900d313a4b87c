/**
 * The system shared memory extension: clients put tensors into POSIX shared memory and name the place in their requests.
 *
 * Off unless asked for: whoever reaches the server could otherwise have it read and write any shared memory of its user
 * that he can name. Regions are read and written as the files they are, and never mapped: a client that truncates a mapped region
 * would end this process. That costs the one copy that a request over a socket costs as well.
 * Sources: Triton's extension_shared_memory; shm_overview(7).
 */
import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { ServingError } from "../contract.ts";

const FOLDER = "/dev/shm";
/** Keys that belong to a server's own processes. */
const OWN_PREFIXES = ["triton_python_backend_shm_region_", "sinter"];
const DISABLED = "Client shared memory is disabled. Start the server with --allow-client-shm=true to enable it.";
const MOST_REGIONS = 4096;

export interface SharedMemoryRegion {
  readonly name: string;
  readonly key: string;
  readonly offset: number;
  readonly byteSize: number;
}

/** Where in a region a tensor lies. */
export interface SharedMemoryPlace {
  readonly region: string;
  readonly offset: number;
  readonly byteSize: number;
}

interface OpenRegion extends SharedMemoryRegion {
  readonly fd: number;
}

export class SharedMemoryRegions {
  readonly enabled: boolean;
  readonly #regions = new Map<string, OpenRegion>();

  constructor(enabled: boolean) {
    this.enabled = enabled;
  }

  /** All regions for "". @throws NOT_FOUND for a name that is not registered */
  status(name: string): readonly SharedMemoryRegion[] {
    if (name === "") return [...this.#regions.values()];
    const region = this.#regions.get(name);
    if (region === undefined) throw new ServingError("NOT_FOUND", `Unable to find system shared memory region: '${name}'`);
    return [region];
  }

  /** @throws UNSUPPORTED when clients may not; ALREADY_EXISTS; INVALID_ARG for keys and ranges that are not there */
  register(name: string, key: string, offset: number, byteSize: number): void {
    this.requireEnabled();
    if (name === "") throw new ServingError("INVALID_ARG", "'region name' is necessary to register system shared memory region");
    if (this.#regions.has(name)) throw new ServingError("ALREADY_EXISTS", `shared memory region '${name}' already in manager`);
    if (this.#regions.size >= MOST_REGIONS) throw new ServingError("UNAVAILABLE", `${MOST_REGIONS} shared memory regions are registered; unregister one first`);
    const fd = openRegion(name, key);
    const size = fstatSync(fd).size;
    if (!isRange(offset, byteSize, size)) {
      closeSync(fd);
      throw new ServingError("INVALID_ARG", `failed to register shared memory region '${name}': invalid args`);
    }
    this.#regions.set(name, { name, key, offset, byteSize, fd });
  }

  /** All regions for ""; a name that is not registered is no error. @throws UNSUPPORTED when clients may not */
  unregister(name: string): void {
    this.requireEnabled();
    for (const region of name === "" ? [...this.#regions.values()] : [this.#regions.get(name)]) {
      if (region === undefined) continue;
      this.#regions.delete(region.name);
      closeSync(region.fd);
    }
  }

  /** @throws INVALID_ARG when the place is not inside a registered region */
  check(place: SharedMemoryPlace): void {
    this.#find(place);
  }

  /** Copies the place's bytes, `into.byteLength` of them. */
  read(place: SharedMemoryPlace, into: Uint8Array): void {
    const region = this.#find(place);
    const read = readSync(region.fd, into, 0, into.byteLength, region.offset + place.offset);
    if (read !== into.byteLength) throw new ServingError("INVALID_ARG", `Invalid offset + byte size for shared memory region: '${place.region}'`);
  }

  /** Writes a result to its place. @throws INVALID_ARG when it does not fit */
  write(place: SharedMemoryPlace, output: string, bytes: Uint8Array): void {
    const region = this.#find(place);
    if (bytes.byteLength > place.byteSize) {
      throw new ServingError("INVALID_ARG", `shared memory size specified with the request for output '${output}' (${place.byteSize} bytes) should be at least ${bytes.byteLength} bytes to hold the results`);
    }
    // A region that shrank since would grow again by writing beyond its end.
    if (fstatSync(region.fd).size < region.offset + place.offset + bytes.byteLength) throw new ServingError("INVALID_ARG", `Invalid offset + byte size for shared memory region: '${place.region}'`);
    writeSync(region.fd, bytes, 0, bytes.byteLength, region.offset + place.offset);
  }

  /** CUDA regions: none can be registered, since requests are read in the host's memory. */
  refuseCuda(name: string): never {
    this.requireEnabled();
    throw new ServingError("UNSUPPORTED", `failed to register CUDA shared memory region: '${name}', GPUs not supported`);
  }

  close(): void {
    for (const region of this.#regions.values()) closeSync(region.fd);
    this.#regions.clear();
  }

  #find(place: SharedMemoryPlace): OpenRegion {
    const region = this.#regions.get(place.region);
    if (region === undefined) throw new ServingError("INVALID_ARG", this.enabled ? `Unable to find shared memory region: '${place.region}'` : DISABLED);
    if (!isRange(place.offset, 0, region.byteSize)) throw new ServingError("INVALID_ARG", `Invalid offset for shared memory region: '${place.region}'`);
    if (!isRange(place.offset, place.byteSize, region.byteSize)) throw new ServingError("INVALID_ARG", `Invalid offset + byte size for shared memory region: '${place.region}'`);
    return region;
  }

  /** @throws UNSUPPORTED when clients may not use shared memory */
  requireEnabled(): void {
    if (!this.enabled) throw new ServingError("UNSUPPORTED", DISABLED);
  }
}

function isRange(offset: number, byteSize: number, size: number): boolean {
  return Number.isSafeInteger(offset) && Number.isSafeInteger(byteSize) && offset >= 0 && byteSize >= 0 && offset + byteSize <= size;
}

/** @returns an open descriptor */
function openRegion(name: string, key: string): number {
  const file = key.startsWith("/") ? key.slice(1) : key;
  const refuse = (why: string): ServingError => new ServingError("INVALID_ARG", `failed to register shared memory region '${name}': ${why}`);
  if (OWN_PREFIXES.some((prefix) => file.startsWith(prefix))) throw refuse("the key belongs to the server");
  if (file === "" || file === "." || file === ".." || file.includes("/") || file.includes("\0") || file.length > 254) throw new ServingError("INVALID_ARG", `Unable to open shared memory region: '${key}'`);
  let fd: number;
  try {
    fd = openSync(`${FOLDER}/${file}`, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    throw new ServingError("INTERNAL", `Unable to open shared memory region: '${key}'`, { cause });
  }
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  throw new ServingError("INVALID_ARG", `Invalid shared memory region: '${key}'`);
}
