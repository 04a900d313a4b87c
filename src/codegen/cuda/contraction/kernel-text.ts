/**
 * What the text of a contraction is written with: its parameters, packed constants and tensor maps, each named when it
 * is first asked for. The parameter list is therefore read last.
 */
import type { DType } from "../../../base/index.ts";
import type { Buffer, Dim, PackedData, Param, TensorMap } from "../../../ir/index.ts";
import { KernelParams } from "../kernel-params.ts";
import { elementType } from "../scalars.ts";

/** A tensor map before its source has a place among the parameters. */
export type MapOf = Omit<TensorMap, "param">;

export class KernelText {
  readonly params: KernelParams;
  readonly packed: PackedData[] = [];
  readonly tensorMaps: TensorMap[] = [];

  constructor(output: Buffer) {
    this.params = new KernelParams([output]);
  }

  get list(): readonly Param[] {
    return this.params.list;
  }

  pointer(buffer: Buffer): string {
    return this.params.pointer(buffer);
  }

  packedPointer(data: PackedData, type: string): string {
    const known = this.packed.findIndex(({ key }) => key === data.key);
    return this.params.packed(known >= 0 ? known : this.packed.push(data) - 1, type);
  }

  /** Packed constants as a buffer that expressions load from. */
  packedBuffer(data: PackedData, dtype: DType, dims: readonly Dim[]): Buffer {
    const buffer: Buffer = { name: data.key, dtype, dims };
    this.params.alias(buffer, this.packedPointer(data, elementType(dtype)));
    return buffer;
  }

  /** @param source name of the pointer where the tensor begins */
  tensorMap(source: string, map: MapOf): string {
    return `map${this.tensorMaps.push({ ...map, param: this.params.position(source) }) - 1}`;
  }

  size(dim: Dim): string {
    return this.params.dim(dim);
  }

  size64(dim: Dim): string {
    return typeof dim === "number" ? `${dim}ll` : `(i64)${this.params.dim(dim)}`;
  }

  get declarations(): string {
    return this.params.declarations(this.tensorMaps.map((_, i) => `map${i}`));
  }
}
