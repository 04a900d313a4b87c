/** What the command line does with bad input: text, exit status, and nothing left behind. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { smallModel, tallModel, Workplace } from "./testing.ts";

const place = new Workplace();
after(() => place.dispose());

before(async () => {
  const model = smallModel();
  place.write("small.onnx", model);
  place.write("cut.onnx", model.subarray(0, model.length / 2));
  place.write("text.onnx", "This is no model.\n");
  place.write("empty.onnx", "");
  mkdirSync(place.path("folder"));
  const { status, stderr } = await place.sinter(["build", "small.onnx", "--level", "0"]);
  assert.equal(status, 0, stderr);
  const engine = readFileSync(place.path("small.engine"));
  place.write("cut.engine", engine.subarray(0, engine.length - 4096));
  place.write("x.npy", "not numpy");
});

const CASES: readonly (readonly [name: string, args: readonly string[], status: number, text: RegExp])[] = [
  ["no command", [], 2, /Usage: sinter/],
  ["an unknown command", ["biuld", "small.onnx"], 2, /unknown command 'biuld'[\s\S]*build/],
  ["an unknown option", ["run", "small.engine", "--treads", "2"], 2, /unknown option '--treads'[\s\S]*--threads/],
  ["no file", ["run"], 2, /missing required argument 'file'/],
  ["a choice that is none", ["build", "small.onnx", "--level", "9"], 2, /Allowed choices are 0, 1/],
  ["a missing file", ["build", "none.onnx"], 5, /none\.onnx/],
  ["a folder", ["build", "folder"], 5, /folder/],
  ["not ONNX", ["build", "text.onnx"], 3, /text\.onnx/],
  ["an empty file", ["build", "empty.onnx"], 3, /empty\.onnx/],
  ["a truncated model", ["build", "cut.onnx"], 3, /cut\.onnx/],
  ["a model where an engine is needed", ["verify", "small.onnx"], 3, /not a Sinter engine[\s\S]*sinter build/],
  ["a truncated engine", ["run", "cut.engine"], 3, /cut\.engine: damaged/],
  ["an engine for a model", ["compare", "small.engine"], 2, /give the model first/],
  ["an output that is the model", ["build", "small.onnx", "-o", "small.onnx"], 2, /is the model itself/],
  ["an output folder that is not there", ["build", "small.onnx", "--level", "0", "-o", "none/small.engine"], 5, /none/],
  ["results into a file", ["run", "small.engine", "--output", "small.onnx"], 5, /small\.onnx/],
  ["an input name", ["run", "small.engine", "--input", "z=x.npy"], 2, /no input "z"; its inputs are x/],
  ["an input without a file", ["run", "small.engine", "--input", "x"], 2, /NAME=FILE/],
  ["an input file that is none", ["run", "small.engine", "--input", "x=x.npy"], 5, /x\.npy: no NumPy signature/],
  ["an input file that is missing", ["run", "small.engine", "--input", "x=none.npy"], 5, /none\.npy/],
  ["a shape in words", ["run", "small.engine", "--shapes", "x:two"], 2, /NAME:DIMxDIM/],
  ["a shape of another rank", ["run", "small.engine", "--shapes", "x:64"], 2, /rank 1/],
  ["a shape of another size", ["run", "small.engine", "--shapes", "x:1x65"], 2, /65 at axis 1; expected 64/],
  ["a shape outside the profile", ["run", "small.engine", "--shapes", "x:99x64"], 2, /"batch" is 99; the profile allows 1 to 16/],
  ["a profile of another input", ["build", "small.onnx", "--shapes", "z:1x64"], 2, /Profile names input "z"/],
  ["a profile the wrong way round", ["build", "small.onnx", "--min-shapes", "x:4x64", "--max-shapes", "x:2x64"], 2, /min 4, opt 2, max 2/],
  ["a peer without the model", ["bench", "small.engine", "--compare", "onnxruntime"], 2, /--model/],
  ["a GPU elsewhere where a model is run", ["run", "small.onnx", "--target", "cuda:sm_90"], 2, /cannot run it; build the engine with sinter build/],
  ["a target that is none", ["bench", "small.onnx", "--target", "tpu"], 2, /expected x64, cuda/],
  ["a target that the engine is not for", ["bench", "small.engine", "--target", "cuda"], 2, /small\.engine is an engine for x64; give the model/],
  ["a model and no GPU", ["run", "small.onnx", "--target", "cuda", "--shapes", "x:1x64"], 4, /No GPU: /],
  ["a comparison and no GPU", ["compare", "small.onnx", "--target", "cuda"], 4, /No GPU: /],
  ["a kernel for more work that is not there", ["inspect", "small.engine", "--asm", "0.1"], 2, /0 kernels for more work/],
  ["no time", ["bench", "small.engine", "--duration", "0"], 2, /--duration/],
  ["machine code of a model", ["inspect", "small.onnx", "--asm", "0"], 2, /sinter build small\.onnx/],
];

for (const [name, args, status, text] of CASES) {
  test(`${name}: ${["sinter", ...args].join(" ")}`, async () => {
    const before = readdirSync(place.folder);
    // Whatever this machine has: the driver then shows no GPU.
    const outcome = await place.sinter(args, { env: { CUDA_VISIBLE_DEVICES: "" } });
    assert.match(outcome.stderr, text);
    assert.equal(outcome.status, status, outcome.stderr);
    assert.equal(outcome.stdout, "");
    assert.doesNotMatch(outcome.stderr, /\n\s+at /);
    assert.deepEqual(readdirSync(place.folder).filter((file) => file !== "cache"), before.filter((file) => file !== "cache"));
  });
}

test("an engine of a newer processor says so", async () => {
  const { status, stderr } = await place.sinter(["run", "small.engine"], { env: { SINTER_CPU: "baseline" } });
  assert.equal(status, 4);
  assert.match(stderr, /lacks avx2/);
});

test("Ctrl-C during a build leaves nothing", async () => {
  place.write("tall.onnx", tallModel());
  const before = readdirSync(place.folder);
  const { status, stderr } = await place.sinter(["build", "tall.onnx", "--level", "5"], { interruptAt: /tune/ });
  assert.equal(status, 130, stderr);
  assert.match(stderr, /cancelled/);
  assert.deepEqual(readdirSync(place.folder), before);
});

test("two builds of the same file at once both succeed", async () => {
  const args = ["build", "small.onnx", "--level", "0", "-o", "both.engine", "--timing-cache", "times.json"];
  const outcomes = await Promise.all([place.sinter(args), place.sinter(args)]);
  for (const { status, stderr } of outcomes) assert.equal(status, 0, stderr);
  assert.equal((await place.sinter(["verify", "both.engine"])).status, 0);
  assert.deepEqual(readdirSync(place.folder).filter((name) => name.includes(".tmp")), []);
});

test("a reader that goes away is no error", async () => {
  const { status, stderr } = await place.sinter(["inspect", "small.engine", "--json"], { closeOutput: true });
  assert.equal(stderr, "");
  assert.equal(status, 0);
});

test("help and version are no errors", async () => {
  for (const args of [["--help"], ["help", "bench"], ["build", "--help"], ["--version"]]) {
    const { status, stdout, stderr } = await place.sinter(args);
    assert.deepEqual([status, stderr], [0, ""]);
    assert.notEqual(stdout, "");
  }
});
