/**
 * A tensor on the host: type, data, dims, with the names and argument order of onnxruntime-common's `Tensor`.
 */
import { byteLength, type DType, isArrayOf, newArray, type NumericArray, requiredLength, viewArray } from "./dtype.ts";
import { UserError } from "./errors.ts";

export type TensorData = NumericArray | string[];

export function elementCount(dims: readonly number[]): number {
  let count = 1;
  for (const dim of dims) count *= dim;
  return count;
}

export class Tensor {
  readonly type: DType;
  /** Row-major elements. float16 and bfloat16 are their bits in a Uint16Array; types below a byte are packed. */
  readonly data: TensorData;
  readonly dims: readonly number[];

  /**
   * @param data the elements, not copied; for int64 an array of bigint or number, and for bool of booleans, is taken too
   * @throws UserError when data and dims do not fit
   */
  constructor(type: DType, data: TensorData | readonly (number | bigint | boolean)[], dims?: readonly number[]) {
    this.type = type;
    const array = Array.isArray(data) && type !== "string" ? fromList(type, data as unknown as readonly (number | bigint | boolean)[]) : (data as TensorData);
    if (!isArrayOf(type, array)) {
      throw new UserError("tensor-data", `Tensor of type ${type} cannot hold a ${array?.constructor?.name ?? typeof array}.`);
    }
    this.data = array;
    this.dims = dims ?? [array.length];
    for (const dim of this.dims) {
      if (!Number.isSafeInteger(dim) || dim < 0) throw new UserError("tensor-data", `Tensor dims [${this.dims}] are not all non-negative integers.`);
    }
    const required = requiredLength(type, elementCount(this.dims));
    if (array.length !== required) {
      throw new UserError("tensor-data", `Tensor ${type}[${this.dims}] needs ${required} data items, got ${array.length}.`);
    }
  }

  get size(): number {
    return elementCount(this.dims);
  }

  /** The elements' bytes, without a copy. @throws UserError for strings */
  get bytes(): Uint8Array {
    if (Array.isArray(this.data)) throw new UserError("tensor-data", "A string tensor has no bytes.");
    return new Uint8Array(this.data.buffer, this.data.byteOffset, this.data.byteLength);
  }

  reshape(dims: readonly number[]): Tensor {
    return new Tensor(this.type, this.data, dims);
  }

  static zeros(type: DType, dims: readonly number[]): Tensor {
    return new Tensor(type, newArray(type, elementCount(dims)), dims);
  }

  /** @param bytes little-endian elements; viewed where aligned, copied otherwise */
  static fromBytes(type: Exclude<DType, "string">, bytes: Uint8Array, dims: readonly number[]): Tensor {
    return new Tensor(type, viewArray(type, bytes.subarray(0, byteLength(type, elementCount(dims)))), dims);
  }
}

function fromList(type: DType, list: readonly (number | bigint | boolean)[]): TensorData {
  const array = newArray(type, 0);
  if (array instanceof BigInt64Array || array instanceof BigUint64Array) {
    const Type = array.constructor as BigInt64ArrayConstructor;
    return Type.from(list.map((item) => BigInt(item)));
  }
  const Type = array.constructor as Float32ArrayConstructor;
  return Type.from(list.map((item) => Number(item)));
}
