/** From samples to an int8 engine with its report: what a user does, and the mistakes that are caught. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { Tensor } from "../base/index.ts";
import { calibrate } from "../calibrate.ts";
import type { DataSet, Sample } from "../data/index.ts";
import { measureNoise } from "../layer-noise.ts";
import { buildInt8 } from "../mixed-precision.ts";
import { makeModel } from "../onnx/index.ts";
import { accuracyPath, calibrationPage, metricNamed, noisePage, planFromCache, readAccuracy, readCache, writeCache } from "../quantize/index.ts";
import { Engine } from "../runtime/index.ts";
import { floats, mlp } from "./small-models.ts";

const folder = mkdtempSync(join(tmpdir(), "sinter-int8-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

/** Samples of the small network; the second stratum's values are `factor` times the first's. */
function dataOf(count: number, factor = 1): DataSet {
  const entries = Array.from({ length: count }, (_, i) => ({ id: `${i}`, columns: { kind: i % 2 === 0 ? "day" : "night" } }));
  return { name: "made up", entries, load: async (i) => ({ ...entries[i]!, feeds: { x: new Tensor("float32", floats(16, i + 3).map((item) => item * (i % 2 === 0 ? 1 : factor)), [1, 16]) } }) };
}

async function* iterated(samples: readonly Tensor[]): AsyncGenerator<Sample> {
  for (const [i, x] of samples.entries()) yield { id: `${i}`, columns: {}, feeds: { x } };
}

describe("calibration", () => {
  it("makes a cache that a later build reads, whatever its calibrator", async () => {
    const cache = await calibrate(mlp(), { data: dataOf(80) });
    assert.deepEqual(Object.keys(cache.layers), ["fc1", "fc2"]);
    assert.deepEqual(cache.warnings, []);
    writeCache(at("cache.json"), cache);
    assert.deepEqual(readCache(at("cache.json"), cache.model.digest), JSON.parse(JSON.stringify(cache)));
    for (const calibrator of ["entropy", "minmax", "percentile", "mse"] as const) {
      const { accuracy } = await buildInt8(mlp(), { output: at("mlp.engine"), level: 0, calibration: cache, calibrator, scheme: "symmetric", evaluate: dataOf(20) });
      assert.ok(accuracy!.score > 0.999, `${calibrator}: ${accuracy!.score}`);
    }
    assert.match(calibrationPage(cache), /<svg role="img" aria-label="histogram of fc1"/);
  });

  it("takes an iterator, and warns of too few samples", async () => {
    const cache = await calibrate(mlp(), { data: iterated([new Tensor("float32", floats(16), [1, 16])]) });
    assert.equal(cache.data.samples, 1);
    assert.match(cache.warnings[0]!, /Only 1 samples/);
  });

  it("refuses samples of a wrong shape, with NaN, and none", async () => {
    const refused = (samples: readonly Tensor[]): Promise<unknown> => calibrate(mlp(), { data: iterated(samples) });
    await assert.rejects(refused([new Tensor("float32", floats(8), [1, 8])]), { code: "input-invalid", message: /shape \[1, 8\]; expected \[batch, 16\]/ });
    await assert.rejects(refused([new Tensor("float32", floats(16).fill(Number.NaN, 3, 4), [1, 16])]), { code: "input-invalid", message: /NaN at element 3/ });
    await assert.rejects(refused([]), { code: "input-invalid", message: /no samples/ });
  });

  it("shares samples among strata, and says where their ranges disagree", async () => {
    const { strata, warnings } = await calibrate(mlp(), { data: dataOf(200, 10), samples: 100, strata: "kind" });
    assert.deepEqual(strata?.coverage, { day: { inData: 100, used: 50 }, night: { inData: 100, used: 50 } });
    const [worst] = strata!.disagreements;
    assert.ok(worst!.ratio > 5 && worst!.widest === "night" && worst!.narrowest === "day");
    assert.ok(warnings.some((text) => /Strata disagree/.test(text)));
  });

  it("is of one model: another's cache is refused", async () => {
    const cache = await calibrate(mlp(), { data: dataOf(4) });
    writeCache(at("mlp.json"), cache);
    const other = makeModel({ inputs: [{ name: "x", type: "float32", dims: [1, 4] }], outputs: [{ name: "y", type: "float32" }], initializers: { w: new Tensor("float32", floats(16), [4, 4]) }, nodes: [{ op: "MatMul", inputs: ["x", "w"], outputs: ["y"] }] });
    await assert.rejects(buildInt8(other, { output: at("other.engine"), calibration: at("mlp.json") }), { code: "calibration-stale", message: /Calibrate again/ });
    await assert.rejects(buildInt8(other, { output: at("other.engine"), calibration: cache }), { code: "calibration-stale" });
    await assert.rejects(buildInt8(mlp(), { output: at("other.engine"), calibration: at("missing.json") }), { code: "file-io" });
    assert.ok(!existsSync(at("other.engine")));
  });
});

describe("saturation counters", () => {
  /** Mean share over the layers after a few runs on values `factor` times those of the calibration. */
  const shareAt = async (path: string, factor: number): Promise<number> => {
    using engine = await Engine.load(path);
    for (let i = 0; i < 20; i++) {
      const results = await engine.run({ x: new Tensor("float32", floats(16, i + 500).map((item) => item * factor), [1, 16]) });
      assert.deepEqual(Object.keys(results), ["y"], "the counters are no result");
    }
    const { runs, layers } = engine.saturation!;
    assert.equal(runs, 20);
    assert.deepEqual(layers.map(({ layer }) => layer), ["fc1", "fc2"]);
    return layers.reduce((sum, { share }) => sum + share, 0) / layers.length;
  };

  it("stay where they are on data like the calibration's, and rise on data that has drifted", async () => {
    const cache = await calibrate(mlp(), { data: dataOf(200) });
    await buildInt8(mlp(), { output: at("counted.engine"), level: 0, calibration: cache, calibrator: "minmax", saturationCounters: true });
    const [alike, drifted] = [await shareAt(at("counted.engine"), 1), await shareAt(at("counted.engine"), 3)];
    assert.ok(alike < 0.02, `alike: ${alike}`);
    assert.ok(drifted > 0.2 && drifted > 10 * alike, `drifted: ${drifted}`);
  });

  it("are not there unless they are asked for, nor where scales are found as the engine runs", async () => {
    const cache = await calibrate(mlp(), { data: dataOf(64) });
    await buildInt8(mlp(), { output: at("uncounted.engine"), level: 0, calibration: cache });
    await buildInt8(mlp(), { output: at("dynamic.engine"), level: 0, saturationCounters: true });
    for (const name of ["uncounted.engine", "dynamic.engine"]) {
      using engine = await Engine.load(at(name));
      assert.equal(engine.saturation, undefined);
      assert.deepEqual(engine.outputs.map((output) => output.name), ["y"]);
    }
  });
});

describe("mixed precision", () => {
  it("keeps named layers in float, and refuses a name that fits none", async () => {
    const { report } = await buildInt8(mlp(), { output: at("kept.engine"), level: 0, keep: ["fc1*"] });
    assert.deepEqual(report.quantization?.layers["fc1"], { precision: "fp32", reason: "kept by name" });
    assert.equal(report.quantization?.layers["fc2"]?.precision, "int8");
    await assert.rejects(buildInt8(mlp(), { output: at("kept.engine"), keep: ["conv*"] }), { code: "option-invalid", message: /fits no layer/ });
  });

  it("measures each layer and keeps what a target needs; the report lies beside the engine", async () => {
    const output = at("target.engine");
    const { accuracy } = await buildInt8(mlp(), { output, level: 0, evaluate: dataOf(30), minAccuracy: 0.999 });
    assert.ok(accuracy!.reached && accuracy!.retained >= 0.999);
    assert.deepEqual(accuracy!.sensitivity.map(({ layer }) => layer).sort(), ["fc1", "fc2"]);
    assert.deepEqual(readAccuracy(output, accuracy!.model.digest), JSON.parse(JSON.stringify(accuracy)));
    assert.equal(readAccuracy(output, "another model"), undefined);
    assert.ok(existsSync(accuracyPath(output)));
  });

  it("keeps the best engine when no mix reaches the target", async () => {
    const output = at("unreached.engine");
    const agrees = { name: "identical outputs", score: (answers: Parameters<ReturnType<typeof metricNamed>["score"]>[0]) => answers.filter(({ outputs, reference }) => Buffer.compare(outputs["y"]!.bytes, reference["y"]!.bytes) === 0).length / answers.length };
    const { accuracy } = await buildInt8(mlp(), { output, level: 0, evaluate: dataOf(10), minAccuracy: 0.9, metric: agrees });
    assert.equal(accuracy!.reached, false);
    using engine = await Engine.load(output);
    assert.equal((await engine.run({ x: new Tensor("float32", floats(16), [1, 16]) }))["y"] instanceof Tensor, true);
  });

  it("measures top-1 and F1 against labels, and the noise of every layer", async () => {
    const answer = (label: number, ...scores: number[]): Parameters<ReturnType<typeof metricNamed>["score"]>[0][number] => ({ entry: { id: "", columns: { label } }, outputs: { y: new Tensor("float32", scores, [1, scores.length]) }, reference: {} });
    const answers = [answer(0, 2, 1), answer(1, 2, 1), answer(1, 1, 2), answer(1, 0, 1)];
    assert.equal(metricNamed("top1").score(answers), 0.75);
    // Class 0: one right, one taken wrongly: 2/3. Class 1: two right, one missed: 4/5.
    assert.ok(Math.abs(metricNamed("f1").score(answers) - (2 / 3 + 4 / 5) / 2) < 1e-12);
    const cache = await calibrate(mlp(), { data: dataOf(64) });
    const rows = await measureNoise(mlp(), planFromCache(cache, ["fc1", "fc2"], { calibrator: "minmax", scheme: "asymmetric", keep: ["fc1"] }), [{ x: new Tensor("float32", floats(16, 9), [1, 16]) }]);
    assert.deepEqual(rows.map(({ layer, precision, decibels }) => [layer, precision, decibels === null]), [["fc1", "fp32", true], ["fc2", "int8", false]]);
    assert.ok(rows[1]!.decibels! > 30);
    assert.match(noisePage("mlp", rows, undefined), /signal over noise per layer/);
  });
});
