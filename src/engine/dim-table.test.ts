import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { add, ceilDiv, type Dim, dimKey, evaluate, floorDiv, max, min, mod, mul, symbol } from "../ir/index.ts";
import { DimRows, DimTable } from "./dim-table.ts";

const OPERATORS = [add, mul, floorDiv, mod, min, max];

const dims: fc.Arbitrary<Dim> = fc.letrec<{ dim: Dim }>((tie) => ({
  dim: fc.oneof({ depthSize: "small" }, fc.integer({ min: 1, max: 9 }), fc.constantFrom(symbol("a"), symbol("b")),
    fc.tuple(fc.nat(OPERATORS.length - 1), tie("dim"), tie("dim")).map(([operator, a, b]) => OPERATORS[operator]!(a, dimKey(b) === "0" ? 1 : b))),
})).dim;

test("rows have the value and the expression that was put in", () => {
  fc.assert(fc.property(fc.array(dims, { minLength: 1, maxLength: 6 }), fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 50 }), (list, a, b) => {
    const rows = new DimRows();
    const indices = list.map((dim) => rows.add(dim));
    const table = new DimTable(rows.rows);
    const bindings = new Map([["a", a], ["b", b]]);
    const values = table.evaluate(bindings);
    for (const [i, dim] of list.entries()) {
      assert.equal(values[indices[i]!], evaluate(dim, bindings) + 0);
      assert.equal(evaluate(table.dim(indices[i]!), bindings), evaluate(dim, bindings));
    }
  }));
});

test("expressions that contain each other grow the table by a few rows each", () => {
  const rows = new DimRows();
  let size: Dim = symbol("size");
  for (let layer = 0; layer < 12; layer++) {
    size = max(1, mul(ceilDiv(add(size, ceilDiv(size, 3)), 2), 2));
    rows.add(size);
  }
  assert.ok(rows.rows.length < 12 * 12, `${rows.rows.length} rows`);
});

test("what depends on an unknown symbol is unknown", () => {
  const rows = new DimRows();
  const [known, unknown] = [rows.add(add(symbol("a"), 1)), rows.add(max(mul(symbol("b"), 2), symbol("a")))];
  const values = new DimTable(rows.rows).evaluate(new Map([["a", 4]]));
  assert.equal(values[known], 5);
  assert.ok(Number.isNaN(values[unknown]));
});
