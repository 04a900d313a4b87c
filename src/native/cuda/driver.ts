/**
 * The CUDA driver's functions, loaded when a GPU is first asked for, and its errors in words.
 *
 * A status that says the device's context is gone (an illegal address, an uncorrectable memory error) is a fault: all
 * handles of the context are dead (`isFault`).
 * Source: CUDA Driver API reference, 13.0; enum CUresult.
 */
import { SinterError, UnsupportedError } from "../../base/index.ts";
import type { NativeFunction } from "../koffi.ts";
import { NativeMemory } from "../memory.ts";
import { SharedLibrary, textAt } from "../shared-library.ts";

/** Parameters by function; handles and pointers are numbers. */
const FUNCTIONS = {
  cuInit: "unsigned int flags",
  cuDriverGetVersion: "int64_t version",
  cuGetErrorName: "int status, int64_t text",
  cuGetErrorString: "int status, int64_t text",
  cuDeviceGetCount: "int64_t count",
  cuDeviceGet: "int64_t device, int ordinal",
  cuDeviceGetName: "int64_t name, int length, int device",
  cuDeviceGetAttribute: "int64_t value, int attribute, int device",
  cuDeviceTotalMem_v2: "int64_t bytes, int device",
  cuDevicePrimaryCtxRetain: "int64_t context, int device",
  cuCtxSetCurrent: "int64_t context",
  cuCtxSynchronize: "",
  cuMemGetInfo_v2: "int64_t free, int64_t total",
  cuMemAlloc_v2: "int64_t address, size_t bytes",
  cuMemFree_v2: "int64_t address",
  cuMemHostAlloc: "int64_t address, size_t bytes, unsigned int flags",
  cuMemFreeHost: "int64_t address",
  cuMemHostRegister_v2: "int64_t address, size_t bytes, unsigned int flags",
  cuMemcpyHtoD_v2: "int64_t to, int64_t from, size_t bytes",
  cuMemcpyDtoH_v2: "int64_t to, int64_t from, size_t bytes",
  cuMemcpyHtoDAsync_v2: "int64_t to, int64_t from, size_t bytes, int64_t stream",
  cuMemcpyDtoHAsync_v2: "int64_t to, int64_t from, size_t bytes, int64_t stream",
  cuMemsetD8_v2: "int64_t to, unsigned char value, size_t bytes",
  cuModuleLoadData: "int64_t module, int64_t image",
  cuModuleUnload: "int64_t module",
  cuModuleGetFunction: "int64_t function, int64_t module, const char *name",
  cuFuncSetAttribute: "int64_t function, int attribute, int value",
  cuLaunchKernelEx: "int64_t config, int64_t function, int64_t params, int64_t extra",
  cuStreamCreate: "int64_t stream, unsigned int flags",
  cuStreamDestroy_v2: "int64_t stream",
  cuStreamSynchronize: "int64_t stream",
  cuStreamWaitEvent: "int64_t stream, int64_t event, unsigned int flags",
  cuGraphCreate: "int64_t graph, unsigned int flags",
  cuGraphAddKernelNode_v2: "int64_t node, int64_t graph, int64_t after, size_t count, int64_t params",
  cuGraphKernelNodeSetAttribute: "int64_t node, int attribute, int64_t value",
  cuGraphInstantiateWithFlags: "int64_t exec, int64_t graph, uint64_t flags",
  cuGraphDestroy: "int64_t graph",
  cuGraphLaunch: "int64_t exec, int64_t stream",
  cuGraphExecDestroy: "int64_t exec",
  cuEventCreate: "int64_t event, unsigned int flags",
  cuEventDestroy_v2: "int64_t event",
  cuEventRecord: "int64_t event, int64_t stream",
  cuEventQuery: "int64_t event",
  cuEventSynchronize: "int64_t event",
  cuEventElapsedTime: "int64_t milliseconds, int64_t begin, int64_t end",
  cuTensorMapEncodeTiled: "int64_t map, int type, unsigned int rank, int64_t address, int64_t dims, int64_t strides, int64_t box, int64_t elementStrides, int interleave, int swizzle, int promotion, int fill",
  cuTensorMapEncodeIm2col: "int64_t map, int type, unsigned int rank, int64_t address, int64_t dims, int64_t strides, int64_t lower, int64_t upper, unsigned int channels, unsigned int pixels, int64_t elementStrides, int interleave, int swizzle, int promotion, int fill",
} as const;

export type CudaFunction = keyof typeof FUNCTIONS;

/** The oldest driver that has all of them: CUDA 12.0. */
const OLDEST_DRIVER = 12000;

export const CUDA_STATUS = { outOfMemory: 2, notReady: 600 } as const;
const NO_DEVICE = 100;
/** Statuses after which the context and all that was made in it are lost. */
const FAULTS: ReadonlySet<number> = new Set([214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719]);

export const isFault = (status: number): boolean => FAULTS.has(status);

let driver: CudaDriver | undefined;

export class CudaDriver {
  /** As CUDA counts: 13000 for 13.0. */
  readonly version: number;
  readonly #library: SharedLibrary;
  readonly #bound = new Map<CudaFunction, NativeFunction>();
  /** Where results go: 64 bytes, read before the next call. */
  readonly #out = NativeMemory.allocate(256);
  readonly #view: DataView;

  private constructor(library: SharedLibrary) {
    this.#library = library;
    this.#view = new DataView(this.#out.view().buffer, 0, 256);
    const status = this.status("cuInit", 0);
    if (status === NO_DEVICE) throw new UnsupportedError("no-gpu", "No GPU: the NVIDIA driver is here, but it sees no GPU (check nvidia-smi, the container's --gpus, CUDA_VISIBLE_DEVICES).");
    if (status !== 0) throw new UnsupportedError("no-gpu", `No GPU: the NVIDIA driver could not start (${this.errorName(status)}: ${this.errorText(status)}).`);
    this.status("cuDriverGetVersion", this.out);
    this.version = this.int32();
    if (this.version < OLDEST_DRIVER) throw new UnsupportedError("no-gpu", `The NVIDIA driver is too old: it is for CUDA ${versionText(this.version)}; Sinter needs one for ${versionText(OLDEST_DRIVER)} or later.`);
  }

  /** The driver, loaded once per thread. @throws UnsupportedError "no-gpu" */
  static open(): CudaDriver {
    if (driver) return driver;
    const library = SharedLibrary.open(["libcuda.so.1", "libcuda.so"]);
    if (!library) throw new UnsupportedError("no-gpu", "No GPU: the NVIDIA driver (libcuda.so.1) is not on this machine. Install the driver, or build with --target x64.");
    return (driver = new CudaDriver(library));
  }

  /** Address for a result of up to 256 bytes, valid until the next call that uses it. */
  get out(): number {
    return Number(this.#out.address);
  }

  int32(offset = 0): number {
    return this.#view.getInt32(offset, true);
  }

  float32(): number {
    return this.#view.getFloat32(0, true);
  }

  /** An address, handle or size. */
  handle(offset = 0): number {
    return Number(this.#view.getBigUint64(offset, true));
  }

  text(): string {
    return textAt(this.#out.address);
  }

  /** Calls a function. @returns its status */
  status(name: CudaFunction, ...args: readonly (number | string)[]): number {
    let bound = this.#bound.get(name);
    if (!bound) {
      bound = this.#library.find(`int ${name}(${FUNCTIONS[name] || "void"})`);
      if (!bound) throw new UnsupportedError("no-gpu", `The NVIDIA driver is too old: it has no ${name}; install one for CUDA ${versionText(OLDEST_DRIVER)} or later.`);
      this.#bound.set(name, bound);
    }
    return Number(bound(...args));
  }

  /** Calls a function that must succeed. @throws SinterError naming CUDA's error */
  call(name: CudaFunction, ...args: readonly (number | string)[]): void {
    const status = this.status(name, ...args);
    if (status !== 0) throw this.error(status, name);
  }

  /** Calls a function whose first argument says where its result goes. @returns the result */
  make(name: CudaFunction, ...args: readonly (number | string)[]): number {
    this.call(name, this.out, ...args);
    return this.handle();
  }

  error(status: number, what: string): SinterError {
    const text = `GPU: ${what} ended with ${this.errorName(status)} (${this.errorText(status)}).`;
    if (isFault(status)) return new SinterError("gpu-fault", `${text} This run has no result, and this process can use the GPU no more.`);
    return new SinterError(status === CUDA_STATUS.outOfMemory ? "limit-exceeded" : "gpu-error", text);
  }

  functionAddress(name: CudaFunction): number {
    return this.#library.address(name);
  }

  private errorName(status: number): string {
    return this.status("cuGetErrorName", status, this.out) === 0 ? textAt(this.handle()) : `status ${status}`;
  }

  private errorText(status: number): string {
    return this.status("cuGetErrorString", status, this.out) === 0 ? textAt(this.handle()) : "unknown";
  }
}

export function versionText(version: number): string {
  return `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`;
}
