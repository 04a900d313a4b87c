import assert from "node:assert/strict";
import { test } from "node:test";
import { reductionParts } from "./reduction-parts.ts";

test("a reduction is cut into parts that cover every word once, the last one alone", () => {
  for (const words of [0, 1, 15, 16, 17, 160, 250, 384, 513]) {
    for (const depth of [undefined, 16, 96, 256]) {
      const parts = reductionParts(words, depth);
      let next = 0;
      parts.forEach(({ begin, times, steps, stepWords, isLast }, i) => {
        assert.equal(begin, next, `${words} words, depth ${depth}`);
        assert.ok(stepWords >= 1 && stepWords <= 16 && steps * stepWords <= (depth ?? words + 16));
        assert.equal(isLast, i === parts.length - 1);
        if (isLast) assert.equal(times, 1);
        next += times * steps * stepWords;
      });
      assert.equal(next, words);
    }
  }
});
