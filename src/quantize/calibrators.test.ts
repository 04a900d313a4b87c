/** Calibrators against cases worked out by hand. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { activationPlan, clipOf } from "./calibrators.ts";
import { Histogram, type Seen } from "./histogram.ts";

const seen = (values: readonly number[]): Seen => ({ least: values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY), largest: values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY), elements: Float32Array.from(values), stride: 1, count: values.length });

function histogramOf(values: readonly number[]): Histogram {
  const histogram = new Histogram();
  histogram.add(seen(values));
  return histogram;
}

/** Values spread evenly from 0 to 1, and one far out. */
const withOutlier = histogramOf([...Array.from({ length: 40_000 }, (_, i) => (i + 0.5) / 40_000), 100]);
const spread = histogramOf(Array.from({ length: 40_001 }, (_, i) => i / 20_000 - 1));

describe("histogram", () => {
  it("keeps every value when its range doubles", () => {
    const histogram = histogramOf([0.5, -0.25, 0, 0]);
    assert.equal(histogram.range, 0.5);
    histogram.add(seen([3]));
    assert.equal(histogram.range, 4);
    assert.equal(histogram.bins.reduce((a, b) => a + b, 0), 3);
    assert.deepEqual([histogram.zeros, histogram.count, histogram.min, histogram.max], [2, 5, -0.25, 3]);
  });

  it("counts what was left out between the elements that it is given", () => {
    const histogram = new Histogram();
    histogram.add({ least: -2, largest: 7, elements: Float32Array.of(0, 1, 5), stride: 3, count: 8 });
    assert.deepEqual([histogram.min, histogram.max, histogram.count, histogram.zeros, histogram.range], [-2, 7, 8, 3, 8]);
    assert.equal(histogram.bins.reduce((a, b) => a + b, 0), 6);
  });

  it("finds quantiles to a bin's width, zeros counted in", () => {
    assert.ok(Math.abs(spread.quantile(0.25) + 0.5) < 1e-3);
    assert.ok(Math.abs(histogramOf([0, 0, 0, 1]).quantile(0.5)) < 1e-3);
  });
});

describe("calibrators", () => {
  it("minmax spans everything, zero included", () => {
    assert.deepEqual(clipOf(histogramOf([2, 5]), "minmax", "asymmetric"), [0, 5]);
    assert.deepEqual(clipOf(histogramOf([-1, 5]), "minmax", "asymmetric"), [-1, 5]);
    assert.deepEqual(clipOf(histogramOf([-1, 5]), "minmax", "symmetric"), [-5, 5]);
  });

  it("percentile leaves one value in ten thousand out", () => {
    const [low, high] = clipOf(withOutlier, "percentile", "asymmetric");
    assert.equal(low, 0);
    assert.ok(high > 0.99 && high < 1.1, `${high}`);
  });

  it("mse clips where the error of clipping equals that of rounding", () => {
    // Evenly spread over [0, 1]: with everything, steps of 100 / 255 round by 0.113 on average; at 100 / 128 the step is
    // 1 / 326, and what is lost is one value of 40,001: (99.2)^2 / 40,001 = 0.25 on average squared, against 0.0128.
    const [, whole] = clipOf(withOutlier, "mse", "asymmetric");
    assert.ok(whole > 50, "one value that is far enough out is worth its steps in squared error");
    const many = histogramOf([...Array.from({ length: 400_000 }, (_, i) => (i % 40_000) / 40_000), 8]);
    const [, clipped] = clipOf(many, "mse", "asymmetric");
    assert.ok(clipped < 8 && clipped >= 1, `${clipped}`);
  });

  it("entropy keeps what is evenly spread, and clips a long tail", () => {
    const [low, high] = clipOf(spread, "entropy", "asymmetric");
    assert.ok(low < -0.9 && high > 0.9, `${low} ${high}`);
    const tail = histogramOf(Array.from({ length: 100_000 }, (_, i) => (-Math.log((i + 0.5) / 100_000)) ** 3));
    const [, clipped] = clipOf(tail, "entropy", "asymmetric");
    assert.ok(Math.max(-tail.min, tail.max) > 1000 && clipped - clipOf(tail, "entropy", "asymmetric")[0] < 0.8 * (tail.max - tail.min), `${clipped}`);
  });

  it("nothing but zeros is no range", () => {
    for (const calibrator of ["entropy", "minmax", "percentile", "mse"] as const) assert.deepEqual(clipOf(histogramOf([0, 0]), calibrator, "asymmetric"), [0, 0]);
  });

  it("scale and zero point span the range and hold zero exactly", () => {
    assert.deepEqual(activationPlan([0, 6], "asymmetric"), { type: "uint8", scale: Math.fround(6 / 255), zeroPoint: 0 });
    assert.deepEqual(activationPlan([-1, 1], "symmetric"), { type: "int8", scale: Math.fround(1 / 127), zeroPoint: 0 });
    const { scale, zeroPoint } = activationPlan([-1, 3], "asymmetric");
    assert.equal(zeroPoint, Math.round(1 / scale));
  });
});
