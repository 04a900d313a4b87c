/** Calibration from the command line: data as people have it, what is refused or warned of, and nothing left behind. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { Tensor } from "../base/index.ts";
import { writeNpy } from "../data/index.ts";
import { imageModel, type Outcome, type SinterOptions, smallModel, Workplace } from "./testing.ts";

const place = new Workplace();
after(() => place.dispose());

const COUNT = 80;
const numbers = (count: number, shift = 0): Float32Array => Float32Array.from({ length: count }, (_, i) => Math.sin(i * 1.7 + shift));

before(() => {
  mkdirSync(place.path("tmp"));
  place.write("small.onnx", smallModel());
  place.write("other.onnx", smallModel(0.2));
  place.write("image.onnx", imageModel());
  writeNpy(place.path("x.npy"), new Tensor("float32", numbers(COUNT * 64), [COUNT, 64]));
  writeNpy(place.path("narrow.npy"), new Tensor("float32", numbers(COUNT * 63), [COUNT, 63]));
  writeNpy(place.path("nan.npy"), new Tensor("float32", numbers(COUNT * 64).fill(Number.NaN, 700, 701), [COUNT, 64]));
  writeNpy(place.path("few.npy"), new Tensor("float32", numbers(3 * 64), [3, 64]));
  writeNpy(place.path("many.npy"), new Tensor("float32", numbers(20_000 * 64), [20_000, 64]));
  const lines = Array.from({ length: COUNT }, (_, i) => JSON.stringify({ x: Array.from(numbers(64, i), (item) => item * (i % 2 === 0 ? 1 : 20)), time: i % 2 === 0 ? "day" : "night" }));
  place.write("x.jsonl", lines.join("\n"));
  for (const [name, count] of [["day", 6], ["night", 2]] as const) {
    mkdirSync(place.path(`pictures/${name}`), { recursive: true });
    for (let i = 0; i < count; i++) place.write(`pictures/${name}/${i}.ppm`, Buffer.concat([Buffer.from("P6 12 10 255\n"), Buffer.from(Uint8Array.from({ length: 360 }, (_, at) => (at * 7 + i * 31) & (name === "day" ? 255 : 15)))]));
  }
});

const calibrate = (data: string, args: readonly string[] = [], options: SinterOptions = {}): Promise<Outcome> => place.sinter(["calibrate", "small.onnx", "--data", data, "-o", "cache.json", ...args], { ...options, env: { TMPDIR: place.path("tmp") } });
const files = (): string[] => readdirSync(place.folder).filter((name) => name !== "cache").sort();

describe("sinter calibrate", () => {
  it("reads arrays and lines, and its cache makes an engine", async () => {
    for (const data of ["x.npy", "x.jsonl"]) {
      const { status, stdout, stderr } = await calibrate(data);
      assert.equal(status, 0, stderr);
      assert.match(stdout, /80 of (.*\/)?x\.(npy|jsonl)/);
      assert.doesNotMatch(stdout, /warning/);
      const built = await place.sinter(["build", "small.onnx", "--precision", "int8", "--level", "0", "--calibration", "cache.json", "--evaluate", "x.npy", "-o", "int8.engine"]);
      assert.equal(built.status, 0, built.stderr);
      const report = JSON.parse(readFileSync(place.path("int8.engine.accuracy.json"), "utf8")) as { score: number; layers: object };
      assert.ok(report.score > 0.999, `${report.score}`);
      assert.deepEqual(Object.keys(report.layers), ["product"]);
    }
  });

  it("reads a folder of pictures, shared among what its folders say, and tells where they disagree", async () => {
    const { status, stdout, stderr } = await place.sinter(["calibrate", "image.onnx", "--data", "pictures", "--strata", "folder", "--samples", "4", "--preprocess", "scale=0.1", "--html", "page.html", "--json"]);
    assert.equal(status, 0, stderr);
    const summary = JSON.parse(stdout) as { strata: { coverage: object; disagreements: readonly { widest: string }[] }; warnings: readonly string[] };
    assert.deepEqual(summary.strata.coverage, { day: { inData: 6, used: 2 }, night: { inData: 2, used: 2 } });
    assert.equal(summary.strata.disagreements[0]?.widest, "day");
    assert.ok(summary.warnings.some((text) => /Only 4 samples/.test(text)));
    assert.match(readFileSync(place.path("page.html"), "utf8"), /<svg/);
  });

  it("refuses samples of a wrong shape and with NaN, by name, and writes nothing", async () => {
    const before = files();
    const narrow = await calibrate("narrow.npy", ["-o", "none.json"]);
    assert.equal(narrow.status, 2, narrow.stderr);
    assert.match(narrow.stderr, /Sample "0": input "x" has shape \[1, 63\]; expected \[batch, 64\]/);
    const broken = await calibrate("nan.npy", ["-o", "none.json"]);
    assert.equal(broken.status, 2, broken.stderr);
    assert.match(broken.stderr, /Sample "10": input "x" holds NaN at element 60/);
    assert.deepEqual(files(), before);
  });

  it("warns of too few samples", async () => {
    const { status, stdout } = await calibrate("few.npy");
    assert.equal(status, 0);
    assert.match(stdout, /warning: Only 3 samples/);
  });

  it("is of one model: a build of another refuses its cache", async () => {
    assert.equal((await calibrate("x.npy")).status, 0);
    const { status, stderr } = await place.sinter(["build", "other.onnx", "--precision", "int8", "--level", "0", "--calibration", "cache.json"]);
    assert.notEqual(status, 0);
    assert.match(stderr, /was calibrated for the model with digest sha256:[\s\S]*Calibrate again/);
    assert.ok(!files().includes("other.engine"));
  });

  it("cut off by Ctrl-C, leaves nothing", async () => {
    const before = files();
    const { status, stderr } = await calibrate("many.npy", ["--samples", "20000", "-o", "cut.json"], { interruptAt: /sample 1/ });
    assert.notEqual(status, 0);
    assert.match(stderr, /cancelled; nothing was written/);
    assert.deepEqual(files(), before);
    assert.deepEqual(readdirSync(place.path("tmp")), []);
  });
});

describe("sinter build --min-accuracy", () => {
  it("keeps the best engine and exits with 7 when no mix reaches the target", async () => {
    const { status, stderr } = await place.sinter(["build", "small.onnx", "--precision", "int8", "--level", "0", "--evaluate", "x.npy", "--min-accuracy", "1", "-o", "best.engine"]);
    assert.equal(status, 7, stderr);
    assert.match(stderr, /best/);
    const report = JSON.parse(readFileSync(place.path("best.engine.accuracy.json"), "utf8")) as { reached: boolean; target: number };
    assert.deepEqual([report.reached, report.target], [false, 1]);
    const run = await place.sinter(["run", "best.engine"]);
    assert.equal(run.status, 0, run.stderr);
  });
});
