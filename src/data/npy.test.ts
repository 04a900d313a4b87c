import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { type DType, Tensor, UserError } from "../base/index.ts";
import { hasNpyType, readNpy, writeNpy } from "./npy.ts";

const folder = mkdtempSync(join(tmpdir(), "sinter-npy-"));
after(() => rmSync(folder, { recursive: true }));
const file = join(folder, "a.npy");

/** As NEP 1 lays a file out: the header padded so that the data starts at byte 128. */
function numpyBytes(dict: string, data: Uint8Array): Buffer {
  const header = `${dict.padEnd(117)}\n`;
  return Buffer.concat([Buffer.from("\x93NUMPY\x01\x00", "latin1"), Buffer.from([header.length & 255, header.length >> 8]), Buffer.from(header, "latin1"), data]);
}

test("a file as numpy writes it", () => {
  writeFileSync(file, numpyBytes("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", new Uint8Array(Float32Array.of(0, 1, 2, 3, 4, 5).buffer)));
  const tensor = readNpy(file);
  assert.deepEqual([tensor.type, tensor.dims, [...(tensor.data as Float32Array)]], ["float32", [2, 3], [0, 1, 2, 3, 4, 5]]);
});

test("every type, scalars and empty arrays come back; the data starts at a multiple of 64", () => {
  const types: DType[] = ["float32", "float64", "float16", "int8", "int64", "uint16", "uint64", "bool", "complex64"];
  fc.assert(fc.property(fc.constantFrom(...types), fc.array(fc.nat(3), { maxLength: 4 }), (type, dims) => {
    const tensor = Tensor.zeros(type, dims);
    tensor.bytes.forEach((_, i) => { tensor.bytes[i] = i % 2; });
    writeNpy(file, tensor);
    const back = readNpy(file);
    assert.deepEqual([back.type, back.dims, back.data], [type, dims, tensor.data]);
    assert.equal((readFileSync(file).length - tensor.bytes.length) % 64, 0);
  }));
});

test("what is no such file is refused with its name", () => {
  const refused = (bytes: Uint8Array, text: RegExp): void => {
    writeFileSync(file, bytes);
    assert.throws(() => readNpy(file), (error) => error instanceof UserError && error.code === "file-io" && error.message.includes(file) && text.test(error.message));
  };
  refused(Buffer.from("hello"), /signature/);
  refused(numpyBytes("{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }", new Uint8Array(4)), /C order/);
  refused(numpyBytes("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", new Uint8Array(4)), />f4/);
  refused(numpyBytes("{'descr': '<f4', 'fortran_order': False, 'shape': (9,), }", new Uint8Array(4)), /4 bytes/);
  refused(numpyBytes("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", new Uint8Array(4)), /shape/);
  refused(Buffer.from("\x93NUMPY\x02\x00\xff\xff", "latin1"), /cut short/);
  assert.throws(() => readNpy(join(folder, "none.npy")), UserError);
});

test("types that numpy lacks are refused", () => {
  assert.equal(hasNpyType("bfloat16"), false);
  assert.throws(() => writeNpy(file, Tensor.zeros("bfloat16", [1])), UserError);
});
