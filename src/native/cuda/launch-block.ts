/**
 * The memory a kernel launch is described in: configuration, attributes, parameters, tensor maps. One block serves all
 * launches of a thread, since the driver copies what it needs during the call.
 * Sources: cuda.h, CUlaunchConfig, CUDA_KERNEL_NODE_PARAMS_v2, CUlaunchAttribute, cuTensorMapEncodeTiled, cuTensorMapEncodeIm2col.
 */
import { assert } from "../../base/index.ts";
import { NativeMemory } from "../memory.ts";
import type { CudaDriver } from "./driver.ts";
import type { GpuLaunch, TensorMapValues } from "./gpu.ts";

const CONFIG = { grid: 0, block: 12, sharedBytes: 24, stream: 32, attributes: 40, attributeCount: 48, bytes: 64 } as const;
const ATTRIBUTE = { id: 0, value: 8, bytes: 72 } as const;
/** CUDA_KERNEL_NODE_PARAMS_v2, at its place in the block. */
const NODE = { kernel: 160, grid: 168, params: 200, extra: 208, kern: 216, context: 224 } as const;
const CLUSTER_DIMENSION = 4;
const MAX_PARAMS = 256;
const MAX_TENSOR_MAPS = 8;
const TENSOR_MAP_BYTES = 128;

const AT = {
  config: 0,
  attributes: 64,
  /** Lists for the encoding of tensor maps: 64 bytes each. */
  lists: 256,
  pointers: 1024,
  slots: 1024 + 8 * (MAX_PARAMS + MAX_TENSOR_MAPS),
  tensorMaps: 8192,
  bytes: 8192 + MAX_TENSOR_MAPS * TENSOR_MAP_BYTES,
} as const;

const ELEMENT: Readonly<Record<TensorMapValues["element"], number>> = { uint8: 0, float16: 6, float32: 7, bfloat16: 9, tf32: 11 };
const SWIZZLE = { none: 0, "32B": 1, "64B": 2, "128B": 3 } as const;
const PROMOTION = { none: 0, "64B": 1, "128B": 2, "256B": 3 } as const;

export class LaunchBlock {
  readonly #driver: CudaDriver;
  readonly #memory = NativeMemory.allocate(AT.bytes);
  readonly #base = Number(this.#memory.address);
  readonly #view = new DataView(this.#memory.view().buffer);

  constructor(driver: CudaDriver) {
    this.#driver = driver;
  }

  /** @returns CUDA's status */
  launch(launch: GpuLaunch, stream: number): number {
    const { kernel, grid, block, sharedBytes, cluster } = launch;
    if (grid.includes(0)) return 0;
    grid.forEach((size, i) => this.#view.setUint32(CONFIG.grid + 4 * i, size, true));
    [block, 1, 1, sharedBytes].forEach((size, i) => this.#view.setUint32(CONFIG.block + 4 * i, size, true));
    this.#put(CONFIG.stream, stream);
    this.#put(CONFIG.attributes, this.#base + AT.attributes);
    this.#view.setUint32(CONFIG.attributeCount, cluster ? 1 : 0, true);
    this.#cluster(cluster);
    const status = this.#parameters(launch);
    return status !== 0 ? status : this.#driver.status("cuLaunchKernelEx", this.#base + AT.config, kernel.handle, this.#base + AT.pointers, 0);
  }

  /** Adds the launch, of at least one block, to a graph. @param after nodes it waits for. @returns its node */
  addTo(graph: number, launch: GpuLaunch, after: readonly number[], check: (status: number, what: string) => void): number {
    const { kernel, grid, block, sharedBytes, cluster } = launch;
    using list = NativeMemory.allocate(8 * Math.max(1, after.length));
    new BigUint64Array(list.view().buffer, 0, after.length).set(after.map(BigInt));
    check(this.#parameters(launch), "encoding a tensor map");
    this.#put(NODE.kernel, kernel.handle);
    [...grid, block, 1, 1, sharedBytes].forEach((size, i) => this.#view.setUint32(NODE.grid + 4 * i, size, true));
    for (const [offset, value] of [[NODE.params, this.#base + AT.pointers], [NODE.extra, 0], [NODE.kern, 0], [NODE.context, 0]] as const) this.#put(offset, value);
    check(this.#driver.status("cuGraphAddKernelNode_v2", this.#driver.out, graph, Number(list.address), after.length, this.#base + NODE.kernel), "adding a kernel to a graph");
    const node = this.#driver.handle();
    this.#cluster(cluster);
    if (cluster) check(this.#driver.status("cuGraphKernelNodeSetAttribute", node, CLUSTER_DIMENSION, this.#base + AT.attributes + ATTRIBUTE.value), "setting the cluster of a kernel in a graph");
    return node;
  }

  #cluster(cluster: GpuLaunch["cluster"]): void {
    this.#view.setUint32(AT.attributes + ATTRIBUTE.id, CLUSTER_DIMENSION, true);
    cluster?.forEach((size, i) => this.#view.setUint32(AT.attributes + ATTRIBUTE.value + 4 * i, size, true));
  }

  /** Writes parameters and tensor maps, and where they are. @returns CUDA's status */
  #parameters({ slots, tensorMaps }: GpuLaunch): number {
    assert(slots.length <= MAX_PARAMS && tensorMaps.length <= MAX_TENSOR_MAPS, `${slots.length} parameters and ${tensorMaps.length} tensor maps`);
    for (const [i, value] of slots.entries()) {
      this.#view.setBigInt64(AT.slots + 8 * i, BigInt(value), true);
      this.#put(AT.pointers + 8 * i, this.#base + AT.slots + 8 * i);
    }
    for (const [i, map] of tensorMaps.entries()) {
      const status = this.#encode(map, AT.tensorMaps + TENSOR_MAP_BYTES * i);
      if (status !== 0) return status;
      this.#put(AT.pointers + 8 * (slots.length + i), this.#base + AT.tensorMaps + TENSOR_MAP_BYTES * i);
    }
    return 0;
  }

  #encode(map: TensorMapValues, at: number): number {
    const [dims, strides, box, steps, lower, upper] = [0, 1, 2, 3, 4, 5].map((i) => AT.lists + 64 * i) as [number, number, number, number, number, number];
    const first = [ELEMENT[map.element], map.dims.length, map.address, this.#base + dims, this.#base + strides] as const;
    const last = [0, SWIZZLE[map.swizzle], PROMOTION[map.promotion ?? "128B"], 0] as const;
    map.dims.forEach((size, i) => this.#put(dims + 8 * i, size));
    map.strideBytes.forEach((size, i) => this.#put(strides + 8 * i, size));
    map.box.forEach((size, i) => this.#view.setUint32(box + 4 * i, size, true));
    if (map.pixels) {
      const { channels, count } = map.pixels;
      map.pixels.lower.forEach((corner, i) => this.#view.setInt32(lower + 4 * i, corner, true));
      map.pixels.upper.forEach((corner, i) => this.#view.setInt32(upper + 4 * i, corner, true));
      return this.#driver.status("cuTensorMapEncodeIm2col", this.#base + at, ...first, this.#base + lower, this.#base + upper, channels, count, this.#base + box, ...last);
    }
    map.dims.forEach((_, i) => this.#view.setUint32(steps + 4 * i, 1, true));
    return this.#driver.status("cuTensorMapEncodeTiled", this.#base + at, ...first, this.#base + box, this.#base + steps, ...last);
  }

  #put(offset: number, value: number): void {
    this.#view.setBigUint64(offset, BigInt(value), true);
  }
}
