import assert from "node:assert/strict";
import { test } from "node:test";
import { UserError } from "./errors.ts";
import { ProtoReader, type ProtoSource, WIRE } from "./protobuf.ts";

const source: ProtoSource = {
  invalid: (found) => new UserError("model-invalid", found),
  truncated: (found) => new UserError("model-truncated", found),
  limit: (found) => new UserError("limit-exceeded", found),
};

const reader = (...bytes: number[]): ProtoReader => new ProtoReader(Uint8Array.from(bytes), source);

function int64Of(...bytes: number[]): number | bigint {
  const made = reader(0x08, ...bytes);
  assert.ok(made.next());
  return made.int64();
}

test("varints: one byte to ten, negative ones exact", () => {
  assert.equal(int64Of(0), 0);
  assert.equal(int64Of(0x96, 0x01), 150);
  assert.equal(int64Of(0xff, 0xff, 0xff, 0xff, 0x07), 0x7fffffff);
  assert.equal(int64Of(0x80, 0x80, 0x80, 0x80, 0x08), 2 ** 31);
  assert.equal(int64Of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01), -1);
  assert.equal(int64Of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f), 2n ** 63n - 1n);
  assert.equal(int64Of(0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01), -(2n ** 63n));
  assert.throws(() => int64Of(0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01), /more than ten bytes/);
});

test("repeated fields are read packed and unpacked", () => {
  for (const made of [reader(0x0a, 0x03, 0x01, 0x96, 0x01), reader(0x08, 0x01, 0x08, 0x96, 0x01)]) {
    const items: number[] = [];
    while (made.next()) made.repeated(WIRE.varint, (run) => run.integer(), items);
    assert.deepEqual(items, [1, 150]);
  }
});

test("unknown fields are skipped, groups refused", () => {
  const made = reader(0x78, 0x05, 0x7a, 0x01, 0x00, 0x7d, 0, 0, 0, 0, 0x79, 0, 0, 0, 0, 0, 0, 0, 0, 0x08, 0x07);
  for (let i = 0; i < 4; i++) {
    assert.ok(made.next());
    made.skip();
  }
  assert.ok(made.next());
  assert.equal(made.integer(), 7);
  assert.equal(made.next(), false);
  const group = reader(0x0b, 0x0c);
  group.next();
  assert.throws(() => group.skip(), /wire type 3/);
});

test("lengths that do not fit are refused with their offset", () => {
  const cut = reader(0x0a, 0x05, 0x01);
  cut.next();
  assert.throws(() => cut.window(), (error: unknown) => error instanceof UserError && error.code === "model-truncated" && /byte 1/.test(error.message));
  const inner = reader(0x0a, 0x02, 0x0a, 0x03, 0x00, 0x00, 0x00);
  inner.next();
  const message = inner.message();
  message.next();
  assert.throws(() => message.window(), (error: unknown) => error instanceof UserError && error.code === "model-invalid");
  const wrong = reader(0x08, 0x01);
  wrong.next();
  assert.throws(() => wrong.string(), /wire type 0; expected 2/);
});

test("bytes are views of the file", () => {
  const bytes = Uint8Array.of(0x0a, 0x02, 0x68, 0x69);
  const made = new ProtoReader(bytes, source);
  made.next();
  const view = made.view8();
  assert.equal(view.buffer, bytes.buffer);
  assert.equal(view.byteOffset, 2);
});
