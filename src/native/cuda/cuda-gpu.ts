/**
 * A GPU through the CUDA driver. All threads of the process share the device's primary context; each makes it current
 * before it calls. One `CudaGpu` per thread and device, kept for the life of the process.
 *
 * CUDA keeps a fault (an illegal address) for the life of the process: seen with driver 580, no new context can be made, by any
 * way the driver has. So after one the process makes no call more, runs that wait end with an error, and what needs the
 * GPU again must be another process.
 * Sources: CUDA Driver API 13.0, sections 6.8 (primary contexts), 6.18 (streams), 6.23 (launches), 6.24 (graphs), 6.30 (tensor maps).
 */
import { assert, SinterError, UnsupportedError } from "../../base/index.ts";
import { stayAwake } from "../awake-loop.ts";
import { viewMemory } from "../koffi.ts";
import { NativeMemory } from "../memory.ts";
import { CUDA_STATUS, CudaDriver, isFault, versionText } from "./driver.ts";
import type { Gpu, GpuDescription, GpuEvent, GpuGraph, GpuKernel, GpuLaunch, GpuModule, GpuStream, HostMemory } from "./gpu.ts";
import { HostRanges } from "./host-ranges.ts";
import { LaunchBlock } from "./launch-block.ts";
import { Waiter } from "./waiter.ts";

const ATTRIBUTE = { multiprocessors: 16, capabilityMajor: 75, capabilityMinor: 76, sharedBytesPerBlock: 97 } as const;
const MAX_DYNAMIC_SHARED_BYTES = 8;
const STREAM_NON_BLOCKING = 1;
const EVENT = { timing: 0, blockingWithoutTiming: 3, spinningWithoutTiming: 2 } as const;
/** Waits seen to be shorter than this spin, which tells sooner; longer ones sleep. */
const SPIN_MS = 3;
/** How much longer than the last one a run may take for the event loop to stay awake for it. */
const LATE_MS = 0.3;
/**
 * Graphs of streams whose runs take longer follow one another: one alone fills the GPU, and two at once would end together, with
 * nothing to do until their results have been taken. Copies overlap with another's graph all the same.
 */
const TURN_MS = 1;
const STATIC_SHARED_LIMIT = 49152;

const opened = new Map<number, CudaGpu>();

/**
 * The GPU that this process uses: number SINTER_GPU of those the driver shows, the first by default.
 * @throws UnsupportedError "no-gpu"
 */
export function openGpu(env: Readonly<Record<string, string | undefined>> = process.env): Gpu {
  if ([...opened.values()].some(({ isLost }) => isLost)) throw new SinterError("gpu-fault", "GPU: this process has had a fault, after which CUDA gives it the GPU no more; start another process. What runs on the processor goes on.");
  const driver = CudaDriver.open();
  const ordinal = Number(env["SINTER_GPU"] ?? 0);
  driver.call("cuDeviceGetCount", driver.out);
  const count = driver.int32();
  if (!Number.isInteger(ordinal) || ordinal < 0 || ordinal >= count) throw new UnsupportedError("no-gpu", `SINTER_GPU is "${env["SINTER_GPU"] ?? ""}"; this machine shows ${count} GPU${count === 1 ? "" : "s"}, counted from 0.`);
  const gpu = opened.get(ordinal) ?? new CudaGpu(driver, ordinal);
  opened.set(ordinal, gpu);
  return gpu;
}

class CudaGpu implements Gpu {
  readonly description: GpuDescription;
  readonly driver: CudaDriver;
  readonly context: number;
  readonly launches: LaunchBlock;
  readonly #registered = new HostRanges();
  /** That there are, and the one whose graph was launched last, of those that take turns. */
  readonly streams = new Set<CudaStream>();
  lastInTurn: CudaStream | undefined;
  #isLost = false;

  constructor(driver: CudaDriver, ordinal: number) {
    this.driver = driver;
    driver.call("cuDeviceGet", driver.out, ordinal);
    const device = driver.int32();
    this.context = driver.make("cuDevicePrimaryCtxRetain", device);
    driver.call("cuCtxSetCurrent", this.context);
    const attribute = (number: number): number => {
      driver.call("cuDeviceGetAttribute", driver.out, number, device);
      return driver.int32();
    };
    driver.call("cuDeviceGetName", driver.out, 256, device);
    this.description = {
      name: driver.text(),
      capability: 10 * attribute(ATTRIBUTE.capabilityMajor) + attribute(ATTRIBUTE.capabilityMinor),
      multiprocessors: attribute(ATTRIBUTE.multiprocessors),
      sharedBytesPerBlock: attribute(ATTRIBUTE.sharedBytesPerBlock),
      memoryBytes: driver.make("cuDeviceTotalMem_v2", device),
      driver: versionText(driver.version),
    };
    this.launches = new LaunchBlock(driver);
  }

  get isLost(): boolean {
    return this.#isLost;
  }

  /** For the parts below: a status that is not 0 becomes an error; a fault ends this object. */
  check(status: number, what: string): void {
    if (status !== 0) throw this.failed(status, what);
  }

  failed(status: number, what: string): SinterError {
    const error = this.driver.error(status, what);
    if (isFault(status)) this.#isLost = true;
    return error;
  }

  /** Frees a handle; after a fault there is none. */
  release(name: "cuMemFree_v2" | "cuMemFreeHost" | "cuModuleUnload" | "cuStreamDestroy_v2" | "cuGraphExecDestroy" | "cuEventDestroy_v2", handle: number): void {
    if (!this.#isLost) this.check(this.driver.status(name, handle), name);
  }

  allocate(sizeBytes: number): number {
    const status = this.driver.status("cuMemAlloc_v2", this.driver.out, Math.max(256, sizeBytes));
    const address = this.driver.handle();
    if (status === CUDA_STATUS.outOfMemory) {
      const { freeBytes, totalBytes } = this.memory();
      throw this.driver.error(status, `an allocation of ${sizeBytes} bytes, with ${freeBytes} of ${totalBytes} free,`);
    }
    this.check(status, `an allocation of ${sizeBytes} bytes`);
    return address;
  }

  free(address: number): void {
    this.release("cuMemFree_v2", address);
  }

  allocateHost(sizeBytes: number): HostMemory {
    return new PinnedMemory(this, Math.max(64, sizeBytes));
  }

  register(address: number, sizeBytes: number): boolean {
    const status = this.driver.status("cuMemHostRegister_v2", address, sizeBytes, 0);
    if (isFault(status)) throw this.failed(status, `registering ${sizeBytes} bytes of host memory`);
    if (status === 0) this.#registered.add(address, sizeBytes);
    return status === 0;
  }

  reaches(address: number, sizeBytes: number): boolean {
    return this.#registered.covers(address, sizeBytes);
  }

  upload(to: number, from: number | bigint, sizeBytes: number): void {
    if (sizeBytes > 0) this.check(this.driver.status("cuMemcpyHtoD_v2", to, Number(from), sizeBytes), `a copy of ${sizeBytes} bytes to the device`);
  }

  download(to: number | bigint, from: number, sizeBytes: number): void {
    if (sizeBytes > 0) this.check(this.driver.status("cuMemcpyDtoH_v2", Number(to), from, sizeBytes), `a copy of ${sizeBytes} bytes from the device`);
  }

  zero(address: number, sizeBytes: number): void {
    if (sizeBytes > 0) this.check(this.driver.status("cuMemsetD8_v2", address, 0, sizeBytes), `clearing ${sizeBytes} bytes`);
  }

  loadModule(image: Uint8Array): GpuModule {
    return new CudaModule(this, image);
  }

  createStream(): GpuStream {
    return new CudaStream(this);
  }

  memory(): { readonly freeBytes: number; readonly totalBytes: number } {
    const { driver } = this;
    this.check(driver.status("cuMemGetInfo_v2", driver.out, driver.out + 8), "asking for free memory");
    return { freeBytes: driver.handle(0), totalBytes: driver.handle(8) };
  }
}

class PinnedMemory implements HostMemory {
  readonly address: bigint;
  readonly sizeBytes: number;
  readonly #gpu: CudaGpu;
  #buffer: ArrayBuffer | undefined;
  #disposed = false;

  constructor(gpu: CudaGpu, sizeBytes: number) {
    this.#gpu = gpu;
    gpu.check(gpu.driver.status("cuMemHostAlloc", gpu.driver.out, sizeBytes, 0), `an allocation of ${sizeBytes} bytes of pinned memory`);
    this.address = BigInt(gpu.driver.handle());
    this.sizeBytes = sizeBytes;
  }

  view(offset = 0, length = this.sizeBytes - offset): Uint8Array<ArrayBuffer> {
    assert(!this.#disposed && offset >= 0 && length >= 0 && offset + length <= this.sizeBytes, `view [${offset}, ${offset + length}) of ${this.sizeBytes} pinned bytes`);
    this.#buffer ??= viewMemory(this.address, this.sizeBytes);
    return new Uint8Array(this.#buffer, offset, length);
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#buffer = undefined;
    this.#gpu.release("cuMemFreeHost", Number(this.address));
  }
}

class CudaModule implements GpuModule {
  readonly #gpu: CudaGpu;
  readonly #handle: number;

  constructor(gpu: CudaGpu, image: Uint8Array) {
    this.#gpu = gpu;
    // PTX is text that ends with a zero byte; a cubin knows its length.
    using copy = NativeMemory.allocate(image.byteLength + 1);
    copy.view().set(image);
    const status = gpu.driver.status("cuModuleLoadData", gpu.driver.out, Number(copy.address));
    if (status !== 0 && !isFault(status) && status !== CUDA_STATUS.outOfMemory) {
      throw new UnsupportedError("engine-incompatible", `The engine's code does not load on ${gpu.description.name}: ${gpu.driver.error(status, "loading a module").message} Build the model again on this machine.`);
    }
    gpu.check(status, "loading a module");
    this.#handle = gpu.driver.handle();
  }

  kernel(entry: string, sharedBytes: number): GpuKernel {
    const { driver } = this.#gpu;
    this.#gpu.check(driver.status("cuModuleGetFunction", driver.out, this.#handle, entry), `finding kernel ${entry}`);
    const handle = driver.handle();
    if (sharedBytes > STATIC_SHARED_LIMIT) this.#gpu.check(driver.status("cuFuncSetAttribute", handle, MAX_DYNAMIC_SHARED_BYTES, sharedBytes), `asking for ${sharedBytes} bytes of shared memory for ${entry}`);
    return { handle };
  }

  dispose(): void {
    this.#gpu.release("cuModuleUnload", this.#handle);
  }
}

class CudaStream implements GpuStream {
  readonly #gpu: CudaGpu;
  readonly #handle: number;
  /** Moments that are waited for: by a thread that sleeps, or by one that spins. */
  readonly #sleeping: number;
  readonly #spinning: number;
  /** The end of its last graph, if that was launched in turn. */
  readonly #turn: number;
  #lastMs = SPIN_MS;
  #waiter: Waiter | undefined;

  constructor(gpu: CudaGpu) {
    this.#gpu = gpu;
    this.#handle = gpu.driver.make("cuStreamCreate", STREAM_NON_BLOCKING);
    this.#sleeping = gpu.driver.make("cuEventCreate", EVENT.blockingWithoutTiming);
    this.#spinning = gpu.driver.make("cuEventCreate", EVENT.spinningWithoutTiming);
    this.#turn = gpu.driver.make("cuEventCreate", EVENT.spinningWithoutTiming);
    gpu.streams.add(this);
  }

  launch(launch: GpuLaunch): void {
    this.#gpu.check(this.#gpu.launches.launch(launch, this.#handle), `a launch of ${launch.grid.join(" x ")} blocks of ${launch.block} threads with ${launch.tensorMaps.length} tensor maps`);
  }

  copyIn(to: number, from: number, sizeBytes: number): void {
    if (sizeBytes > 0) this.#call("cuMemcpyHtoDAsync_v2", to, from, sizeBytes, this.#handle);
  }

  copyOut(to: number, from: number, sizeBytes: number): void {
    if (sizeBytes > 0) this.#call("cuMemcpyDtoHAsync_v2", to, from, sizeBytes, this.#handle);
  }

  graph(launches: readonly GpuLaunch[], after: readonly (readonly number[])[]): GpuGraph {
    const { driver } = this.#gpu;
    const graph = driver.make("cuGraphCreate", 0);
    try {
      // What a kernel without blocks would wait for is waited for by those behind it.
      const nodes: (readonly number[])[] = [];
      for (const [i, launch] of launches.entries()) {
        const earlier = [...new Set(after[i]!.flatMap((index) => nodes[index]!))];
        nodes.push(launch.grid.includes(0) ? earlier : [this.#gpu.launches.addTo(graph, launch, earlier, (status, what) => this.#gpu.check(status, what))]);
      }
      this.#gpu.check(driver.status("cuGraphInstantiateWithFlags", driver.out, graph, 0), "making a graph");
      const handle = driver.handle();
      return { handle, dispose: () => this.#gpu.release("cuGraphExecDestroy", handle) };
    } finally {
      driver.status("cuGraphDestroy", graph);
    }
  }

  launchGraph(graph: GpuGraph): void {
    const gpu = this.#gpu;
    const inTurn = gpu.streams.size > 1 && this.#lastMs >= TURN_MS;
    if (inTurn && gpu.lastInTurn && gpu.lastInTurn !== this) this.#call("cuStreamWaitEvent", this.#handle, gpu.lastInTurn.#turn, 0);
    this.#call("cuGraphLaunch", graph.handle, this.#handle);
    if (!inTurn) return;
    this.#call("cuEventRecord", this.#turn, this.#handle);
    gpu.lastInTurn = this;
  }

  event(): GpuEvent {
    return new CudaEvent(this.#gpu, this.#handle);
  }

  synchronize(): void {
    this.#call("cuStreamSynchronize", this.#handle);
  }

  async finished(): Promise<void> {
    const isShort = this.#lastMs < SPIN_MS;
    const end = isShort ? this.#spinning : this.#sleeping;
    this.#call("cuEventRecord", end, this.#handle);
    this.#waiter ??= Waiter.take(this.#gpu.driver);
    const before = performance.now();
    if (isShort) stayAwake(this.#lastMs + LATE_MS);
    const status = await this.#waiter.wait(this.#gpu.context, end);
    this.#lastMs = performance.now() - before;
    if (status !== 0) throw this.#gpu.failed(status, "a run");
  }

  dispose(): void {
    this.#waiter?.release();
    this.#waiter = undefined;
    this.#gpu.release("cuEventDestroy_v2", this.#sleeping);
    this.#gpu.release("cuEventDestroy_v2", this.#spinning);
    this.#gpu.release("cuEventDestroy_v2", this.#turn);
    this.#gpu.streams.delete(this);
    if (this.#gpu.lastInTurn === this) this.#gpu.lastInTurn = undefined;
    this.#gpu.release("cuStreamDestroy_v2", this.#handle);
  }

  #call(name: Parameters<CudaDriver["status"]>[0], ...args: readonly number[]): void {
    this.#gpu.check(this.#gpu.driver.status(name, ...args), name);
  }
}

class CudaEvent implements GpuEvent {
  readonly handle: number;
  readonly #gpu: CudaGpu;
  readonly #stream: number;

  constructor(gpu: CudaGpu, stream: number) {
    this.#gpu = gpu;
    this.#stream = stream;
    this.handle = gpu.driver.make("cuEventCreate", EVENT.timing);
  }

  record(): void {
    this.#gpu.check(this.#gpu.driver.status("cuEventRecord", this.handle, this.#stream), "recording an event");
  }

  since(earlier: GpuEvent): number {
    const { driver } = this.#gpu;
    this.#gpu.check(driver.status("cuEventElapsedTime", driver.out, (earlier as CudaEvent).handle, this.handle), "reading an event");
    return driver.float32();
  }

  dispose(): void {
    this.#gpu.release("cuEventDestroy_v2", this.handle);
  }
}
