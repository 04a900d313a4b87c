import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { add, boundsOf, ceilDiv, type Dim, dimFromJson, dimKey, dimToJson, evaluate, floorDiv, max, min, mod, mul, sub, substitute, symbol } from "./dim.ts";

const BINARY = { add, mul, floorDiv, mod, min, max, sub } as const;

/** An expression together with how plain arithmetic computes it. */
const expression = fc.letrec<{ tree: [Dim, (b: number, s: number) => number] }>((tie) => ({
  tree: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.integer({ min: 0, max: 9 }).map((n): [Dim, (b: number, s: number) => number] => [n, () => n]),
    fc.constant<[Dim, (b: number, s: number) => number]>([symbol("b"), (b) => b]),
    fc.constant<[Dim, (b: number, s: number) => number]>([symbol("s"), (_, s) => s]),
    fc.tuple(fc.constantFrom("add", "mul", "sub", "min", "max"), tie("tree"), tie("tree")).map(([name, [x, fx], [y, fy]]): [Dim, (b: number, s: number) => number] => [
      BINARY[name as "add"](x, y),
      (b, s) => plain(name, fx(b, s), fy(b, s)),
    ]),
    fc.tuple(fc.constantFrom("floorDiv", "mod"), tie("tree"), fc.integer({ min: 1, max: 7 })).map(([name, [x, fx], y]): [Dim, (b: number, s: number) => number] => [
      BINARY[name as "mod"](x, y),
      (b, s) => plain(name, fx(b, s), y),
    ]),
  ),
})).tree;

function plain(name: string, x: number, y: number): number {
  switch (name) {
    case "add": return x + y;
    case "sub": return x - y;
    case "mul": return x * y;
    case "min": return Math.min(x, y);
    case "max": return Math.max(x, y);
    case "floorDiv": return Math.floor(x / y);
    default: return x - Math.floor(x / y) * y;
  }
}

test("simplified expressions keep their value", () => {
  fc.assert(fc.property(expression, fc.integer({ min: 0, max: 6 }), fc.integer({ min: 0, max: 6 }), ([dim, value], b, s) => {
    assert.equal(evaluate(dim, new Map([["b", b], ["s", s]])) + 0, value(b, s) + 0);
  }), { numRuns: 2000 });
});

test("JSON keeps the expression", () => {
  fc.assert(fc.property(expression, ([dim]) => {
    assert.equal(dimKey(dimFromJson(JSON.parse(JSON.stringify(dimToJson(dim))))), dimKey(dim));
  }));
});

test("bounds hold for every value in the ranges", () => {
  fc.assert(fc.property(expression, fc.integer({ min: 0, max: 6 }), fc.integer({ min: 0, max: 6 }), ([dim], b, s) => {
    const bounds = boundsOf(dim, new Map([["b", { min: 0, max: 6 }], ["s", { min: 0, max: 6 }]]));
    const value = evaluate(dim, new Map([["b", b], ["s", s]]));
    assert.ok(bounds.min <= value && value <= bounds.max, `${dimKey(dim)} = ${value} outside ${bounds.min}..${bounds.max}`);
  }));
});

test("substitution is evaluation in two steps", () => {
  fc.assert(fc.property(expression, fc.integer({ min: 0, max: 6 }), fc.integer({ min: 0, max: 6 }), ([dim], b, s) => {
    assert.equal(evaluate(substitute(dim, new Map([["b", b]])), new Map([["s", s]])) + 0, evaluate(dim, new Map([["b", b], ["s", s]])) + 0);
  }));
});

test("equal shapes have equal keys", () => {
  const b = symbol("b");
  const s = symbol("s");
  assert.equal(dimKey(mul(add(b, 1), s)), dimKey(add(mul(s, b), s)));
  assert.equal(dimKey(floorDiv(mul(b, s, 768), mul(b, s))), "768");
  assert.equal(dimKey(floorDiv(mul(b, sub(s, 1), 768), mul(b, sub(s, 1), 64))), "12");
  assert.equal(dimKey(ceilDiv(add(mul(b, 4), 1), 4)), dimKey(add(b, 1)));
  assert.equal(dimKey(sub(add(b, s), s)), "b");
});
