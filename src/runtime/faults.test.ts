/** What goes wrong around builds and engine files: said in words, with the error's code, and nothing left behind. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type ErrorCode, SinterError, Tensor } from "../base/index.ts";
import { build, type BuildStage } from "../compile.ts";
import { encodeHeader, ENGINE_FORMAT, sha256 } from "../engine/index.ts";
import { detectCpu } from "../native/index.ts";
import { makeModel, type ModelDescription } from "../onnx/index.ts";
import { floats, mlp } from "../testing/small-models.ts";
import { Engine } from "./engine.ts";

const folder = mkdtempSync(join(tmpdir(), "sinter-faults-"));
const path = join(folder, "mlp.engine");

before(async () => {
  await build(mlp(), { output: path, level: 0 });
});
after(() => rmSync(folder, { recursive: true, force: true }));

/** Expects an error with this code and text, and the folder's files as they were. */
async function refuses(work: () => Promise<unknown>, code: ErrorCode, text: RegExp): Promise<void> {
  const before = readdirSync(folder);
  await assert.rejects(work, (error: unknown) => {
    assert.ok(error instanceof SinterError, (error as Error).stack);
    assert.equal(error.code, code, error.message);
    assert.match(error.message, text);
    return true;
  });
  assert.deepEqual(readdirSync(folder), before);
}

const output = join(folder, "new.engine");

/** x [n, 4] → nodes → y [n, 4] */
function model(parts: Partial<ModelDescription>): Uint8Array {
  const value = (name: string) => ({ name, type: "float32" as const, dims: ["n", 4] });
  return makeModel({ inputs: [value("x")], outputs: [value("y")], nodes: [{ op: "Relu", inputs: ["x"], outputs: ["y"] }], ...parts });
}

describe("a build refuses", () => {
  const external = { w: { type: "float32" as const, dims: [4], location: "w.bin" } };
  const MODELS: readonly (readonly [what: string, bytes: Uint8Array, code: ErrorCode, text: RegExp])[] = [
    ["what is not ONNX", Buffer.from("GIF89a, surely"), "not-onnx", /.model\.onnx/],
    ["an empty file", new Uint8Array(0), "not-onnx", /./],
    ["a truncated model", mlp().subarray(0, 3000), "model-truncated", /./],
    ["an unknown operator", model({ nodes: [{ op: "Frobnicate", name: "frob", inputs: ["x"], outputs: ["y"] }] }), "unknown-operator", /"?frob/],
    ["a cycle", model({ nodes: [{ op: "Add", name: "one", inputs: ["x", "b"], outputs: ["a"] }, { op: "Relu", name: "two", inputs: ["a"], outputs: ["b"] }, { op: "Neg", inputs: ["b"], outputs: ["y"] }] }), "model-invalid", /cycle/],
    ["types that do not fit", model({ initializers: { w: new Tensor("int64", BigInt64Array.of(1n), [1]) }, nodes: [{ op: "Add", name: "mixed", inputs: ["x", "w"], outputs: ["y"] }] }), "model-invalid", /mixed/],
    ["weights that are missing", model({ initializers: external, nodes: [{ op: "Add", inputs: ["x", "w"], outputs: ["y"] }] }), "external-data", /w\.bin/],
  ];
  for (const [what, bytes, code, text] of MODELS) {
    test(what, async () => {
      const file = join(folder, "model.onnx");
      writeFileSync(file, bytes);
      await refuses(() => build(file, { output, level: 0 }), code, text);
      rmSync(file);
    });
  }

  const shapes = (min: number[], opt: number[], max: number[]) => ({ min, opt, max });
  const PROFILES: readonly (readonly [what: string, profile: Record<string, ReturnType<typeof shapes>>, text: RegExp])[] = [
    ["a profile of another input", { z: shapes([1, 16], [1, 16], [1, 16]) }, /"z".*x/],
    ["a profile of another rank", { x: shapes([1], [1], [1]) }, /rank 1.*rank 2/],
    ["a profile the wrong way round", { x: shapes([4, 16], [2, 16], [8, 16]) }, /min 4, opt 2, max 8/],
    ["a profile that changes a fixed dimension", { x: shapes([1, 16], [1, 16], [1, 32]) }, /fixes this dimension at 16/],
    ["a profile of no whole numbers", { x: shapes([0.5, 16], [1, 16], [2, 16]) }, /whole numbers/],
  ];
  for (const [what, profile, text] of PROFILES) test(what, () => refuses(() => build(mlp(), { output, level: 0, profiles: [profile] }), "profile-invalid", text));

  test("a folder that is not there", () => refuses(() => build(mlp(), { output: join(folder, "none/x.engine"), level: 0 }), "file-io", /none/));
});

describe("a build leaves nothing behind", () => {
  for (const stage of ["import", "optimize", "plan", "tune", "write"] satisfies BuildStage[]) {
    test(`when it is cancelled at "${stage}"`, async () => {
      const abort = new AbortController();
      const options = { output, level: 0 as const, signal: abort.signal, onProgress: (progress: { stage: BuildStage }) => void (progress.stage === stage && abort.abort()) };
      await refuses(() => build(mlp(), options), "aborted", /cancelled/);
    });
  }

  test("when the disk is full", () => {
    const wide = join(folder, "wide.onnx");
    writeFileSync(wide, model({ initializers: { w: new Tensor("float32", floats(4 * 4), [4, 4]), b: new Tensor("float32", floats(4), [4]) }, nodes: [{ op: "MatMul", inputs: ["x", "w"], outputs: ["h"] }, { op: "Add", inputs: ["h", "b"], outputs: ["y"] }] }));
    const before = readdirSync(folder);
    const body = `const { build } = await import(${JSON.stringify(new URL("../index.js", import.meta.url).href)});
      await build(${JSON.stringify(wide)}, { output: ${JSON.stringify(output)}, level: 0 }).then(() => console.log("built"), (error) => console.log(error.code, error.message));`;
    // A limit on the size of files stands for a full disk: the write that passes it fails.
    const child = spawnSync("sh", ["-c", `trap "" XFSZ; ulimit -f 8; exec "$0" --input-type=module -e "$1"`, process.execPath, body], { encoding: "utf8" });
    assert.match(child.stdout, /^file-io .*new\.engine: the engine could not be written: EFBIG/, child.stderr);
    assert.deepEqual(readdirSync(folder), before);
  });

  test("when two builds write the same file at once", async () => {
    await Promise.all([build(mlp(), { output, level: 0 }), build(mlp(), { output, level: 0 })]);
    assert.ok(readFileSync(output).equals(readFileSync(path)));
    rmSync(output);
    assert.deepEqual(readdirSync(folder).filter((name) => name.endsWith(".tmp")), []);
  });
});

describe("an engine is refused", () => {
  const bad = join(folder, "bad.engine");

  async function refusesBytes(bytes: Uint8Array, code: ErrorCode, text: RegExp): Promise<void> {
    writeFileSync(bad, bytes);
    await refuses(() => Engine.load(bad), code, text);
    rmSync(bad);
  }

  test("when it is not there, or no file", async () => {
    await refuses(() => Engine.load(bad), "file-io", /bad\.engine/);
    await refuses(() => Engine.load(folder), "file-io", /not a regular file/);
  });

  test("when it is something else, or cut short", async () => {
    const good = readFileSync(path);
    await refusesBytes(mlp(), "engine-damaged", /not a Sinter engine|ends inside its header/);
    await refusesBytes(new Uint8Array(0), "engine-damaged", /ends inside its header \(0 bytes/);
    await refusesBytes(good.subarray(0, 4095), "engine-damaged", /byte 4095/);
    await refusesBytes(good.subarray(0, 5000), "engine-damaged", /section "\w+" needs bytes \d+ to \d+, the file has 5000/);
  });

  test("when its format is newer", async () => {
    const changed = Buffer.from(readFileSync(path));
    changed.writeUInt32LE(ENGINE_FORMAT + 1, 8);
    sha256(changed.subarray(0, 4064)).copy(changed, 4064);
    await refusesBytes(changed, "engine-incompatible", new RegExp(`engine format ${ENGINE_FORMAT + 1}, this Sinter reads ${ENGINE_FORMAT}. Update Sinter`));
  });

  interface Tables {
    readonly steps: { code: number }[];
    readonly target: { features: string[] };
  }

  /** The engine with other tables, under a digest that fits. */
  function withTables(change: (tables: Tables, codeBytes: number) => void): Buffer {
    const changed = Buffer.from(readFileSync(path));
    const section = (row: number) => ({ offset: Number(changed.readBigUInt64LE(16 + row * 80 + 16)), sizeBytes: Number(changed.readBigUInt64LE(16 + row * 80 + 24)), digest: changed.subarray(16 + row * 80 + 32, 16 + row * 80 + 64) });
    const [manifest, report, code, weights] = [section(0), section(1), section(2), section(3)];
    const tables = JSON.parse(changed.toString("utf8", manifest.offset, manifest.offset + manifest.sizeBytes)) as Tables;
    change(tables, code.sizeBytes);
    const bytes = Buffer.from(JSON.stringify(tables));
    assert.ok(manifest.offset + bytes.length <= report.offset, "the changed tables fit where the old ones were");
    bytes.copy(changed, manifest.offset);
    encodeHeader([
      { name: "manifest", offset: manifest.offset, sizeBytes: bytes.length, digest: sha256(bytes) }, { name: "report", ...report }, { name: "code", ...code }, { name: "weights", ...weights },
    ]).copy(changed, 0);
    return changed;
  }

  test("when its tables point outside the file, whatever the digest says", async () => {
    await refusesBytes(withTables((tables, codeBytes) => { tables.steps[0]!.code = codeBytes + 64; }), "engine-damaged", /section "manifest".*entry of a kernel/);
  });

  const features: ReadonlySet<string> = detectCpu({}).features;
  test("when it was built for a processor with more", { skip: !features.has("avx512f") && "this processor has no AVX-512" }, async () => {
    await refuses(() => Engine.load(path, { env: { SINTER_CPU: "avx2" } }), "engine-incompatible", /built for .*; this processor .* lacks .*avx512f.*Build the model again/);
  });

  test("when its kernels multiply with tiles, and there are none", { skip: !features.has("avx512f") && "this processor has no AVX-512" }, async () => {
    const tiled = join(folder, "tiles.engine");
    writeFileSync(tiled, withTables(({ target }) => { target.features.push("amxtile", "amxbf16"); }));
    await refuses(() => Engine.load(tiled, { env: { SINTER_CPU: "avx512" } }), "engine-incompatible", /multiply with AMX tiles; this processor .* has none, or they are hidden/);
  });

  test("and its file stays closed", async () => {
    const open = () => readdirSync("/proc/self/fd").length;
    const maps = () => readFileSync("/proc/self/maps", "utf8").split("\n").filter((line) => line.includes("bad.engine")).length;
    const before = open();
    for (let i = 0; i < 20; i++) await refusesBytes(readFileSync(path).fill(7, 4096 + i, 4100 + i), "engine-damaged", /section "manifest"/);
    assert.equal(open(), before);
    assert.equal(maps(), 0);
  });
});

test("an engine replaced on disk goes on from the file it was loaded from", async () => {
  const file = join(folder, "replaced.engine");
  await build(mlp(), { output: file, level: 0 });
  using engine = await Engine.load(file);
  const x = new Tensor("float32", floats(16, 3), [1, 16]);
  const before = (await engine.run({ x }))["y"] as Tensor;
  await build(model({}), { output: file, level: 0 });
  const again = (await engine.run({ x }))["y"] as Tensor;
  assert.deepEqual(again.data, before.data);
  rmSync(file);
});
