/** Data as people have it: arrays, archives, lines, pictures; and what is refused. */
import assert from "node:assert/strict";
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { crc32, deflateRawSync } from "node:zlib";
import { readFileSync } from "node:fs";
import { Tensor } from "../base/index.ts";
import { checkSample, chooseEntries, groupByStratum, type InputDescription, openData, parsePreprocessing, preprocess, writeNpy } from "./index.ts";

const folder = mkdtempSync(join(tmpdir(), "sinter-data-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const x: InputDescription = { name: "x", type: "float32", dims: ["n", 2] };

/** A ZIP of these files, deflated. */
function zip(files: Readonly<Record<string, Buffer>>): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const [name, content] of Object.entries(files)) {
    const packed = deflateRawSync(content);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(8, 8);
    local.writeUInt16LE(name.length, 26);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt16LE(8, 10);
    entry.writeUInt32LE(typeof crc32 === "function" ? crc32(content) : 0, 16);
    entry.writeUInt32LE(packed.length, 20);
    entry.writeUInt32LE(content.length, 24);
    entry.writeUInt16LE(name.length, 28);
    entry.writeUInt32LE(at, 42);
    parts.push(local, Buffer.from(name), packed);
    directory.push(entry, Buffer.from(name));
    at += 30 + name.length + packed.length;
  }
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(Object.keys(files).length, 10);
  end.writeUInt32LE(at, 16);
  return Buffer.concat([...parts, ...directory, end]);
}

describe("samples", () => {
  it("are rows of a .npy array", async () => {
    const path = join(folder, "x.npy");
    writeNpy(path, new Tensor("float32", [1, 2, 3, 4], [2, 2]));
    const data = openData(path, [x]);
    assert.equal(data.entries.length, 2);
    assert.deepEqual((await data.load(1)).feeds["x"], new Tensor("float32", [3, 4], [1, 2]));
    assert.throws(() => openData(path, [x, { ...x, name: "y" }]), { code: "option-invalid", message: /one array cannot feed 2 inputs/ });
  });

  it("are rows of a .npz archive, vectors being columns", async () => {
    const [values, labels] = [join(folder, "v.npy"), join(folder, "l.npy")];
    writeNpy(values, new Tensor("float32", [1, 2, 3, 4], [2, 2]));
    writeNpy(labels, new Tensor("int64", [7, 9], [2]));
    const path = join(folder, "d.npz");
    writeFileSync(path, zip({ "x.npy": readFileSync(values), "label.npy": readFileSync(labels) }));
    const sample = await openData(path, [x]).load(1);
    assert.deepEqual(sample.columns, { label: 9 });
    assert.deepEqual(sample.feeds["x"], new Tensor("float32", [3, 4], [1, 2]));
    writeFileSync(path, "no archive");
    assert.throws(() => openData(path, [x]), { code: "file-io", message: /no ZIP directory/ });
  });

  it("are JSON lines", async () => {
    const path = join(folder, "d.jsonl");
    writeFileSync(path, '{"x": [1, 2], "label": 3, "kind": "night"}\n{"x": [[4, 5]]}\n');
    const data = openData(path, [x]);
    assert.deepEqual(data.entries[0]?.columns, { label: 3, kind: "night" });
    assert.deepEqual((await data.load(0)).feeds["x"], new Tensor("float32", [1, 2], [1, 2]));
    assert.deepEqual((await data.load(1)).feeds["x"], new Tensor("float32", [4, 5], [1, 2]));
    writeFileSync(path, '{"x": [[1, 2], [3]]}\n');
    await assert.rejects(openData(path, [x]).load(0), { code: "input-invalid", message: /no rectangular list/ });
    writeFileSync(path, "[1]\n");
    assert.throws(() => openData(path, [x]), { code: "input-invalid", message: /not a JSON object/ });
  });

  it("are pictures of a folder, with columns from labels.tsv and the folders' names", async () => {
    const pictures = join(folder, "pictures");
    mkdirSync(join(pictures, "night"), { recursive: true });
    writeFileSync(join(pictures, "night", "a.ppm"), Buffer.concat([Buffer.from("P6 2 2 255\n"), Buffer.from([255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30])]));
    writeFileSync(join(pictures, "labels.tsv"), "file\tlabel\nnight/a.ppm\t4\n");
    const image: InputDescription = { name: "image", type: "float32", dims: ["n", 3, 2, 2] };
    const sample = await openData(pictures, [image], "scale=2,mean=1/2/3,order=bgr").load(0);
    assert.deepEqual(sample.columns, { folder: "night", label: 4 });
    assert.deepEqual(Array.from(sample.feeds["image"]!.data as Float32Array), [-1, -1, 509, 59, -2, 508, -2, 38, 507, -3, -3, 17]);
    assert.throws(() => openData(pictures, [image], "sharpen=1"), { code: "option-invalid", message: /resize, crop/ });
  });

  it("are cut from the centre and resized as stated", () => {
    const grey = { width: 4, height: 4, rgb: Uint8Array.from({ length: 48 }, (_, i) => Math.floor(i / 3)) };
    assert.deepEqual(Array.from(preprocess(grey, parsePreprocessing(""), [2, 2]).data as Float32Array).slice(0, 4), [5, 6, 9, 10]);
    assert.deepEqual(Array.from(preprocess(grey, parsePreprocessing("resize=2"), [2, 2]).data as Float32Array).slice(0, 4), [2.5, 4.5, 10.5, 12.5]);
    assert.throws(() => preprocess(grey, parsePreprocessing(""), [5, 5]), { code: "input-invalid", message: /smaller than the 5x5/ });
  });

  it("are refused with a wrong shape, type or NaN, by name", () => {
    const sample = (tensor: Tensor): Parameters<typeof checkSample>[0] => ({ id: "7", columns: {}, feeds: { x: tensor } });
    assert.throws(() => checkSample(sample(new Tensor("float32", [1, 2, 3], [1, 3])), [x]), { code: "input-invalid", message: /Sample "7": input "x" has shape \[1, 3\]; expected \[n, 2\]/ });
    assert.throws(() => checkSample(sample(new Tensor("int64", [1, 2], [1, 2])), [x]), { code: "input-invalid", message: /expected float32/ });
    assert.throws(() => checkSample(sample(new Tensor("float32", [1, Number.NaN], [1, 2])), [x]), { code: "input-invalid", message: /NaN at element 1/ });
    assert.doesNotThrow(() => checkSample(sample(new Tensor("float32", [1, 2], [1, 2])), [x]));
  });

  it("are shared equally among strata, as far as there are any", () => {
    const entries = Array.from({ length: 12 }, (_, i) => ({ id: `${i}`, columns: { kind: i < 9 ? "day" : "night" } }));
    const chosen = chooseEntries(entries, 6, "kind");
    assert.equal(chosen.filter((i) => i >= 9).length, 3);
    assert.equal(chooseEntries(entries, 10, "kind").length, 10);
    assert.deepEqual(chooseEntries(entries, 3), [0, 4, 8]);
    assert.throws(() => groupByStratum(entries, "weather"), { code: "option-invalid", message: /no column "weather"; it has kind/ });
  });
});
