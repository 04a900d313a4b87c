/** Every storage form of TensorProto, written by hand as bytes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type DType, UserError, viewArray } from "../base/index.ts";
import { ExternalData } from "./external-data.ts";
import { readFileWindows } from "./file-source.ts";
import type { SparseTensorProto, TensorProto } from "./proto.ts";
import { dataTypeOf, dtypeOf, readConstant, readSparse, readTensorProto } from "./tensor-data.ts";

const external = new ExternalData(undefined, readFileWindows);

function tensor(dtype: DType, dims: readonly number[], field: number, bytes: Uint8Array | readonly number[], packed = true): TensorProto {
  const file = Uint8Array.from(bytes);
  const runs = packed ? [{ start: 0, end: file.length, packed }] : [...file].map((_, i) => ({ start: i, end: i + 1, packed }));
  return { name: "t", dims, dataType: dataTypeOf(dtype), file, raw: undefined, runs: new Map([[field, runs]]), strings: [], external: new Map(), isExternal: false };
}

const itemsOf = (proto: TensorProto): unknown[] => [...viewArray(dtypeOf(proto.dataType) as "int8", readConstant(proto, external).constant.bytes)];

const minusTwo = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];

test("integers stored as varints, packed and one by one", () => {
  assert.deepEqual(itemsOf(tensor("int8", [2], 5, [...minusTwo, 5])), [-2, 5]);
  assert.deepEqual(itemsOf(tensor("uint16", [2], 5, [0x80, 0x02, 1])), [256, 1]);
  assert.deepEqual(itemsOf(tensor("float16", [1], 5, [0x80, 0x78])), [0x3c00]);
  assert.deepEqual(itemsOf(tensor("bool", [2], 5, [1, 0], false)), [1, 0]);
  assert.deepEqual(itemsOf(tensor("int64", [2], 7, [...minusTwo, 3])), [-2n, 3n]);
  assert.deepEqual(itemsOf(tensor("uint64", [1], 11, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01])), [2n ** 64n - 1n]);
  assert.deepEqual(itemsOf(tensor("int4", [3], 5, [0x21, 0x03])), [0x21, 0x03]);
});

test("packed floats are views of the file", () => {
  const proto = tensor("float32", [2], 4, new Uint8Array(Float32Array.of(1.5, -2).buffer));
  const { bytes } = readConstant(proto, external).constant;
  assert.equal(bytes.buffer, proto.file.buffer);
  assert.deepEqual(itemsOf(proto), [1.5, -2]);
});

test("counts that do not fit are refused", () => {
  assert.throws(() => readConstant(tensor("int64", [3], 7, [1, 2]), external), /"t"/);
  assert.throws(() => readConstant(tensor("int64", [1], 7, [1, 2]), external), /more than the 1 values/);
  assert.throws(() => readConstant(tensor("float32", [1 << 30, 1 << 30], 4, []), external), /dims/);
  assert.throws(() => readConstant(tensor("float32", [-1], 4, []), external), /negative/);
});

test("sparse tensors are expanded, by linear and by tuple indices", () => {
  const values = tensor("float32", [2], 4, new Uint8Array(Float32Array.of(7, 8).buffer));
  const sparse = (indices: TensorProto): SparseTensorProto => ({ values, indices, dims: [2, 3] });
  for (const indices of [tensor("int64", [2], 7, [1, 5]), tensor("int64", [2, 2], 7, [0, 1, 1, 2])]) {
    const made = readSparse(sparse(indices), external, "s");
    assert.deepEqual([...new Float32Array(made.constant.bytes.slice().buffer)], [0, 7, 0, 0, 0, 8]);
  }
  assert.throws(() => readSparse(sparse(tensor("int64", [2], 7, [1, 6])), external, "s"), /index 6 outside/);
});

test("a file that holds one tensor", () => {
  const bytes = Uint8Array.of(0x08, 2, 0x10, 1, 0x4a, 8, 0, 0, 0x80, 0x3f, 0, 0, 0, 0x40);
  const read = readTensorProto(Buffer.from(bytes), "x.pb");
  assert.deepEqual([read.type, read.dims, [...(read.data as Float32Array)]], ["float32", [2], [1, 2]]);
  assert.throws(() => readTensorProto(bytes.subarray(0, 12), "x.pb"), UserError);
});
